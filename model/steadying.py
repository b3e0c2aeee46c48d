"""Steadying: a keypoint is expected near where it was on the frame before, and on its object.

The affinity gives every cell its label for itself, and body parts look alike: of a knee's map some lies on the other
knee. A region shrugs such strays off, since its neighbours outvote them; a keypoint is little more than one cell, and
the mean of its best cells is drawn away by each. So its map is multiplied with what its motion makes likely, as a
Bayesian tracker does with its prediction (Isard and Blake, "Condensation", IJCV 1998), before it is decoded and
remembered; and with the share of each cell that its object's region has, since a whole region is carried more surely
than any point of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.decoding import KEYPOINT_CELLS

ANYWHERE = 1e-3
"""What is added to the Gaussian: a keypoint that is found far away, and nowhere else, has come back there."""

OUTSIDE = 0.1
"""What counts of a keypoint's map where nothing is its object's: regions err as well."""


def on_object(arrived: Tensor, region: Tensor, held: Tensor) -> Tensor:
    """Keypoints' maps, weighed by how much of each cell is their object's; the mass of each stays what it was.

    Args:
        arrived: (cells, K) what the affinity carried to the new frame, a column for each keypoint.
        region: (cells, K) the share of each cell that the keypoint's object has, 0..1.
        held: (K,) how surely a keypoint lies on its object, 0 (anything goes) to 1.

    Returns:
        (cells, K) in 0..1. Nothing here waits for a GPU.
    """
    return _weighed(arrived, 1 - (1 - OUTSIDE) * held * (1 - region))


def steadied(arrived: Tensor, before: Tensor, columns: int, sigma: float) -> Tensor:
    """Keypoints' maps, weighed by how near to their last places they lie; the mass of each stays what it was.

    Where a keypoint was is the weighted mean of its best cells, as it is decoded. One that was nowhere stays as it is.

    Args:
        arrived: (cells, K) what the affinity carried to the new frame, a column for each keypoint.
        before: (cells, K) the same keypoints' maps on the frame before.
        columns: of the grid.
        sigma: standard deviation of a keypoint's motion from one frame to the next, along either axis, in cells.

    Returns:
        (cells, K) in 0..1. Nothing here waits for a GPU.
    """
    best = before.topk(min(KEYPOINT_CELLS, len(before)), dim=0)
    mass = best.values.sum(dim=0)
    share = best.values / mass.clamp(min=torch.finfo(before.dtype).tiny)
    row = (share * (best.indices // columns)).sum(dim=0)
    column = (share * (best.indices % columns)).sum(dim=0)
    cells = torch.arange(len(before), device=before.device)[:, None]
    apart = (cells // columns - row) ** 2 + (cells % columns - column) ** 2
    near = _weighed(arrived, torch.exp(apart / (-2 * sigma * sigma)) + ANYWHERE)
    return torch.where(mass > 0, near, arrived)


def _weighed(arrived: Tensor, weights: Tensor) -> Tensor:
    near = arrived * weights
    scale = arrived.sum(dim=0) / near.sum(dim=0).clamp(min=torch.finfo(near.dtype).tiny)
    return (near * scale).clamp(max=1)
