from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from model.affinity import dense_matches

from ..matching import affinity, features

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_reference_is_the_definition() -> None:
    rows, columns, slots, radius, top_k = 5, 6, 3, 2, 4
    query, memory = features(rows, columns, seed=1), features(slots, rows, columns)
    valid = torch.rand(slots, rows, columns, generator=torch.Generator().manual_seed(2)) < 0.8
    found = dense_matches(query, memory, radius=radius, top_k=top_k, temperature=0.07, valid=valid)
    whole = affinity([found], rows * columns, slots * rows * columns)
    for y, x in itertools.product(range(rows), range(columns)):
        candidates = [
            (float(query[y, x].double() @ memory[m, v, u].double()), (m * rows + v) * columns + u)
            for m, v, u in itertools.product(range(slots), range(rows), range(columns))
            if (y - v) ** 2 + (x - u) ** 2 <= radius**2 and valid[m, v, u]
        ]
        best = sorted(candidates, reverse=True)[:top_k]
        weight = np.exp([score / 0.07 for score, _ in best])
        expected = torch.zeros(slots * rows * columns, dtype=torch.float64)
        expected[[source for _, source in best]] = torch.from_numpy(weight / weight.sum())
        assert torch.allclose(whole[y * columns + x], expected, atol=1e-5)
