"""The soft affinity of training, and what it carries from a reference to a target.

    scores = F1^T F2 / temperature                      (N1 x N2, rows reference, columns target)
    A = softmax over the reference of scores            X2 ~ X1 A

UVC's affinity (Li et al. 2019) with the L2-normalisation and temperature of CRW (Jabri et al. 2020): the same
definition as the propagator's, `model.affinity`. With `normalise=False, temperature=1` it is the paper's raw product.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.affinity import similarity
from model.training.cells import centres

# Finite, so that a row without a candidate becomes uniform and not NaN.
_NEVER = -1e9


def affinity(
    reference: Tensor,
    target: Tensor,
    temperature: float = 0.07,
    normalise: bool = True,
    *,
    candidates: Tensor | None = None,
) -> Tensor:
    """Scores of every pair of cells, before any softmax.

    Args:
        reference: (B, C, h1, w1) features.
        target: (B, C, h2, w2) features.
        temperature: in the units of the similarity; raw dot products want 1.
        normalise: whether similarity is the cosine or the raw dot product.
        candidates: bool, broadcastable to (B, N1, N2): False where a pair may not match (see `window`).

    Returns:
        (B, N1, N2) float32, also under autocast, which computes the product itself in its own precision.
    """
    scores = similarity(rows(reference, normalise) / temperature, rows(target, normalise)).float()
    return scores if candidates is None else scores.masked_fill(~candidates, _NEVER)


def over_reference(scores: Tensor) -> Tensor:
    """(B, N1, N2) scores to the weights that transport: every target cell's add to 1."""
    return torch.softmax(scores, dim=1)


def over_target(scores: Tensor) -> Tensor:
    """(B, N1, N2) scores to the weights that localise: every reference cell's add to 1."""
    return torch.softmax(scores, dim=2)


def transport(weights: Tensor, values: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """What the reference holds, as the target's cells see it: `X1 A`.

    Args:
        weights: (B, N1, N2). Transposed, the same weights carry from the target back to the reference.
        values: (B, C, h1, w1) or (B, C, N1).
        size: rows and columns of the target.

    Returns:
        (B, C, *size), or (B, C, N2) without a size.
    """
    carried = values.flatten(2) @ weights.to(values.dtype)
    return carried if size is None else carried.unflatten(2, size)


def drop_edges(scores: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Rules out every pair with that probability (CRW's edge dropout); for one softmax, so call it for each.

    There are as many draws as pairs: the generator should be on the scores' device.
    """
    if probability <= 0:
        return scores
    device = scores.device if generator is None else generator.device
    draws = torch.rand(scores.shape, generator=generator, device=device)
    return scores.masked_fill(draws.to(scores.device) < probability, _NEVER)


def window(size: tuple[int, int], radius: float, *, device: torch.device | None = None) -> Tensor:
    """(N, N) bool: pairs of cells of two equal grids at most `radius` cells apart, Euclidean, inclusive."""
    points = centres(size, device=device)
    return (points[:, None] - points).square().sum(dim=2) <= radius * radius


def rows(features: Tensor, normalise: bool = True) -> Tensor:
    """(B, C, h, w) or (B, C, N) to (B, N, C), of length 1 each where normalised."""
    # Channels-last maps lie in memory as wanted, and are not copied.
    flat = features.mT if features.dim() == 3 else features.permute(0, 2, 3, 1).flatten(1, 2)
    return F.normalize(flat.float(), dim=2) if normalise else flat
