"""Made-up features, and matches as one matrix, for the tests of every memory."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model.affinity import Matches

CHANNELS = 16


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(*shape, CHANNELS) of length 1: every cell looks like nothing else."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, CHANNELS, generator=generator), dim=-1).to(dtype)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Two affinities are the same but for the last digits of float32, in which sums and exponentials differ."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def affinity(matches: list[Matches], cells: int, sources: int) -> torch.Tensor:
    """(cells, sources) float64, so that the order of equal weights does not matter."""
    whole = torch.zeros(cells, sources, dtype=torch.float64)
    for match in matches:
        assert match.cells.dtype == match.sources.dtype == torch.int64
        assert match.weights.dtype == torch.float32
        assert match.weights.shape == match.sources.shape
        assert bool(((match.sources >= 0) & (match.sources < sources)).all())
        whole[match.cells] = 0.0
        whole.index_put_((match.cells[:, None], match.sources), match.weights.double(), accumulate=True)
    return whole
