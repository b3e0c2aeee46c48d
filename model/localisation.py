"""Localisation at test time: where each object is, so that its pixels are matched to where it was.

UVC (Li et al. 2019) localises a region by the affinity before it matches the pixels in it. Here an object's place on a
frame is the mean of the cells that carry most of it; memory is then looked at through windows that moved with the
object. Each object is also searched for in the whole frame by its anchor's cells, each of which must be found again on
the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.channels import ChannelSet

Places = NDArray[np.float32]
"""(O, 6): an object's mean row and column, then its first row, last row, first column and last column, all in cells;
NaN for an object that is not on the frame."""

_SEEN = 0.3
"""The least share of a cell that makes an object seen."""
_SAMPLES = 64
_RETURN = 2.0
_TOGETHER = 4.0


@dataclass(frozen=True)
class Sighting:
    """An object found again.

    Attributes:
        down, right: how far it moved since the frame it was searched with, in cells.
        agreement: 0..1, the share of the searched cells that say so.
    """

    down: float
    right: float
    agreement: float


class Localiser:
    """Places of a job's objects from soft maps.

    Args:
        channels: what is carried. An object with a region is where its region is; one with keypoints alone is where
            those are.

    Attributes:
        members: for each object, the channels that say where it is.
    """

    def __init__(self, channels: ChannelSet) -> None:
        self.members: list[list[int]] = []
        regions = {c.object for c in channels.channels if c.keypoint is None}
        for identity in dict.fromkeys(c.object for c in channels.channels):
            self.members.append(
                [
                    number
                    for number, channel in enumerate(channels.channels)
                    if channel.object == identity and (channel.keypoint is None or identity not in regions)
                ]
            )
        self._points = torch.tensor([channels.channels[members[0]].keypoint is not None for members in self.members])

    def __len__(self) -> int:
        return len(self.members)

    def shares(self, values: Tensor) -> Tensor:
        """(C, rows, columns) soft maps to one map an object, (O, rows, columns) in 0..1.

        A keypoint's map counts relative to its highest cell: its mass is spread over a cell or two.
        """
        maps = []
        for members, point in zip(self.members, self._points.tolist(), strict=True):
            own = values[members]
            if point:
                own = own / own.amax(dim=(1, 2), keepdim=True).clamp(min=0.1)
            maps.append(own.amax(dim=0))
        return torch.stack(maps)

    def places(self, values: Tensor) -> Places:
        """Where each object is, from (C, rows, columns) soft maps."""
        shares = self.shares(values)
        highest = shares.amax(dim=(1, 2))
        cells = (shares > highest[:, None, None] / 2) & (highest > _SEEN)[:, None, None]
        sides = [_along(cells.sum(dim=axis)) for axis in (2, 1)]
        (row, top, bottom), (column, left, right) = sides
        places = torch.stack([row, column, top, bottom, left, right], dim=1).float()
        places[~cells.any(dim=(1, 2))] = float("nan")
        found: Places = places.cpu().numpy()
        return found


def nearest(places: Places, tile: int, rows: int, columns: int) -> NDArray[np.int64]:
    """(rows, columns): which object each tile of cells belongs to: the one whose box is nearest to the tile's middle.

    Of several it is the one with the smallest box, so that a small object before a large one keeps its own motion; an
    object that is not there has no tiles, and where none is, 0.
    """
    y = (np.arange(rows) + 0.5) * tile - 0.5
    x = (np.arange(columns) + 0.5) * tile - 0.5
    top, bottom, left, right = (places[:, side, None] for side in range(2, 6))
    down = np.maximum(np.maximum(top - y, y - bottom), 0)
    across = np.maximum(np.maximum(left - x, x - right), 0)
    distance = np.hypot(down[:, :, None], across[:, None, :])
    # Far less than a cell, for the largest of boxes.
    distance += 1e-6 * ((bottom - top + 1) * (right - left + 1))[:, :, None]
    chosen: NDArray[np.int64] = np.where(np.isnan(distance), np.inf, distance).argmin(axis=0)
    return chosen


def search(query: Tensor, reference: Tensor, share: Tensor) -> Sighting | None:
    """Looks for an object in a whole frame.

    A cell of the object counts when its best match in the frame is, of all cells of the reference, best matched by one
    beside it; those that moved alike with their median agree.

    Args:
        query: (rows, columns, C) L2-normalised features of the frame.
        reference: the same of a frame that shows the object.
        share: (rows, columns) of the object there.
    """
    _, columns, channels = query.shape
    cells = (share.flatten() > share.max() / 2).nonzero()[:, 0].to(query.device)
    if not len(cells) or float(share.max()) <= _SEEN:
        return None
    cells = cells[torch.linspace(0, len(cells) - 1, min(_SAMPLES, len(cells))).long().to(cells.device)]
    flat, known = query.reshape(-1, channels), reference.reshape(-1, channels)
    there = (known[cells] @ flat.T).argmax(dim=1)
    back = (flat[there] @ known.T).argmax(dim=1)
    apart = torch.hypot((back // columns - cells // columns).float(), (back % columns - cells % columns).float())
    returned = apart <= _RETURN
    if not bool(returned.any()):
        return None
    moved = torch.stack([there // columns - cells // columns, there % columns - cells % columns], dim=1).float()
    middle = moved[returned].median(dim=0).values
    alike = returned & ((moved - middle).norm(dim=1) <= _TOGETHER)
    down, right = middle.tolist()
    return Sighting(down, right, float(alike.float().mean()))


def _along(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(O, n) cells of each object in every row to its (mean, first, last) row, each (O,)."""
    sums = counts.cumsum(dim=1)
    middle = (counts * torch.arange(counts.shape[1], device=counts.device)).sum(dim=1) / sums[:, -1].clamp(min=1)
    first = (sums == 0).sum(dim=1)
    last = (sums < sums[:, -1:]).sum(dim=1)
    return middle, first, last
