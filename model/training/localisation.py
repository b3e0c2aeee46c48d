"""Region-level localisation: where a patch went in the whole frame, how large it is there, and the crop at that place.

UVC (Li et al. 2019). With weights A' = softmax over the target, every reference cell's place is its soft-argmax, and

    centre C = mean_i l_i        half-extent = 2 * mean_i |l_i - C|        per axis

Points spread evenly over a width W deviate by W / 4 from their mean, so the box of such a spread is exactly W wide.
The paper estimates the scale so; the released training code uses a box of fixed size (`scale="fixed"`).

Boxes are (left, top, right, bottom) in cells with a centre at every integer (`model.training.cells`): the box of cells
3 to 5 is 2.5 to 5.5. Crops are sampled with `align_corners=False`, under which that box, cropped to 3 cells, is those
three cells. The released code is of PyTorch 1.1 and aligns corners; its numbers differ by up to half a cell.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from model.training.cells import centres, full_precision

_LEAST_SIDE = 1.0  # cells; a patch that all matched one cell still has a box to look into


def coordinates(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Soft-argmax: (B, N1, N2) weights over a target of `size` cells to (B, N1, 2) places (x, y) in its cells."""
    with full_precision(weights):
        return weights.float() @ centres(size, device=weights.device)


def boxes(
    places: Tensor,
    size: tuple[int, int],
    *,
    scale: Literal["estimated", "fixed"] = "estimated",
    side: tuple[float, float] | None = None,
) -> Tensor:
    """The box of each patch within a target of `size` cells.

    Args:
        places: (B, N1, 2), from `coordinates`.
        scale: "estimated" is the paper's; its extent is detached, as in the released helper, and only the centre
            trains. Edges beyond the frame are brought to its edge. "fixed" has the given side and is moved, not cut,
            where it would leave the frame (the released code cuts it at the right and at the bottom).
        side: (rows, columns) in cells of the fixed box.

    Returns:
        (B, 4).
    """
    low = places.new_full((2,), -0.5)
    high = places.new_tensor([size[1] - 0.5, size[0] - 0.5])
    centre = places.mean(dim=1)
    if scale == "estimated":
        deviation = (places - centre[:, None]).abs().mean(dim=1).detach()
        half = (2 * deviation).clamp(min=_LEAST_SIDE / 2)
    else:
        if side is None:
            raise ValueError("A box of fixed scale needs its side.")
        half = torch.minimum(places.new_tensor([side[1] / 2, side[0] / 2]), (high - low) / 2).expand_as(centre)
        centre = torch.minimum(torch.maximum(centre, low + half), high - half)
    first = torch.maximum(centre - half, low)
    last = torch.minimum(centre + half, high)
    return torch.cat([first, last], dim=1)


def crop(maps: Tensor, boxes: Tensor, output: tuple[int, int], *, size: tuple[int, int] | None = None) -> Tensor:
    """What lies in each box, resampled bilinearly; differentiable in the maps and in the boxes.

    Args:
        maps: (B, C, H, W): features, or pixels of the same frames.
        boxes: (B, 4) in cells of a grid of `size`, which covers the same extent as the maps. Default: the maps' own.
        output: rows and columns of the result.

    Returns:
        (B, C, *output) float32. Beyond the outermost centres the maps continue as they are there.
    """
    rows, columns = maps.shape[2:] if size is None else size
    with full_precision(maps):
        left, top, right, bottom = boxes.float().unbind(dim=1)
        zero = torch.zeros_like(left)
        across = torch.stack([(right - left) / columns, zero, (left + right + 1) / columns - 1], dim=1)
        down = torch.stack([zero, (bottom - top) / rows, (top + bottom + 1) / rows - 1], dim=1)
        theta = torch.stack([across, down], dim=1)
        grid = F.affine_grid(theta, [len(maps), maps.shape[1], *output], align_corners=False)
        return F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
