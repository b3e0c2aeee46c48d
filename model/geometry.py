"""From pixels to the encoder's cells and back.

A frame is shown to the encoder at a working size (its short side at most `working_size`, never enlarged), padded on the
right and at the bottom by replication to whole cells, never squeezed. Labels take the same way down by area averaging,
and the way back is one bilinear interpolation from cells straight to the frame's own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from model.encoder import MIN_SIDE, STRIDE
from model.presets import Preset

_Number = TypeVar("_Number", float, Tensor)


@dataclass(frozen=True)
class Grid:
    """The sizes that belong to one video at one working size.

    Attributes:
        width, height: of the frames, in pixels.
        working_width, working_height: as the encoder sees them, before padding.
    """

    width: int
    height: int
    working_width: int
    working_height: int

    @classmethod
    def fit(cls, width: int, height: int, working_size: int, *, enlarge: bool = False) -> Grid:
        """The grid of a `width` x `height` video whose short side is brought to at most `working_size` pixels.

        Args:
            enlarge: whether a smaller one is brought to that, too.
        """
        scale = working_size / min(width, height)
        scale = scale if enlarge else min(1.0, scale)
        return cls(width, height, max(1, round(width * scale)), max(1, round(height * scale)))

    @classmethod
    def of(cls, preset: Preset, width: int, height: int, working_size: int | None = None) -> Grid:
        """The grid of a video by a preset, `working_size` in place of the preset's own where it is given."""
        return cls.fit(width, height, working_size or preset.working_size, enlarge=preset.enlarge)

    @property
    def columns(self) -> int:
        """Cells from left to right, padding included."""
        return _padded(self.working_width) // STRIDE

    @property
    def rows(self) -> int:
        """Cells from top to bottom, padding included."""
        return _padded(self.working_height) // STRIDE

    def image(self, image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(H, W, 3) uint8 to (1, 3, 8 x rows, 8 x columns) in 0..255, resized and padded."""
        x = image.permute(2, 0, 1)[None]  # a channels-last view, which is also what the convolutions want
        if (self.working_height, self.working_width) != (self.height, self.width):
            x = x if x.device.type == "cpu" else x.float()  # resizing of bytes is for the CPU only
            x = F.interpolate(x, (self.working_height, self.working_width), mode="bilinear", antialias=True)
        return self._pad(x.to(dtype))

    def cells(self, maps: Tensor) -> Tensor:
        """(C, H, W) values per pixel to (C, rows, columns) float32: area averaging, replicated padding."""
        x = maps[None].float()
        if (self.working_height, self.working_width) != (self.height, self.width):
            x = F.interpolate(x, (self.working_height, self.working_width), mode="area")
        return F.avg_pool2d(self._pad(x), STRIDE)[0]

    def pixels(self, cells: Tensor) -> Tensor:
        """(rows, columns) to (H, W) float32: bilinear between cell centres, constant beyond the outermost."""
        return self._vertical @ cells @ self._horizontal.T

    def support(self, cells: Tensor) -> tuple[slice, slice, Tensor] | None:
        """As `pixels`, only where it can be above zero: (pixel rows, pixel columns, values), or None where nowhere."""
        rows, columns = cells.any(dim=1).nonzero(), cells.any(dim=0).nonzero()
        if not len(rows):
            return None
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        y, x = _reach(self._vertical, top, bottom), _reach(self._horizontal, left, right)
        if y is None or x is None:
            return None  # only in padding that no pixel's interpolation looks at (frames of up to four pixels a side)
        down, across = self._vertical[y, top:bottom], self._horizontal[x, left:right]
        return y, x, down @ cells[top:bottom, left:right] @ across.T

    def to_cell(self, x: float, y: float) -> tuple[float, float]:
        """Pixel coordinates (centre of the top-left pixel 0.5, 0.5) in cells, where cell i's centre is at i."""
        return (
            x * self.working_width / self.width / STRIDE - 0.5,
            y * self.working_height / self.height / STRIDE - 0.5,
        )

    def to_pixel(self, column: _Number, row: _Number) -> tuple[_Number, _Number]:
        """The way back from `to_cell`, of one point or of tensors of them."""
        return (
            (column + 0.5) * STRIDE * self.width / self.working_width,
            (row + 0.5) * STRIDE * self.height / self.working_height,
        )

    def centres(self) -> tuple[Tensor, Tensor]:
        """The cells' centres in pixels of the frame: (columns,) x and (rows,) y."""
        return self.to_pixel(torch.arange(float(self.columns)), torch.arange(float(self.rows)))

    @cached_property
    def _vertical(self) -> Tensor:
        return _interpolation(self.height, self.rows, self.working_height / self.height / STRIDE)

    @cached_property
    def _horizontal(self) -> Tensor:
        return _interpolation(self.width, self.columns, self.working_width / self.width / STRIDE)

    def _pad(self, x: Tensor) -> Tensor:
        right = self.columns * STRIDE - x.shape[-1]
        bottom = self.rows * STRIDE - x.shape[-2]
        return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def _padded(side: int) -> int:
    return max(MIN_SIDE, -(-side // STRIDE) * STRIDE)


def _interpolation(pixels: int, cells: int, cells_per_pixel: float) -> Tensor:
    """(pixels, cells) weights of linear interpolation between cell centres."""
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * cells_per_pixel - 0.5
    position = position.clamp(0, cells - 1)
    low = position.floor().long().clamp(max=cells - 2)
    fraction = (position - low).float()
    weights = torch.zeros(pixels, cells)
    index = torch.arange(pixels)
    weights[index, low] = 1 - fraction
    weights[index, low + 1] += fraction
    return weights


def _reach(weights: Tensor, first: int, last: int) -> slice | None:
    """The pixels that any of the cells first..last (exclusive) contributes to, None where there are none."""
    touched = weights[:, first:last].any(dim=1).nonzero()
    return None if not len(touched) else slice(int(touched[0]), int(touched[-1]) + 1)
