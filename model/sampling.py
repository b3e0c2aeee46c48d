"""Choosing a bounded number of cells without asking how many there are, so that a GPU need not be waited for."""

from __future__ import annotations

import torch
from torch import Tensor


def evenly(chosen: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most so many of the cells that each row has chosen, evenly among them and in their order.

    Args:
        chosen: (G, N) bool.

    Returns:
        (G, most) int64 indices, and (G, most) bool which of them count: fewer where fewer are chosen. The others are
        valid indices that mean nothing.
    """
    place = torch.arange(most, device=chosen.device)
    rank = chosen.cumsum(dim=1)
    count = rank[:, -1:]
    wanted = torch.where(count > most, place * count // most, place)
    index = torch.searchsorted(rank, wanted + 1).clamp(max=chosen.shape[1] - 1)
    return index, place < count
