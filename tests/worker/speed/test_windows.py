from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.affinity import dense_matches
from model.window_memory import WindowMemory
from worker.speed.stopwatch import Stopwatch
from worker.speed.windows import BareWindows

TOP_K, TEMPERATURE = 4, 0.07


def _features(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize(("rows", "columns", "radius", "tile"), [(10, 13, 3, 4), (5, 21, 6, 8), (16, 8, 0, 8)])
def test_the_same_scores_are_selected_as_by_the_reference_and_the_window_memory(
    one_thread: None, rows: int, columns: int, radius: int, tile: int
) -> None:
    slots, channels = 3, 8
    memory, query = _features(slots, rows, columns, channels, seed=1), _features(rows, columns, channels, seed=2)
    settings = {"radius": radius, "top_k": min(TOP_K, slots * (1 if radius == 0 else 9))}
    bare = BareWindows(rows, columns, channels, slots, tile=tile, **settings)
    windows = WindowMemory(rows, columns, channels, slots, tile=tile, temperature=TEMPERATURE, **settings)
    for slot in range(slots):
        bare.write(slot, _features(rows, columns, channels, seed=9))  # written over
        bare.write(slot, memory[slot])
        windows.write(slot, memory[slot])
    best = bare.best(query).contiguous()
    assert best.shape == (rows, columns, settings["top_k"])
    dense = dense_matches(query, memory, temperature=TEMPERATURE, **settings)
    flat = query.view(-1, channels)
    theirs = (flat[:, None] * memory.view(-1, channels)[dense.sources]).sum(dim=2)
    assert torch.allclose(best.view(theirs.shape), theirs, atol=1e-5)
    (found,) = windows.matches(query, [range(slots)], [None])
    weights = torch.softmax(best.view(rows * columns, -1) / TEMPERATURE, dim=1)
    for match in found:
        assert torch.allclose(match.weights, weights[match.cells], atol=1e-4)


def test_a_column_of_tiles_at_a_time_gives_the_same(one_thread: None) -> None:
    rows, columns, channels = 19, 11, 6
    query = _features(rows, columns, channels, seed=3)
    bare = BareWindows(rows, columns, channels, 1, radius=4, top_k=TOP_K, tile=4)
    bare.write(0, _features(rows, columns, channels, seed=4))
    one_by_one = bare.best(query)
    bare._together = bare._tile_rows  # as on a GPU
    assert torch.allclose(bare.best(query), one_by_one, atol=1e-6)


def test_products_and_selection_are_timed_apart_and_the_products_counted(one_thread: None) -> None:
    bare = BareWindows(9, 9, 6, 2, radius=2, top_k=TOP_K, tile=4)
    watch = Stopwatch()
    bare.best(_features(9, 9, 6, seed=5), watch)
    watch.frame_done()
    assert set(watch.milliseconds()) == {"products", "top_k"}
    assert bare.multiplications == 2 * 9 * 16 * 64 * 2 * 6  # 9 tiles of 16 cells, windows of 8 x 8 in 2 frames
