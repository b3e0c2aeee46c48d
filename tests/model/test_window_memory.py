from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from model.affinity import Matches, dense_matches
from model.errors import InputError
from model.side_by_side import set_threads
from model.window_memory import WindowMemory

from ..matching import CHANNELS, affinity, features

pytestmark = pytest.mark.usefixtures("one_thread")


def _compare(
    rows: int,
    columns: int,
    slots: int,
    *,
    radius: int = 3,
    top_k: int = 4,
    tile: int = 4,
    valid: torch.Tensor | None = None,
    subsets: list[list[int]] | None = None,
    written: list[int] | None = None,
) -> None:
    settings = {"radius": radius, "top_k": top_k, "temperature": 0.07}
    memory, query = features(slots, rows, columns), features(rows, columns, seed=1)
    windowed = WindowMemory(rows, columns, CHANNELS, slots, tile=tile, **settings)  # type: ignore[arg-type]
    written = list(range(slots)) if written is None else written
    for slot in written:
        windowed.write(slot, memory[slot], None if valid is None else valid[slot])
    subsets = [written] if subsets is None else subsets
    found = windowed.matches(query, subsets, [None] * len(subsets))
    for subset, matches in zip(subsets, found, strict=True):
        allowed = torch.zeros(slots, rows, columns, dtype=torch.bool)
        allowed[subset] = True if valid is None else valid[subset]
        expected = dense_matches(query, memory, valid=allowed, **settings)  # type: ignore[arg-type]
        count = rows * columns
        assert sorted(torch.cat([match.cells for match in matches]).tolist()) == list(range(count))
        assert torch.allclose(
            affinity(matches, count, slots * count),
            affinity([expected], count, slots * count),
            atol=2e-5,
        )


@pytest.mark.parametrize(
    ("rows", "columns"), [(2, 2), (2, 9), (9, 2), (4, 4), (5, 7), (8, 8), (9, 17), (16, 12), (1, 1), (23, 5)]
)
def test_windows_equal_the_reference_for_any_size(rows: int, columns: int) -> None:
    _compare(rows, columns, 2)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 12])
@pytest.mark.parametrize("tile", [1, 3, 4, 8, 16])
def test_windows_equal_the_reference_for_any_radius_and_tile(radius: int, tile: int) -> None:
    _compare(7, 10, 2, radius=radius, tile=tile)


def test_a_window_larger_than_the_frame() -> None:
    _compare(4, 3, 2, radius=40, tile=8, top_k=5)


@pytest.mark.parametrize("top_k", [1, 2, 7, 10, 50, 1000])
def test_windows_equal_the_reference_for_any_top_k(top_k: int) -> None:
    # Beyond the number of candidates as well: what is missing has no weight.
    _compare(6, 9, 3, radius=2, top_k=top_k)


def test_the_settings_of_plain_on_a_whole_frame() -> None:
    _compare(30, 41, 8, radius=12, top_k=10, tile=8)


@pytest.mark.parametrize("share", [0.7, 0.1, 0.0])
def test_void_cells_are_never_matched(share: float) -> None:
    valid = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(3)) < share
    _compare(9, 11, 3, valid=valid)


def test_subsets_of_the_slots_each_equal_the_reference() -> None:
    subsets = [[0, 1, 2, 3], [0], [3], [1, 3], [2, 0], []]
    _compare(9, 11, 4, subsets=subsets)
    valid = torch.rand(4, 9, 11, generator=torch.Generator().manual_seed(4)) < 0.5
    _compare(9, 11, 4, subsets=subsets, valid=valid)


def test_few_candidates_never_let_a_barred_slot_in() -> None:
    # With a radius of 1 and a large top-k there are fewer candidates than places: barred slots must not fill them.
    _compare(6, 6, 5, radius=1, top_k=30, subsets=[[2], [0, 4], [1, 2, 3]])


def test_slots_that_were_never_written_are_no_candidates() -> None:
    _compare(7, 9, 5, written=[1, 3])
    _compare(7, 9, 5, written=[2], top_k=60)


