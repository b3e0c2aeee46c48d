"""The palindrome walk: from every cell of a frame through later frames and back, to arrive where it started.

CRW (Jabri et al. 2020). With transitions P_ab = softmax over b's cells of the cosines over a temperature,

    walk = P_01 P_12 ... P_(k-1)k  P_k(k-1) ... P_21 P_10
    loss = mean_i -log walk(i, i)

for the walk to the last frame and, as CRW has it, for the shorter ones to each frame before it. Edge dropout makes a
walk find other ways than the one best match.

A fully convolutional encoder can solve this by telling where in the frame a cell is, with no regard to what it shows.
With `end` the way back arrives in another crop of the first frame, under a known map: there the place is of no use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.training.cells import corners, divergence, full_precision, mean_where
from model.training.transport import affinity, drop_edges

_LEAST = 1e-20  # keeps the logarithm finite where dropout cut every way back


def palindrome_loss(
    frames: Sequence[Tensor],
    *,
    end: Tensor | None = None,
    locations: Tensor | None = None,
    valid: Tensor | None = None,
    starts: Tensor | None = None,
    temperature: float = 0.07,
    dropout: float = 0.1,
    every_length: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Scalar: the mean over starting cells and over walks.

    Args:
        frames: two or more of (B, C, h, w) features in temporal order, sizes may differ.
        end: (B, C, h, w) features of another crop of the first frame, where walks arrive. Default: the first frame.
        locations: (B, N, 2), with `end`: where each cell of the first frame lies in it (`crops.correspondence`).
        valid: (B, N) bool, starting cells that count; with `end`, those that lie in it.
        starts: (n,) int64 flat indices of the cells of the first frame where walks start; default all. The products of
            matrices cost as much as there are starts.
        temperature: CRW's is 0.05.
        dropout: probability that an edge is cut, drawn anew for each transition and direction.
        every_length: also the walks that turn before the last frame, weighted alike.

    Raises:
        ValueError: fewer than two frames, or `end` without `locations`.
    """
    if len(frames) < 2 or (end is not None and locations is None):
        raise ValueError("A palindrome needs two frames at least, and an end of its own needs locations.")

    if starts is None:
        starts = torch.arange(frames[0].shape[2] * frames[0].shape[3], device=frames[0].device)
    locations = None if locations is None else locations[:, starts]
    valid = None if valid is None else valid[:, starts]
    there: Tensor | None = None  # (B, n, Nk)
    back: Tensor | None = None  # (B, Nk, N of the end)
    losses = []
    for k in range(1, len(frames)):
        scores = affinity(frames[k - 1], frames[k], temperature)
        onward = torch.softmax(drop_edges(scores, dropout, generator), dim=2)
        home = scores.mT if k > 1 or end is None else affinity(frames[k], end, temperature)
        homeward = torch.softmax(drop_edges(home, dropout, generator), dim=2)
        with full_precision(onward):
            there = onward[:, starts] if there is None else there @ onward
            back = homeward if back is None else homeward @ back
            if every_length or k == len(frames) - 1:
                losses.append(_arrival(there, back, starts, locations, end, valid))
    return torch.stack(losses).mean()


def _arrival(
    there: Tensor,
    back: Tensor,
    starts: Tensor,
    locations: Tensor | None,
    end: Tensor | None,
    valid: Tensor | None,
) -> Tensor:
    if locations is None or end is None:
        # Only the walk's diagonal is wanted: no product of matrices.
        arrived = (there * back.mT[:, starts]).sum(dim=2)
        return mean_where(-torch.log(arrived + _LEAST), valid)
    index, shares = corners(locations, (end.shape[2], end.shape[3]))
    arrived = (there @ back).gather(2, index)
    return mean_where(divergence(torch.log(arrived + _LEAST), shares), valid)
