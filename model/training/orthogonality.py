"""Orthogonality: what goes from the reference to the target and back arrives as it left.

UVC (Li et al. 2019): a one-to-one match is an orthogonal A, and then A A^T = 1. With A = softmax over the reference
and A^T taken as it is, not re-normalised, the way back also preserves energy: a cell that many matched comes back too
strong and one that none matched too weak. On values V (C x N1), be they colours or coordinates:

    loss = mean |V A A^T - V|

The released code's form for coordinates does not run (it uses a name it never sets); this is its formula.
"""

from __future__ import annotations

from torch import Tensor

from model.training.cells import centres, full_precision, normalised
from model.training.transport import transport


def cycle(weights: Tensor, values: Tensor) -> Tensor:
    """(B, N1, N2) weights and (B, C, N1) values to what comes back, (B, C, N1) float32."""
    with full_precision(weights):
        weights = weights.float()
        return transport(weights.mT, transport(weights, values.float()))


def coordinate_orthogonality(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Scalar: the loss on the reference's own coordinates, in [-1, 1]; `size` is its rows and columns."""
    grid = normalised(centres(size, device=weights.device), size).T.expand(len(weights), -1, -1)
    return (cycle(weights, grid) - grid).abs().mean()


def colour_orthogonality(weights: Tensor, colours: Tensor) -> Tensor:
    """Scalar: the loss on (B, C, h, w) colour features of the reference, which need no target and no decoding.

    The colour term of the released code, which decodes what the target sends back, is `reconstruction.reconstruct`'s.
    """
    flat = colours.flatten(2)
    return (cycle(weights, flat) - flat).abs().mean()
