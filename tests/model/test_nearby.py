from __future__ import annotations

import numpy as np
import pytest
import torch

from model.nearby import most_alike, place_of_highest

from ..matching import features

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("radius", [0, 2, 5, 40])
def test_the_cell_within_reach_that_is_most_alike(dtype: torch.dtype, radius: int) -> None:
    rows, columns = 13, 17
    targets, queries = features(rows, columns, dtype=dtype), features(9, seed=1, dtype=dtype)
    places = np.random.default_rng(0).integers(0, rows * columns, 9)
    scores = (queries @ targets.flatten(0, 1).T).float().numpy()
    y, x = np.divmod(np.arange(rows * columns), columns)
    apart = (y - places[:, None] // columns) ** 2 + (x - places[:, None] % columns) ** 2
    expected = np.where(apart <= radius * radius, scores, -np.inf).argmax(axis=1)
    assert most_alike(queries, places, targets, radius).tolist() == expected.tolist()


def test_of_several_the_first() -> None:
    alike = torch.ones(6, 6, 4) / 2
    assert most_alike(alike[0, :1], np.array([14]), alike, 1).tolist() == [8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_highest_of_each_row(dtype: torch.dtype) -> None:
    scores = torch.randn(7, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[2, 5] = scores[2, 9] = 9.0
    scores[3] = -torch.inf
    assert place_of_highest(scores).tolist() == scores.float().argmax(dim=1).tolist()