def test_writing_a_slot_again_replaces_what_was_there() -> None:
    query = features(9, 11, seed=1)
    old, new = features(9, 11, seed=2), features(9, 11, seed=3)
    half = torch.zeros(9, 11, dtype=torch.bool)
    half[:, :5] = True
    reused = WindowMemory(9, 11, CHANNELS, 2, radius=3, top_k=4, temperature=0.07, tile=4)
    fresh = WindowMemory(9, 11, CHANNELS, 2, radius=3, top_k=4, temperature=0.07, tile=4)
    for memory in (reused, fresh):
        memory.write(0, new)
    reused.write(1, old, half)
    reused.write(1, new)
    reused.write(0, old)
    fresh.write(0, old)
    fresh.write(1, new)
    for a, b in zip(reused.matches(query, [[0, 1]], [None])[0], fresh.matches(query, [[0, 1]], [None])[0], strict=True):
        assert torch.equal(a.weights, b.weights)
        assert torch.equal(a.sources, b.sources)


def test_one_frame_does_not_leave_traces_in_the_next() -> None:
    memory = WindowMemory(9, 11, CHANNELS, 2, radius=3, top_k=4, temperature=0.07, tile=4)
    memory.write(0, features(9, 11, seed=2))
    memory.write(1, features(9, 11, seed=3))
    query = features(9, 11, seed=1)
    first = memory.matches(query, [[0, 1]], [None])[0]
    memory.matches(features(9, 11, seed=9), [[0], [1]], [None, None])
    for a, b in zip(first, memory.matches(query, [[0, 1]], [None])[0], strict=True):
        assert torch.equal(a.weights, b.weights)
        assert torch.equal(a.sources, b.sources)


@pytest.mark.parametrize("place", [(0, 0), (8, 16), (23, 40), (12, 5)])
def test_tiles_left_out_would_have_brought_nothing(place: tuple[int, int]) -> None:
    rows, columns, radius = 24, 41, 3
    memory = WindowMemory(rows, columns, CHANNELS, 2, radius=radius, top_k=5, temperature=0.07, tile=4)
    for slot in range(2):
        memory.write(slot, features(rows, columns, seed=slot))
    labels = torch.zeros(2, rows, columns)
    labels[0][place], labels[1][place] = 1.0, 0.5
    query = features(rows, columns, seed=5)
    all_of_them, some = memory.matches(query, [[0, 1], [0, 1]], [None, labels > 0])

    assert torch.equal(_carried(some, labels), _carried(all_of_them, labels))
    assert _carried(all_of_them, labels).any()
    # And most of the frame was indeed left out.
    assert sum(len(match.cells) for match in some) < rows * columns / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("slots", "subset"), [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (4, [3, 1])])
@pytest.mark.parametrize(("rows", "columns"), [(40, 56), (37, 51)])
def test_cells_ruled_out_would_have_brought_nothing(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, slots: int, subset: list[int], rows: int, columns: int
) -> None:
    # Frames that resemble each other, as a video's do: a cell's best matches are mostly around its own place.
    still = features(rows, columns, seed=1)
    frames = [
        F.normalize(still + 0.3 * features(rows, columns, seed=2 + i), dim=-1).to(dtype) for i in range(slots + 1)
    ]
    memory = WindowMemory(rows, columns, CHANNELS, slots, radius=12, top_k=10, temperature=0.07, dtype=dtype)
    labels = torch.zeros(slots, rows, columns)
    for slot in range(slots):
        memory.write(slot, frames[slot])
        labels[slot, 10:18, 20 + slot : 30 + slot] = torch.rand(8, 10, generator=torch.Generator().manual_seed(slot))
    (whole,) = memory.matches(frames[-1], [subset], [None])
    (ruled,) = memory.matches(frames[-1], [subset], [labels[subset] > 0])
    brought, expected = _carried(ruled, labels), _carried(whole, labels)
    # A product with fewer columns may round its last bit differently; what is ruled out is exactly nothing.
    torch.testing.assert_close(brought, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.02)
    ruled_out = torch.ones(rows * columns, dtype=torch.bool)
    ruled_out[torch.cat([match.cells for match in ruled])] = False
    assert not expected[ruled_out].any()
    assert expected.any()
    left = sum(len(match.cells) for match in ruled)
    monkeypatch.setattr("model.tiles._WORTH_RULING_OUT", 0)
    tiles = sum(len(match.cells) for match in memory.matches(frames[-1], [subset], [labels[subset] > 0])[0])
    assert left < 0.7 * tiles, "beyond whole tiles, single cells are to be left out"


