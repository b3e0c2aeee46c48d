"""Localisation at test time: where each object is, so that its pixels are matched to where it was.

UVC (Li et al. 2019) localises a region by the affinity before it matches the pixels in it. Here an object's place on a
frame is the mean of the cells that carry most of it; memory is then looked at through windows that moved with the
object. Each object is also searched for in the whole frame by its anchor's cells, each of which must be found again on
the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.channels import ChannelSet
from model.nearby import place_of_highest
from model.sampling import evenly

Places = Tensor
"""(O, 6) float32: an object's mean row and column, then its first row, last row, first column and last column, all in
cells; NaN for an object that is not on the frame."""

_SEEN = 0.3
"""The least share of a cell that makes an object seen."""
_SAMPLES = 64
_AT_A_TIME = 16 * _SAMPLES
"""How many cells are looked for at a time: with hundreds of objects all at once would take gigabytes."""
_RETURN = 2.0
_TOGETHER = 4.0


@dataclass(frozen=True)
class Sightings:
    """Objects found again.

    Attributes:
        moved: (O, 2) how far down and right each moved since the frame it was searched with, in cells; means nothing
            where nothing agrees.
        agreement: (O,) 0..1, the share of the searched cells that say so.
    """

    moved: Tensor
    agreement: Tensor


class Localiser:
    """Places of a job's objects from soft maps.

    Args:
        channels: what is carried. An object with a region is where its region is; one with keypoints alone is where
            those are.
        device: where maps are.

    Attributes:
        members: for each object, the channels that say where it is.
    """

    def __init__(self, channels: ChannelSet, device: torch.device | None = None) -> None:
        self.members: list[list[int]] = []
        regions = {c.object for c in channels.channels if c.region}
        for identity in dict.fromkeys(c.object for c in channels.channels):
            self.members.append(
                [
                    number
                    for number, channel in enumerate(channels.channels)
                    if channel.object == identity
                    and (channel.region or (channel.keypoint is not None and identity not in regions))
                ]
            )
        numbers = [number for members in self.members for number in members]
        self._channels = torch.tensor(numbers, dtype=torch.int64, device=device)
        owners = [owner for owner, members in enumerate(self.members) for _ in members]
        self._owners = torch.tensor(owners, dtype=torch.int64, device=device)
        points = [channels.channels[number].keypoint is not None for number in numbers]
        self._points = torch.tensor(points, device=device)[:, None, None] if any(points) else None

    def __len__(self) -> int:
        return len(self.members)

    def shares(self, values: Tensor) -> Tensor:
        """(C, rows, columns) soft maps to one map an object, (O, rows, columns) in 0..1.

        A keypoint's map counts relative to its highest cell: its mass is spread over a cell or two.
        """
        shares = values.index_select(0, self._channels)
        if self._points is not None:
            relative = shares / shares.amax(dim=(1, 2), keepdim=True).clamp(min=0.1)
            shares = torch.where(self._points, relative, shares)
        if len(shares) == len(self):
            return shares
        owners = self._owners[:, None, None].expand_as(shares)
        return shares.new_zeros(len(self), *shares.shape[1:]).scatter_reduce(0, owners, shares, "amax")

    def places(self, values: Tensor) -> Places:
        """Where each object is, from (C, rows, columns) soft maps."""
        shares = self.shares(values)
        highest = shares.amax(dim=(1, 2))
        cells = (shares > highest[:, None, None] / 2) & (highest > _SEEN)[:, None, None]
        sides = [_along(cells.sum(dim=axis)) for axis in (2, 1)]
        (row, top, bottom), (column, left, right) = sides
        places = torch.stack([row, column, top, bottom, left, right], dim=1).float()
        return torch.where(cells.any(dim=(1, 2))[:, None], places, torch.nan)


def nearest(places: Places, tile: int, rows: int, columns: int) -> Tensor:
    """(rows, columns) int64: which object each tile of cells belongs to: the one whose box is nearest to its middle.

    Of several it is the one with the smallest box, so that a small object before a large one keeps its own motion; an
    object that is not there has no tiles, and where none is, 0.
    """
    y = (torch.arange(rows, device=places.device, dtype=torch.float64) + 0.5) * tile - 0.5
    x = (torch.arange(columns, device=places.device, dtype=torch.float64) + 0.5) * tile - 0.5
    top, bottom, left, right = places[:, 2:, None].double().unbind(1)
    down = torch.maximum(top - y, y - bottom).clamp(min=0)
    across = torch.maximum(left - x, x - right).clamp(min=0)
    distance = torch.hypot(down[:, :, None], across[:, None, :])
    # Far less than a cell, for the largest of boxes.
    distance = distance + 1e-6 * ((bottom - top + 1) * (right - left + 1))[:, :, None]
    return distance.nan_to_num(nan=torch.inf).argmin(dim=0)


def search(query: Tensor, reference: Tensor, shares: Tensor, *, batched: bool = False) -> Sightings:
    """Looks for objects in a whole frame.

    A cell of an object counts when its best match in the frame is, of all cells of the reference, best matched by one
    beside it; those that moved alike with their median agree.

    Args:
        query: (rows, columns, C) L2-normalised features of the frame.
        reference: the same of a frame that shows the objects.
        shares: (O, rows, columns) of the objects there.
        batched: whether nothing may be read back, as on a GPU.
    """
    columns, maps = query.shape[1], shares.flatten(1)
    highest = maps.amax(dim=1, keepdim=True)
    cells, counts = evenly((maps > highest / 2) & (highest > _SEEN), _SAMPLES)
    flat, known = query.flatten(0, 1), reference.flatten(0, 1)
    there = _best_matched(known[cells.flatten()], flat, batched)
    back = _best_matched(flat[there], known, batched).view_as(cells)
    there = there.view_as(cells)
    apart = torch.hypot((back // columns - cells // columns).float(), (back % columns - cells % columns).float())
    returned = counts & (apart <= _RETURN)
    moved = torch.stack([there // columns - cells // columns, there % columns - cells % columns], dim=2).float()
    middle = _median(moved, returned)
    alike = returned & ((moved - middle[:, None]).norm(dim=2) <= _TOGETHER)
    return Sightings(middle, alike.sum(dim=1) / counts.sum(dim=1).clamp(min=1))


def _best_matched(cells: Tensor, frame: Tensor, batched: bool) -> Tensor:
    """(n,) which of a frame's cells is most similar to each of n, a bounded number of similarities at a time."""
    scores = (part @ frame.T for part in cells.split(_AT_A_TIME))
    parts = [each.argmax(dim=1) if batched else place_of_highest(each) for each in scores]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _median(values: Tensor, counts: Tensor) -> Tensor:
    """(O, 2) the lower median of those of (O, n, 2) that count; infinite where none does."""
    ordered = values.masked_fill(~counts[:, :, None], torch.inf).sort(dim=1).values
    middle = (counts.sum(dim=1) - 1).clamp(min=0) // 2
    return ordered.gather(1, middle[:, None, None].expand(-1, 1, values.shape[2]))[:, 0]


def _along(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(O, n) cells of each object in every row to its (mean, first, last) row, each (O,)."""
    sums = counts.cumsum(dim=1)
    middle = (counts * torch.arange(counts.shape[1], device=counts.device)).sum(dim=1) / sums[:, -1].clamp(min=1)
    first = (sums == 0).sum(dim=1)
    last = (sums < sums[:, -1:]).sum(dim=1)
    return middle, first, last
