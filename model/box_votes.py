"""Boxes from localisation: every cell of an object says where the sides of its box are, and the median of all holds.

UVC (Li et al. 2019) takes an object's box from the affinity: its centre from the mean of the coordinates that its cells
were matched to, its extent from their mean distance. Here the cells of a given box carry how far away its sides are, as
they carry the object's share, and vote where they arrive (the generalised Hough transform, Ballard 1981). So neither
background that was in the box and stayed behind nor a part that is hidden moves it.

Votes keep the size that was given, and an object that comes nearer grows. The box around what arrived of the rectangle
follows that, and is what strays and erosion spoil. The mean of both is the cautious choice (docs/accuracy.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.channels import SIDES, Channel, ChannelSet
from model.labels.types import Box

_LEAST = 0.1
"""The share of a cell below which an object is nowhere."""


def located_box(channels: ChannelSet, identity: int, values: Tensor, around: Box | None) -> Box | None:
    """The mean of the box that is voted for and the one `around` what arrived of the region, or the one that there is.

    Args:
        channels, identity, values: see `voted_box`.
    """
    voted = voted_box(channels, identity, values)
    if voted is None or around is None:
        return voted or around
    x, y, width, height = (round((a + b) / 2, 2) for a, b in zip(voted, around, strict=True))
    return x, y, width, height


def voted_box(channels: ChannelSet, identity: int, values: Tensor) -> Box | None:
    """The box of an object that carries the sides of its boxes; None where the object is nowhere.

    Args:
        channels: with the object in `extents`.
        identity: the object's.
        values: (C, rows, columns) soft maps on the CPU.

    Returns:
        What lies on the frame of (x, y, width, height) in pixels, or None where nothing does.
    """
    share = values[channels.index[Channel(identity)]]
    highest = float(share.max())
    if highest < _LEAST:
        return None
    rows, columns = (share >= min(0.3, highest / 2)).nonzero(as_tuple=True)
    weights = share[rows, columns]
    across, down = channels.grid.centres()
    x, y = across[columns], down[rows]
    width, height = channels.extents[identity]
    maps = (values[channels.index[Channel(identity, side=side)]] for side in SIDES)
    to_left, to_top, to_right, to_bottom = (apart[rows, columns] / weights for apart in maps)
    votes = (x - to_left * width, y - to_top * height, x + to_right * width, y + to_bottom * height)
    limits = (channels.grid.width, channels.grid.height) * 2
    left, top, right, bottom = (
        min(max(_weighted_median(side, weights), 0.0), float(limit)) for side, limit in zip(votes, limits, strict=True)
    )
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _weighted_median(values: Tensor, weights: Tensor) -> float:
    ordered, order = values.sort()
    reached = weights[order].double().cumsum(0)
    return float(ordered[torch.searchsorted(reached, reached[-1:] / 2)[0]])