def test_cells_are_ruled_out_for_each_of_several_groups_that_want_one_tile() -> None:
    # As of objects that were first labelled on different frames.
    rows, columns, slots = 40, 56, 6
    still = features(rows, columns, seed=1)
    memory = WindowMemory(rows, columns, CHANNELS, slots, radius=12, top_k=10, temperature=0.07)
    labels = torch.zeros(2, slots, rows, columns)
    for slot in range(slots):
        memory.write(slot, F.normalize(still + 0.3 * features(rows, columns, seed=2 + slot), dim=-1))
        labels[0, slot, 12:17, 20:26], labels[1, slot, 20:24, 30:36] = 1.0, 1.0
    query = F.normalize(still + 0.3 * features(rows, columns, seed=99), dim=-1)
    subsets = [list(range(slots)), [3, 4, 5]]
    wanted = [labels[n][subset] > 0 for n, subset in enumerate(subsets)]
    ruled, whole = memory.matches(query, subsets, wanted), memory.matches(query, subsets, [None, None])
    for n in range(2):
        torch.testing.assert_close(_carried(ruled[n], labels[n]), _carried(whole[n], labels[n]), rtol=0, atol=1e-5)
        assert _carried(whole[n], labels[n]).any()
        # The two have cells in common, and what is looked at for one of them is told to both.
        assert sum(len(match.cells) for match in ruled[n]) < rows * columns / 3


def test_cells_of_tiles_at_the_frames_edge_are_ruled_out_by_their_own_similarities() -> None:
    # The last tile shows three columns of cells; the object lies there, and moves on by two rows a frame.
    rows, columns, slots = 24, 27, 8
    still = features(rows, columns, seed=1)
    memory = WindowMemory(rows, columns, CHANNELS, slots, radius=12, top_k=10, temperature=0.07)
    labels = torch.zeros(slots, rows, columns)
    for slot in range(slots):
        frame = still.clone()
        frame[2 * slot : 2 * slot + 4, 24:] = features(4, 3, seed=2)
        memory.write(slot, frame)
        labels[slot, 2 * slot : 2 * slot + 4, 24:] = 1.0
    query = still.clone()
    query[16:20, 24:] = features(4, 3, seed=2)
    (whole,) = memory.matches(query, [list(range(slots))], [None])
    (ruled,) = memory.matches(query, [list(range(slots))], [labels > 0])
    torch.testing.assert_close(_carried(ruled, labels), _carried(whole, labels), rtol=0, atol=1e-5)
    assert (_carried(ruled, labels).view(rows, columns)[16:20, 24:] > 0.5).all()


def test_any_number_of_threads_finds_the_same() -> None:
    rows, columns, slots = 40, 56, 4
    before, found = set_threads(1), []
    for threads in (1, 3):
        set_threads(threads)
        memory = WindowMemory(rows, columns, CHANNELS, slots, radius=6, top_k=5, temperature=0.07)
        for slot in range(slots):
            memory.write(slot, features(rows, columns, seed=slot))
        active = torch.zeros(slots, rows, columns, dtype=torch.bool)
        active[:, 10:30, 20:40] = True
        query = features(rows, columns, seed=9)
        found.append([memory.matches(query, [list(range(slots)), [1]], [active, None]) for _ in range(2)])
    set_threads(before)
    for one, several in zip(itertools.chain(*found[0]), itertools.chain(*found[1]), strict=True):
        assert len(one) == len(several)
        for a, b in zip(one, several, strict=True):
            assert torch.equal(a.cells, b.cells)
            assert torch.equal(a.weights, b.weights)
            assert torch.equal(a.sources, b.sources)


