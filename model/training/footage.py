"""Footage for training: every frame in memory once, as bytes, and crops of them by the batch on any device.

Frames differ in size, so they lie one behind the other in one flat buffer, and on a GPU a batch of crops is four
gathers from it: no frame is padded, and no batch is put together by a loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.training.cells import centres, normalised
from model.training.crops import apply, crop


@dataclass(frozen=True)
class Run:
    """Consecutive frames of one shot; a photograph is a run of one.

    Attributes:
        name: the file or pack member it came from, with `#2` behind it for a second shot, `#3` for a third.
        source: the part of the file's name before `__`, else the name of the folder or pack that it lay in.
        first: index of its first frame in the footage.
        count: how many frames it has.
    """

    name: str
    source: str
    first: int
    count: int

    @property
    def file(self) -> str:
        """The name without the number of the shot."""
        stem, mark, number = self.name.rpartition("#")
        return stem if mark and number.isdecimal() else self.name


@dataclass(frozen=True, eq=False)
class Footage:
    """All frames of some clips and photographs.

    Attributes:
        runs: in the order of their frames, which they cover without gaps.
        pixels: (P, 3) uint8, sRGB: every frame row by row.
        offsets: (F,) int64, the row of `pixels` at which each frame starts.
        sizes: (F, 2) int64, height and width of each frame in pixels.
        times_ms: (F,) float32, presentation time of each frame within its clip.
    """

    runs: tuple[Run, ...]
    pixels: Tensor
    offsets: Tensor
    sizes: Tensor
    times_ms: Tensor

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.offsets)

    def to(self, device: torch.device | str) -> Footage:
        """The same footage with its tensors on a device; the buffer is shared where it is there already."""
        return replace(
            self,
            pixels=self.pixels.to(device),
            offsets=self.offsets.to(device),
            sizes=self.sizes.to(device),
            times_ms=self.times_ms.to(device),
        )

    def frame(self, index: int) -> Tensor:
        """One whole frame: (height, width, 3) uint8, a view into the buffer."""
        start, (height, width) = int(self.offsets[index]), self.sizes[index].tolist()
        return self.pixels[start : start + height * width].view(height, width, 3)

    def cut(self, frames: Tensor, theta: Tensor, size: int) -> Tensor:
        """Crops of frames of whatever sizes: what `crops.crop` gives for each frame by itself.

        Args:
            frames: (B,) int64 indices of frames, on the footage's device.
            theta: (B, 2, 3) maps as in `model.training.crops`, there too.
            size: side of the crops in pixels.

        Returns:
            (B, 3, size, size) float32, sRGB in 0..1, bilinear; beyond the frame its reflection.
        """
        if self.pixels.device.type == "cpu":
            # Here a loop costs nothing, and gathers of three bytes cost ten times what sampling one frame does.
            each = [self.frame(at).permute(2, 0, 1)[None] for at in frames.tolist()]
            crops = [crop(frame, theta[k : k + 1], size) for k, frame in enumerate(each)]
            return torch.cat(crops).div_(255) if crops else theta.new_zeros(0, 3, size, size)
        return self._gather(frames, theta, size)

    def _gather(self, frames: Tensor, theta: Tensor, size: int) -> Tensor:
        height, width = self.sizes[frames].unbind(dim=1)
        points = apply(theta.float(), normalised(centres((size, size), device=theta.device), (size, size)))
        left, right, across = _neighbours(points[..., 0], width[:, None])
        top, bottom, down = _neighbours(points[..., 1], height[:, None])
        start, width = self.offsets[frames][:, None], width[:, None]
        top, bottom = start + top * width, start + bottom * width
        upper = torch.lerp(self._rows(top + left), self._rows(top + right), across.reshape(-1, 1))
        lower = torch.lerp(self._rows(bottom + left), self._rows(bottom + right), across.reshape(-1, 1))
        crops = torch.lerp(upper, lower, down.reshape(-1, 1)).div_(255)
        return crops.view(-1, size, size, 3).permute(0, 3, 1, 2).contiguous()

    def whole(self, frames: Tensor, size: int) -> Tensor:
        """Whole frames in squares: `cut` by the maps of `fit`; (B, 3, size, size)."""
        return self.cut(frames, fit(self.sizes[frames], size), size)

    def split(self, held_out: float, seed: int) -> tuple[Footage, Footage]:
        """Two parts that share the buffer: what is trained on, and about a share `held_out` of the files.

        All runs of one file go to one part. Clips and photographs are divided by themselves; where there is only one
        of a kind, it is trained on, so that the second part may be empty.
        """
        files: dict[str, list[int]] = {}
        for at, run in enumerate(self.runs):
            files.setdefault(run.file, []).append(at)
        moving = {name for name, runs in files.items() if any(self.runs[at].count > 1 for at in runs)}
        generator = torch.Generator().manual_seed(seed)
        held: set[int] = set()
        for names in ([n for n in files if n in moving], [n for n in files if n not in moving]):
            count = min(round(held_out * len(names)) or int(held_out > 0), max(0, len(names) - 1))
            for at in torch.randperm(len(names), generator=generator)[:count].tolist():
                held.update(files[names[at]])
        order = range(len(self.runs))
        return self._select(at for at in order if at not in held), self._select(at for at in order if at in held)

    def _select(self, runs: Iterable[int]) -> Footage:
        chosen = [self.runs[at] for at in runs]
        spans = [torch.arange(run.first, run.first + run.count) for run in chosen]
        frames = torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)
        frames = frames.to(self.offsets.device)
        renumbered, first = [], 0
        for run in chosen:
            renumbered.append(replace(run, first=first))
            first += run.count
        return Footage(tuple(renumbered), self.pixels, self.offsets[frames], self.sizes[frames], self.times_ms[frames])

    def _rows(self, indices: Tensor) -> Tensor:
        return self.pixels.index_select(0, indices.reshape(-1)).float()


def fit(sizes: Tensor, size: int) -> Tensor:
    """Maps of whole frames into squares: the long side fills the square, the short side is centred.

    Args:
        sizes: (B, 2) integers, height and width of the frames.
        size: side of the square in pixels. The map goes from the square's normalised coordinates, so that it is the
            same for any.

    Returns:
        (B, 2, 3) float32, as in `model.training.crops`.
    """
    half = sizes.flip(1).float() / 2
    reach = half.amax(dim=1)
    none = torch.zeros_like(reach)
    rows = [torch.stack([reach, none, half[:, 0]], dim=1), torch.stack([none, reach, half[:, 1]], dim=1)]
    return torch.stack(rows, dim=1)


def _neighbours(places: Tensor, extent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around each place along one axis, and the second one's share.

    Places are reflected at the outer edges of the first and the last pixel; within half a pixel of an edge, the pixel
    there counts alone.
    """
    places = torch.remainder(places, 2 * extent)
    places = torch.minimum(places, 2 * extent - places) - 0.5
    places = places.clamp(min=0).minimum(extent - 1)
    first = places.floor()
    share = places - first
    low = first.long()
    return low, torch.minimum(low + 1, extent - 1), share
