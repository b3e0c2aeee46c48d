from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.affinity import dense_matches
from model.errors import InputError
from model.following import FollowingMemory

from ..matching import CHANNELS, affinity, assert_same, features

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {"radius": 3, "top_k": 4, "temperature": 0.07}


def _memory(memory: torch.Tensor, valid: torch.Tensor | None = None) -> FollowingMemory:
    slots, rows, columns, _ = memory.shape
    made = FollowingMemory(rows, columns, CHANNELS, slots, tile=4, **SETTINGS)  # type: ignore[arg-type]
    for slot in range(slots):
        made.write(slot, memory[slot], None if valid is None else valid[slot])
    return made


def _still(memory: FollowingMemory) -> np.ndarray:
    return np.zeros((memory.slots, memory.tile_rows, memory.tile_columns, 2), np.int64)


def _everything(slots: int, rows: int, columns: int) -> torch.Tensor:
    return torch.ones(slots, rows, columns, dtype=torch.bool)


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (7, 13), (5, 5)])
def test_windows_that_do_not_move_are_the_dense_reference(rows: int, columns: int) -> None:
    memory, query = features(3, rows, columns), features(rows, columns, seed=1)
    windows = _memory(memory)
    found = windows.matches(query, [[0, 1, 2]], [_everything(3, rows, columns)], _still(windows), {})[0]
    expected = dense_matches(query, memory, **SETTINGS)  # type: ignore[arg-type]
    count = rows * columns
    assert sorted(torch.cat([match.cells for match in found]).tolist()) == list(range(count))
    assert_same(affinity(found, count, 3 * count), affinity([expected], count, 3 * count))


def test_moved_windows_match_what_moved() -> None:
    rows, columns = 16, 24
    memory = features(1, rows, columns)
    query = torch.roll(memory[0], (5, 9), dims=(0, 1))
    windows = _memory(memory)
    moved = _still(windows) + np.array([5, 9])
    found = windows.matches(query, [[0]], [_everything(1, rows, columns)], moved, {})[0]
    whole = affinity(found, rows * columns, rows * columns).view(rows, columns, rows, columns)
    for row, column in ((5, 9), (10, 15), (15, 23)):
        assert whole[row, column].argmax() == (row - 5) * columns + column - 9
    # What came in over the edge has no window on the frame at all.
    assert whole[0, 0].sum() == 0


def test_tiles_of_different_objects_look_different_ways() -> None:
    rows, columns = 8, 16
    memory = features(1, rows, columns)
    query = memory[0].clone()
    query[:, 12:16] = memory[0, :, 4:8]
    windows = _memory(memory)
    moved = _still(windows)
    moved[0, :, 3] = (0, 8)
    found = windows.matches(query, [[0]], [_everything(1, rows, columns)], moved, {})[0]
    whole = affinity(found, rows * columns, rows * columns).view(rows, columns, rows, columns)
    assert whole[4, 2].argmax() == 4 * columns + 2
    assert whole[4, 13].argmax() == 4 * columns + 5


def test_windows_far_outside_of_the_frame_hold_nothing() -> None:
    memory = features(1, 8, 8)
    windows = _memory(memory)
    for far in (-1000, 1000):
        found = windows.matches(memory[0], [[0]], [_everything(1, 8, 8)], _still(windows) + far, {})[0]
        assert found == []


def test_void_cells_are_never_matched() -> None:
    memory = features(2, 8, 8)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[0, 3:6, 3:6] = False
    windows = _memory(memory, valid)
    found = windows.matches(memory[0], [[0, 1]], [_everything(2, 8, 8)], _still(windows), {})[0]
    expected = dense_matches(memory[0], memory, valid=valid, **SETTINGS)  # type: ignore[arg-type]
    assert_same(affinity(found, 64, 128), affinity([expected], 64, 128))


def test_each_subset_of_slots_is_matched_as_if_it_were_all() -> None:
    memory, query = features(3, 8, 8), features(8, 8, seed=1)
    windows = _memory(memory)
    subsets = [[0, 2], [1]]
    active = [_everything(len(subset), 8, 8) for subset in subsets]
    for subset, found in zip(subsets, windows.matches(query, subsets, active, _still(windows), {}), strict=True):
        valid = torch.zeros(3, 8, 8, dtype=torch.bool)
        valid[subset] = True
        expected = dense_matches(query, memory, valid=valid, **SETTINGS)  # type: ignore[arg-type]
        assert_same(affinity(found, 64, 192), affinity([expected], 64, 192))