def test_of_candidates_that_are_all_alike_near_ones_are_taken() -> None:
    # So that labels are not drawn to one side where a picture has no features.
    frame = F.normalize(torch.ones(24, 24, CHANNELS), dim=-1)
    memory = WindowMemory(24, 24, CHANNELS, 1, radius=6, top_k=5, temperature=0.07)
    memory.write(0, frame)
    for match in memory.matches(frame, [[0]], [None])[0]:
        down = match.sources // 24 - match.cells[:, None] // 24
        across = match.sources % 24 - match.cells[:, None] % 24
        assert (down[:, 0] == 0).all()
        assert (across[:, 0] == 0).all()
        inside = (match.cells % 24 >= 2) & (match.cells % 24 < 22) & (match.cells // 24 >= 2)
        assert (down[inside].abs() + across[inside].abs()).max() <= 2
        assert down[inside].float().mean().abs() <= 0.4
        assert across[inside].float().mean().abs() <= 0.4


def test_each_subset_has_its_own_active_cells() -> None:
    memory = WindowMemory(24, 24, CHANNELS, 1, radius=2, top_k=3, temperature=0.07, tile=4)
    memory.write(0, features(24, 24))
    corner, nothing = torch.zeros(1, 24, 24, dtype=torch.bool), torch.zeros(1, 24, 24, dtype=torch.bool)
    corner[0, 0, 0] = True
    found = memory.matches(features(24, 24, seed=1), [[0], [0], [0]], [corner, nothing, None])
    counts = [sum(len(match.cells) for match in matches) for matches in found]
    assert counts[1:] == [0, 576]
    assert 9 <= counts[0] <= 64
    assert memory.matches(features(24, 24, seed=1), [], []) == []


def test_a_cell_without_any_candidate_has_no_weight_and_no_nan() -> None:
    memory = WindowMemory(5, 6, CHANNELS, 2, radius=2, top_k=4, temperature=0.07, tile=4)
    memory.write(0, features(5, 6), torch.zeros(5, 6, dtype=torch.bool))
    for subset in ([0], []):
        for match in memory.matches(features(5, 6, seed=1), [subset], [None])[0]:
            assert torch.equal(match.weights, torch.zeros_like(match.weights))
            assert bool((match.sources < 60).all())


def test_weights_add_up_to_one() -> None:
    memory = WindowMemory(11, 13, CHANNELS, 3, radius=4, top_k=6, temperature=0.07, tile=8)
    for slot in range(3):
        memory.write(slot, features(11, 13, seed=slot))
    for match in memory.matches(features(11, 13, seed=7), [[0, 1, 2]], [None])[0]:
        assert torch.allclose(match.weights.sum(dim=1), torch.ones(len(match.cells)), atol=1e-6)


def test_bfloat16_stays_close() -> None:
    rows, columns, slots = 20, 26, 4
    query, memory = features(rows, columns, seed=1), features(slots, rows, columns)
    windowed = WindowMemory(rows, columns, CHANNELS, slots, radius=6, top_k=10, temperature=0.07, dtype=torch.bfloat16)
    for slot in range(slots):
        windowed.write(slot, memory[slot].bfloat16())
    found = windowed.matches(query.bfloat16(), [list(range(slots))], [None])[0]
    expected = dense_matches(query, memory, radius=6, top_k=10, temperature=0.07)
    labels = torch.rand(slots * rows * columns, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    count = rows * columns
    close = affinity(found, count, slots * count) @ labels
    exact = affinity([expected], count, slots * count) @ labels
    assert float((close - exact).abs().mean()) < 0.01
    assert float((close - exact).abs().max()) < 0.1


def test_candidates_of_equal_similarity_still_share_all_the_weight() -> None:
    # A still picture fills the memory with equal cells: which of them are taken is open, how many and how much is not.
    frame = features(9, 11)
    memory = WindowMemory(9, 11, CHANNELS, 3, radius=3, top_k=2, temperature=0.07, tile=4)
    for slot in range(3):
        memory.write(slot, frame)
    for match in memory.matches(frame, [[0, 1, 2]], [None])[0]:
        assert torch.equal(match.sources % 99, match.cells[:, None].expand(-1, 2))
        assert bool((match.sources[:, 0] != match.sources[:, 1]).all())
        assert torch.allclose(match.weights, torch.tensor(0.5))


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"slots": 0}, {"top_k": 0}, {"tile": 0}, {"radius": -1}, {"temperature": 0.0}, {"channels": 0}],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    settings = {"rows": 4, "columns": 4, "channels": 8, "slots": 2, "radius": 2, "top_k": 3, "temperature": 0.07}
    with pytest.raises(InputError):
        WindowMemory(**{**settings, **wrong})  # type: ignore[arg-type]


def _carried(matches: list[Matches], labels: torch.Tensor) -> torch.Tensor:
    """The labels (slots, rows, columns) brought to the new frame's cells, zero for cells left out."""
    values = torch.zeros(labels[0].numel())
    for match in matches:
        values[match.cells] = (match.weights * labels.flatten()[match.sources]).sum(dim=1)
    return values
