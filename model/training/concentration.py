"""Concentration: cells that are neighbours in one frame stay together in the other.

UVC (Li et al. 2019): the grid is split into windows of 8 x 8 cells; l_i is where cell i lands in the other frame, in
[-1, 1], and m_w the mean over the window w that it belongs to:

    loss = mean_i (l_i - m_w(i))^2        over cells and axes, both directions added
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.training.cells import full_precision, normalised
from model.training.localisation import coordinates
from model.training.transport import over_reference, over_target


def concentration_loss(
    scores: Tensor, reference_size: tuple[int, int], target_size: tuple[int, int], *, window: int = 8
) -> Tensor:
    """Scalar, of (B, N1, N2) scores before any softmax; sizes are (rows, columns)."""
    there = normalised(coordinates(over_target(scores), target_size), target_size)
    back = normalised(coordinates(over_reference(scores).mT, reference_size), reference_size)
    return spread(there, reference_size, window) + spread(back, target_size, window)


def spread(places: Tensor, size: tuple[int, int], window: int = 8) -> Tensor:
    """Mean squared distance of (B, N, 2) places to the mean of their window; N cells of `size`, row by row.

    A side that is no multiple of the window has as many windows as come closest to it, of widths that differ by one at
    most, so every cell belongs to exactly one and none is a sliver.
    """
    index = _windows(size, window, places.device)
    with full_precision(places):
        member = F.one_hot(index).to(places.dtype)  # (N, windows)
        means = (member / member.sum(dim=0)).T @ places  # (B, windows, 2)
    return (places - means[:, index]).square().mean()


def _windows(size: tuple[int, int], window: int, device: torch.device) -> Tensor:
    """(N,) which window a cell belongs to."""
    y, x = (torch.arange(side, device=device) * max(1, round(side / window)) // side for side in size)
    return (y[:, None] * max(1, round(size[1] / window)) + x).reshape(-1)
