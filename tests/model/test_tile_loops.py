from __future__ import annotations

import numpy as np
import pytest
import torch

from model import tile_loops
from model.compiled import held

SPAN, TILE, RADIUS, CHANNELS = 6, 2, 2, 3
CORNERS = np.array([(-1, 0), (2, 3)])
SLOTS = np.array([1, 0])


def _memory() -> tuple[np.ndarray, np.ndarray]:
    """(2, 8, 9, C) keys, and which cells of them matter."""
    keys = np.arange(2 * 8 * 9 * CHANNELS, dtype=np.float32).reshape(2, 8, 9, CHANNELS)
    matter = np.zeros((2, 8, 9), bool)
    matter[1, 0, 0] = matter[1, 4, 5] = matter[1, 5, 0] = matter[0, 7, 8] = matter[0, 0, 0] = True
    return keys, matter


@pytest.mark.parametrize("late", [0, 1])
def test_gathered_are_what_matters_and_then_the_tiles_own_place(late: int) -> None:
    keys, matter = _memory()
    valid = np.ones_like(matter)
    valid[1, 4, 5] = False  # void
    valid[0, 4, 5] = False
    found, where = np.empty((30, CHANNELS), np.float32), np.empty(30, np.int64)
    # Keys are numbered through all slots; windows start where their corners lie, in or beside the frame.
    first = (SLOTS * 8 + CORNERS[:, 0]) * 9 + CORNERS[:, 1]
    flat = keys.reshape(-1, CHANNELS)
    own = RADIUS, TILE, late
    matters, others = tile_loops.gather(flat, first, 9, matter, valid, SLOTS, CORNERS, SPAN, own, found, where)
    # In the windows: of slot 1 the cell at (0, 0), as its row 5 is below the window; of slot 0 the one at (7, 8).
    expected = [(0, 1, 0), (1, 5, 5)]
    expected += [
        (s, y, x)
        for s in range(late, 2)
        for y in (2, 3)
        for x in (2, 3)
        if valid[SLOTS[s], CORNERS[s, 0] + y, CORNERS[s, 1] + x]
    ]
    assert (matters, others) == (2, len(expected) - 2)
    assert where[: matters + others].tolist() == [(s * SPAN + y) * SPAN + x for s, y, x in expected]
    for copy, (s, y, x) in zip(found, expected, strict=False):
        assert (copy == keys[SLOTS[s], CORNERS[s, 0] + y, CORNERS[s, 1] + x]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cell_is_decided_where_enough_others_are_better_than_all_that_matters(dtype: torch.dtype) -> None:
    # One candidate that matters, at the window's middle, and three others beside it; two cells of a tile.
    places = [(2, 2), (2, 3), (3, 2), (3, 3)]
    where = np.array([y * SPAN + x for y, x in places])
    scores = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.75, 0.75], [0.625, 0.125]]).to(dtype)
    cells, favour = np.array([0, 1]), np.zeros(1, np.float32)

    def left(top_k: int, favour: np.ndarray = favour, margin: float = 0.0) -> list[int]:
        found = tile_loops.undecided(held(scores), where, 1, 3, cells, favour, SPAN, TILE, RADIUS, top_k, margin)
        return [int(n) for n in found]

    assert left(1) == []
    assert left(2) == [1]
    assert left(3) == [1]
    assert left(3, margin=0.2) == [0, 1]
    assert left(1, favour=np.ones(1, np.float32)) == [], "all in one slot are favoured alike"


def test_what_matters_beyond_the_radius_of_a_cell_does_not_count_for_it() -> None:
    where = np.array([0 * SPAN + 2, 3 * SPAN + 3])
    scores = np.array([[0.9, 0.9], [0.1, 0.1]], np.float32)
    cells = np.array([0, 2])  # rows 2 and 3 of the window, of which the second is three rows below
    found = tile_loops.undecided(scores, where, 1, 1, cells, np.zeros(1, np.float32), SPAN, TILE, RADIUS, 1, 0.0)
    assert found.tolist() == [0]


def test_rows_of_windows_are_copied_side_by_side() -> None:
    keys, _ = _memory()
    corners = np.array([(1, 2), (0, 3)])
    into = np.zeros((SPAN - 2, 2, SPAN, CHANNELS), np.float32)
    tile_loops.copy_rows(keys, SLOTS, corners, 2, into)
    for s, (row, column) in enumerate(corners):
        assert (into[:, s] == keys[SLOTS[s], row + 2 : row + SPAN, column : column + SPAN]).all()
