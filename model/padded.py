"""Features of frames with nothing around them, so that a window may lie anywhere: what two memories are laid out as."""

from __future__ import annotations

from typing import NotRequired, TypedDict, Unpack

import torch
from torch import Tensor

from model.errors import InputError


class WindowSettings(TypedDict):
    """How a memory is matched, and where it is.

    Attributes:
        radius: of a window, Euclidean, inclusive, in cells.
        top_k: matches a cell, over all frames together.
        temperature: the softmax's divisor.
        tile: side of a tile, in cells (8).
        dtype: of the features (float32).
    """

    radius: int
    top_k: int
    temperature: float
    tile: NotRequired[int]
    dtype: NotRequired[torch.dtype]


class PaddedMemory:
    """Features of a bounded number of frames, each with a margin as wide as a window.

    Args:
        rows, columns, channels: of a frame's features.
        slots: how many frames it holds.
        device: where they are.
        settings: see `WindowSettings`.

    Raises:
        InputError: sizes that make no sense.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        channels: int,
        slots: int,
        *,
        device: torch.device | str = "cpu",
        **settings: Unpack[WindowSettings],
    ) -> None:
        self.rows, self.columns, self.slots = rows, columns, slots
        self.radius, self.top_k, self.temperature = settings["radius"], settings["top_k"], settings["temperature"]
        self.tile = tile = settings.get("tile", 8)
        if min(rows, columns, channels, slots, self.top_k, tile) < 1 or self.radius < 0 or self.temperature <= 0:
            raise InputError("A memory needs positive sizes, a radius of 0 or more and a temperature above 0.")
        self.tile_rows, self.tile_columns = -(-rows // tile), -(-columns // tile)
        self._span = tile + 2 * self.radius
        # A window's width of nothing all around: a window beyond the frame is then still a part of this.
        self._padded = (self.tile_rows * tile + 2 * self._span, self.tile_columns * tile + 2 * self._span)
        dtype, self._device = settings.get("dtype", torch.float32), torch.device(device)
        self._keys = torch.zeros(slots, *self._padded, channels, dtype=dtype, device=self._device)
        self._valid = torch.zeros(slots, *self._padded, dtype=torch.bool, device=self._device)
        self._written = [False] * slots

    def write(self, slot: int, features: Tensor, valid: Tensor | None = None) -> None:
        """Puts a frame into a slot, in place of what was there.

        Args:
            features: (rows, columns, C), L2-normalised.
            valid: (rows, columns) bool, False where the frame's cells may not be matched (void).
        """
        inside = (slot, slice(self._span, self._span + self.rows), slice(self._span, self._span + self.columns))
        self._keys[inside] = features
        if valid is None:
            self._valid[inside].fill_(True)
        else:
            self._valid[inside].copy_(valid, non_blocking=True)
        self._written[slot] = True

    def read(self, slot: int) -> Tensor:
        """(rows, columns, C) features in a slot."""
        s = self._span
        return self._keys[slot, s : s + self.rows, s : s + self.columns]

    @property
    def _used(self) -> list[int]:
        """The slots that hold a frame."""
        return [slot for slot, written in enumerate(self._written) if written]
