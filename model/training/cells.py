"""Coordinates on a grid of cells, as every loss counts them.

Cell i's centre is at i, as in `model.geometry`; the cell reaches from i - 0.5 to i + 0.5, and a row of n cells from
-0.5 to n - 0.5. Points are (x, y). Normalised coordinates put the grid's outer edges, not its outermost centres, at -1
and 1 (`align_corners=False`). Sizes are (rows, columns), and flat indices run row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centres(size: tuple[int, int], *, device: torch.device | None = None) -> Tensor:
    """(rows * columns, 2) float32: every cell's centre, in cells."""
    rows, columns = size
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], dim=1).float()


def normalised(points: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 2) points in cells to [-1, 1] across the grid."""
    return (points + 0.5) * (2.0 / points.new_tensor([size[1], size[0]])) - 1.0


def corners(points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The four cells around a point and the bilinear share of each.

    Args:
        points: (..., 2) in cells; one outside of the outermost centres counts as the nearest point between them.

    Returns:
        (..., 4) int64 flat indices and (..., 4) float32 shares, which add to 1. Where a share is 0 the index is valid
        but means nothing.
    """
    rows, columns = size
    x, y = points[..., 0].float().clamp(0, columns - 1), points[..., 1].float().clamp(0, rows - 1)
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    right, bottom = (left + 1).clamp(max=columns - 1), (top + 1).clamp(max=rows - 1)
    indices = torch.stack(
        [top * columns + left, top * columns + right, bottom * columns + left, bottom * columns + right], dim=-1
    )
    shares = torch.stack(
        [
            (1 - right_share) * (1 - bottom_share),
            right_share * (1 - bottom_share),
            (1 - right_share) * bottom_share,
            right_share * bottom_share,
        ],
        dim=-1,
    )
    return indices.long(), shares


def divergence(log_probability: Tensor, shares: Tensor) -> Tensor:
    """KL(shares || probability) over the last axis: `sum_c s_c (log s_c - log p_c)`.

    Cross-entropy against the point that the shares stand for, less their own entropy: its gradient is the
    cross-entropy's, and 0 is a perfect match wherever between the cells the point lies.
    """
    return (torch.xlogy(shares, shares) - shares * log_probability).sum(dim=-1)


def mean_where(values: Tensor, valid: Tensor | None) -> Tensor:
    """The mean of the valid values; 0, still differentiable, where there are none."""
    if valid is None:
        return values.mean()
    # where, not a product: an infinite value that does not count must not become NaN.
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)


def full_precision(values: Tensor) -> torch.autocast:
    """No autocast within: bfloat16 would round a coordinate of 80 cells to the next quarter of a cell."""
    return torch.autocast(values.device.type, enabled=False)
