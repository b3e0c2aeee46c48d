"""Exact two-crop consistency: two crops of one picture under a known affine map, so that every cell's match is known.

InfoNCE over cells. For cell i of crop 1, whose true place p in crop 2 lies between up to four cells c with bilinear
shares s_c, and f . g the cosine,

    log q_c = f_i . g_c / T - log( sum over keys k of exp(f_i . g_k / T) )
    loss    = mean_i sum_c s_c (log s_c - log q_c)

Keys are all cells of the own crop 2, without those nearer than `safe_radius` to p that hold no share of it, and cells
of the other videos' crops. Bilinear shares rather than the nearest cell: a match rounded to the cell would teach the
features to be blind to half a cell, which is four pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.affinity import similarity
from model.training.cells import corners, divergence, mean_where
from model.training.transport import rows


def consistency_loss(
    first: Tensor,
    second: Tensor,
    locations: Tensor,
    valid: Tensor,
    *,
    temperature: float = 0.07,
    safe_radius: float = 0.0,
    videos: Tensor | None = None,
    negatives: Tensor | None = None,
    others: bool = True,
) -> Tensor:
    """Scalar: the mean over the valid cells of every crop 1; 0 where there are none.

    Args:
        first, second: (B, C, h, w) features of the two crops. Detach one for a fixed target.
        locations: (B, n, 2) the true place of each query cell in crop 2, (x, y) in cells with centres at integers.
        valid: (B, n) bool.
        safe_radius: in cells; 0 makes every cell without a share a negative, next neighbours too.
        videos: (B,) integers, equal for items of one video, whose cells are no negatives for each other. Default: every
            item is a video of its own.
        negatives: (m,) int64 flat indices of the cells that serve other videos as negatives; default all. The cost
            grows with B * n * B * m.
        others: False compares within the own crop alone.

    `n` is h * w, or fewer: use `subsample` to pick the same cells of all three inputs. Where `first` holds queries
    already picked it is (B, C, n).
    """
    batch, size = len(second), (second.shape[2], second.shape[3])
    queries, keys = rows(first) / temperature, rows(second)
    own = similarity(queries, keys).float()  # (B, n, N)
    total = torch.logsumexp(_without_doubtful(own, locations, size, safe_radius), dim=2)
    if others and batch > 1:
        away = keys if negatives is None else keys[:, negatives]
        other = similarity(queries.flatten(0, 1), away.flatten(0, 1)).float()  # (B * n, B * m)
        total = torch.logaddexp(total, _foreign(other.view(batch, queries.shape[1], batch, -1), videos))
    index, shares = corners(locations, size)
    matched = own.gather(2, index)
    return mean_where(divergence(matched - total[:, :, None], shares), valid)


def subsample(
    first: Tensor, locations: Tensor, valid: Tensor, count: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """At most `count` query cells per item, valid ones first and otherwise at random.

    (B, C, h, w), (B, N, 2), (B, N) to (B, C, count), (B, count, 2), (B, count).
    """
    device = first.device if generator is None else generator.device
    draws = torch.rand(valid.shape, generator=generator, device=device).to(first.device)
    index = (draws + valid).topk(min(count, valid.shape[1]), dim=1).indices
    picked = first.flatten(2).gather(2, index[:, None].expand(-1, first.shape[1], -1))
    return picked, locations.gather(1, index[:, :, None].expand(-1, -1, 2)), valid.gather(1, index)


def _without_doubtful(own: Tensor, locations: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    if radius <= 0:
        return own
    across = locations[:, :, None, None, 0] - torch.arange(size[1], device=own.device)  # (B, n, 1, w)
    down = locations[:, :, None, None, 1] - torch.arange(size[0], device=own.device)[:, None]  # (B, n, h, 1)
    near = across.square() + down.square() < radius * radius
    holds_a_share = (across.abs() < 1) & (down.abs() < 1)
    return own.masked_fill((near & ~holds_a_share).flatten(2), -torch.inf)


def _foreign(other: Tensor, videos: Tensor | None) -> Tensor:
    """(B, n, B, m) scores to the (B, n) log of their summed exponentials, over the items of other videos."""
    if videos is None:
        videos = torch.arange(len(other), device=other.device)
    per_item = torch.logsumexp(other, dim=3)  # (B, n, B)
    # Finite: an item without any other video in the batch adds nothing, and its gradient is 0 and not NaN.
    return torch.logsumexp(per_item.masked_fill((videos[:, None] == videos)[:, None], -1e9), dim=2)