def test_a_favoured_slot_wins_where_others_are_almost_as_good() -> None:
    first = features(8, 8)
    second = F.normalize(first + 0.01 * features(8, 8, seed=2), dim=-1)
    windows = _memory(torch.stack([first, second]))
    of_first = []
    for favour in ({}, {0: 0.1}):
        found = windows.matches(second, [[0, 1]], [_everything(2, 8, 8)], _still(windows), favour)[0]
        of_first.append(float(affinity(found, 64, 128)[:, :64].sum()))
    assert of_first[1] > 1.2 * of_first[0]


def test_tiles_without_anything_that_matters_are_left_out() -> None:
    memory = features(1, 8, 40)
    windows = _memory(memory)
    active = torch.zeros(1, 8, 40, dtype=torch.bool)
    active[0, 4, 2] = True
    cells = torch.cat([match.cells for match in windows.matches(memory[0], [[0]], [active], _still(windows), {})[0]])
    assert (cells % 40).max() < 8


def test_a_slot_gives_back_what_was_written() -> None:
    memory = features(2, 8, 12)
    assert torch.equal(_memory(memory).read(1), memory[1])


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="positive sizes"):
        FollowingMemory(0, 8, CHANNELS, 1, **SETTINGS)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("slots", "subset"), [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (5, [3, 1])])
@pytest.mark.parametrize(("rows", "columns"), [(40, 56), (37, 51)])
def test_cells_ruled_out_would_have_brought_nothing(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, slots: int, subset: list[int], rows: int, columns: int
) -> None:
    step = np.array([1, 2])
    # Frames that resemble each other but for the camera, which moves on by a step a frame.
    still = features(rows, columns, seed=1)
    frames = [
        F.normalize(still + 0.3 * features(rows, columns, seed=2 + i), dim=-1)
        .roll(tuple((i * step).tolist()), dims=(0, 1))
        .to(dtype)
        for i in range(slots + 1)
    ]
    valid = torch.ones(slots, rows, columns, dtype=torch.bool)
    valid[0, 12:15, 20:40] = False
    memory = FollowingMemory(rows, columns, CHANNELS, slots, radius=12, top_k=10, temperature=0.07, dtype=dtype)
    labels = torch.zeros(slots, rows, columns)
    moved = _still(memory)
    for slot in range(slots):
        memory.write(slot, frames[slot], valid[slot])
        labels[slot, 10 + slot : 18 + slot, 20 + 2 * slot : 30 + 2 * slot] = 0.7
        moved[slot] = (slots - slot) * step
    favour = {subset[0]: 0.05}
    whole = memory.matches(frames[-1], [subset], [_everything(len(subset), rows, columns)], moved, favour)[0]
    ruled = memory.matches(frames[-1], [subset], [labels[subset] > 0], moved, favour)[0]
    carried = [
        affinity(matches, rows * columns, slots * rows * columns) @ labels.flatten().double()
        for matches in (whole, ruled)
    ]
    # A product with fewer columns may round its last bit differently; what is ruled out is exactly nothing.
    torch.testing.assert_close(carried[1], carried[0], rtol=0, atol=1e-5 if dtype == torch.float32 else 0.02)
    ruled_out = torch.ones(rows * columns, dtype=torch.bool)
    ruled_out[torch.cat([match.cells for match in ruled])] = False
    assert carried[0].any()
    assert not carried[0][ruled_out].any()
    monkeypatch.setattr("model.tiles._WORTH_RULING_OUT", 0)
    tiles = memory.matches(frames[-1], [subset], [labels[subset] > 0], moved, favour)[0]
    left, of_tiles = (sum(len(match.cells) for match in matches) for matches in (ruled, tiles))
    assert left < 0.7 * of_tiles, "beyond whole tiles, single cells are to be left out"


def test_slots_of_no_wanted_subset_are_not_looked_at() -> None:
    memory, query = features(3, 8, 24), features(8, 24, seed=1)
    windows = _memory(memory)
    corner, everything = torch.zeros(1, 8, 24, dtype=torch.bool), _everything(2, 8, 24)
    corner[0, 0, 0] = True
    found = windows.matches(query, [[1], [0, 2]], [corner, everything], _still(windows), {})
    for subset, matches in zip(([1], [0, 2]), found, strict=True):
        of_slots = {int(source) // 192 for match in matches for source in match.sources[match.weights > 0]}
        assert of_slots == set(subset)
