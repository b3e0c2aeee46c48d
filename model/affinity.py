"""The affinity: which cells of the memory a cell of the new frame matches, and how strongly.

Softmax over the `top_k` most similar cells, similarity being the dot product of L2-normalised features over a
temperature (UVC, Li et al. 2019, with the normalisation and the joint top-k of CRW, Jabri et al. 2020). Candidates are
the cells of every memory frame within a Euclidean radius of the cell's own place.

Here is the definition, and `dense_matches`, the plain reference in full N x N matrices. Three memories compute only
what windows need: `WindowMemory` and, with windows that move, `FollowingMemory` one tile of the new frame after the
other on a CPU, and `BatchedMemory` many at a time on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# How many candidates one maximum stands for, in the stages of top-k.
_GROUPED = 8


@dataclass(frozen=True)
class Matches:
    """For some cells of the new frame, where in memory they were matched.

    Attributes:
        cells: (n,) int64, the cells' flat indices row * columns + column.
        weights: (n, k) float32, each row sums to 1 (or is 0 where a cell had no candidate at all).
        sources: (n, k) int64, flat indices slot * rows * columns + row * columns + column into the memory. Where the
            weight is 0 the index is valid but means nothing.
    """

    cells: Tensor
    weights: Tensor
    sources: Tensor


def similarity(query: Tensor, memory: Tensor) -> Tensor:
    """Dot products of every cell with every other: (..., n, C) and (..., m, C) to (..., n, m).

    Cosines where both are L2-normalised. Training stands on the same definition (`model.training.transport`).
    """
    return query @ memory.mT


def dense_matches(
    query: Tensor,
    memory: Tensor,
    *,
    radius: int,
    top_k: int,
    temperature: float,
    valid: Tensor | None = None,
) -> Matches:
    """The reference: full similarities to every memory frame, masked to the window, one joint top-k.

    Args:
        query: (rows, columns, C) L2-normalised features of the new frame.
        memory: (M, rows, columns, C) those of the memory frames.
        radius: in cells, Euclidean, inclusive.
        valid: (M, rows, columns) bool, False where a memory cell may not be matched.
    """
    rows, columns, channels = query.shape
    cells = rows * columns
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    y, x = y.reshape(-1), x.reshape(-1)
    far = ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 > radius * radius).to(query.device)
    flat = query.reshape(cells, channels)
    scores = []
    for slot, frame in enumerate(memory):
        score = similarity(flat, frame.reshape(cells, channels))
        score = score.masked_fill(far, -math.inf)
        if valid is not None:
            score = score.masked_fill(~valid[slot].reshape(1, cells), -math.inf)
        scores.append(score)
    best = torch.cat(scores, dim=1).topk(min(top_k, cells * len(scores)), dim=1)
    return Matches(
        cells=torch.arange(cells, device=query.device),
        weights=match_weights(best.values, temperature),
        sources=best.indices,
    )


def window_mask(tile: int, radius: int, dtype: torch.dtype) -> Tensor:
    """(span, span, tile * tile), span being tile + 2 * radius: 0 where a cell of the tile's candidates is within the
    Euclidean radius of a cell of the tile, -inf beyond it."""
    place = torch.arange(tile + 2 * radius) - radius
    cell = torch.arange(tile)
    apart = (place[:, None] - cell) ** 2  # (span, tile) along one axis
    distance = apart[:, None, :, None] + apart[None, :, None, :]  # (span, span, tile, tile)
    mask = torch.zeros(len(place), len(place), tile * tile, dtype=dtype)
    return mask.masked_fill(distance.flatten(2) > radius * radius, -math.inf)


def match_weights(scores: Tensor, temperature: float) -> Tensor:
    """Softmax over the last axis that gives zeros, not NaN, where every score is -inf."""
    return torch.softmax(scores.float() / temperature, dim=-1).nan_to_num(0.0)


def joint_top_k_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of every column of (b, n, cells): values (b, cells, k) float32, highest first, and their rows.

    Exact, and in stages: the k highest are among the members of the k groups with the highest maxima, and these are
    found in the same way. Maxima cost little; sorting through all n would cost most of the frame.
    """
    batch, total, cells = scores.shape
    count = total // _GROUPED
    if total % _GROUPED or count < 4 * k:
        best = scores.mT.float().topk(min(k, total), dim=2)
        return best.values, best.indices
    # A group is every count-th row: the maximum then runs over whole matrices.
    groups = scores.view(batch, _GROUPED, count, cells)
    chosen = joint_top_k_of_rows(groups.amax(dim=1), k)[1].mT[:, None]  # (b, 1, k, cells)
    members = groups.gather(2, chosen.expand(-1, _GROUPED, -1, -1)).flatten(1, 2)
    best = members.mT.float().topk(k, dim=2)
    rows = chosen + torch.arange(0, total, count, device=scores.device)[:, None, None]
    return best.values, rows.flatten(1, 2).mT.gather(2, best.indices)
