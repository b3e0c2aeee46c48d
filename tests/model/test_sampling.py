from __future__ import annotations

import torch

from model.sampling import evenly


def test_a_bounded_number_of_cells_evenly_among_those_chosen() -> None:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(6, 200, generator=generator) < torch.tensor([0.0, 0.01, 0.2, 0.5, 0.9, 1.0])[:, None]
    index, counts = evenly(chosen, 16)
    for row, found, counted in zip(chosen, index, counts, strict=True):
        cells = row.nonzero()[:, 0]
        wanted = cells if len(cells) <= 16 else cells[torch.arange(16) * len(cells) // 16]
        assert found[counted].tolist() == wanted.tolist()
    assert bool(((index >= 0) & (index < 200)).all()), "those that do not count are indices too"
