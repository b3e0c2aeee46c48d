"""Fine-grained matching: the target's colours rebuilt from the reference's, through the affinity and back.

UVC (Li et al. 2019), with A = softmax over the reference and a frozen decoder D:

    X2' = X1 A          forward:             L1(D(X2'), target)
    X1' = X2 A^T        energy preserving:   L1(D(X1'), reference), A^T not re-normalised
    loss = forward + 0.1 * energy            per sample, L1 in Lab with colour weighted 10

A pair that nothing could rebuild (a shot cut, an object that left) would dominate the batch, so samples with a loss
above 2.5 count as 0; the limit belongs to this scale of Lab and is off while the affinity is still untrained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.lab import lab_l1
from model.training.transport import transport

OUTLIER_LIMIT = 2.5


@dataclass(frozen=True)
class Reconstruction:
    """One batch's reconstruction.

    Attributes:
        loss: scalar, the mean over all samples, outliers as 0.
        forward: (B,) detached, the forward term alone, outliers included.
        kept: (B,) bool, False for outliers.
        estimate: (B, 3, H, W) detached scaled Lab, the target as rebuilt; for pictures.
    """

    loss: Tensor
    forward: Tensor
    kept: Tensor
    estimate: Tensor


def reconstruct(
    weights: Tensor,
    reference_colours: Tensor,
    target_colours: Tensor,
    reference: Tensor,
    target: Tensor,
    decode: Callable[[Tensor], Tensor],
    *,
    energy_weight: float = 0.1,
    chroma_weight: float = 10.0,
    outlier_limit: float | None = OUTLIER_LIMIT,
) -> Reconstruction:
    """Transports colour features both ways, decodes and compares.

    Args:
        weights: (B, N1, N2), `over_reference`.
        reference_colours, target_colours: (B, C, h, w), the auto-encoder's.
        reference, target: (B, 3, H, W) scaled Lab, what the decoded should be.
        decode: the frozen decoder, (B, C, h, w) to (B, 3, 8h, 8w).
        energy_weight: 0 leaves the way back out, and its decoding.
        outlier_limit: None keeps every sample.
    """
    estimate = decode(transport(weights, reference_colours, _size(target_colours)))
    forward = lab_l1(estimate, target, chroma_weight=chroma_weight)
    losses = forward
    if energy_weight:
        back = decode(transport(weights.mT, target_colours, _size(reference_colours)))
        losses = losses + energy_weight * lab_l1(back, reference, chroma_weight=chroma_weight)
    losses, kept = drop_outliers(losses, outlier_limit)
    return Reconstruction(losses.mean(), forward.detach(), kept, estimate.detach())


def drop_outliers(losses: Tensor, limit: float | None = OUTLIER_LIMIT) -> tuple[Tensor, Tensor]:
    """(B,) losses with those above the limit as 0, and which were kept."""
    if limit is None:
        return losses, torch.ones_like(losses, dtype=torch.bool)
    kept = losses <= limit
    return torch.where(kept, losses, 0.0), kept


def _size(maps: Tensor) -> tuple[int, int]:
    """Rows and columns of (B, C, rows, columns)."""
    return maps.shape[2], maps.shape[3]
