from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.affinity import Matches
from model.tiles import Group, Settings, Tile, Windows, in_order

from ..matching import CHANNELS, features

pytestmark = pytest.mark.usefixtures("one_thread")


def _windows(slots: list[int], corners: list[tuple[int, int]]) -> Windows:
    return Windows(np.array(slots), np.array(corners), np.zeros(len(slots), np.float32))


def test_a_tile_is_cut_out_of_a_frame() -> None:
    frame = features(8, 12)
    tile = Tile.of(frame, 4, 1, 2)
    assert tile.cells.tolist() == list(range(16))
    assert torch.equal(tile.features, frame[4:8, 8:12].reshape(16, CHANNELS))
    assert torch.equal(frame.flatten(0, 1)[torch.from_numpy(tile.of_frame)], tile.features)


def test_a_tile_at_the_edge_has_the_cells_that_are_there() -> None:
    frame = features(6, 9)
    tile = Tile.of(frame, 4, 1, 2)
    assert tile.cells.tolist() == [0, 4]
    assert tile.of_frame.tolist() == [4 * 9 + 8, 5 * 9 + 8]
    assert torch.equal(tile.features, frame[4:, 8])


def test_what_matters_to_a_group_is_counted_in_its_own_slots_windows() -> None:
    matter = torch.zeros(2, 6, 8, dtype=torch.bool)
    matter[0, 1, 1] = matter[0, 5, 7] = matter[1, 2, 3] = True
    group = Group.of([2, 0], matter, 3)
    assert group.slots.tolist() == [2, 0]
    assert group.member.tolist() == [True, False, True]
    # A window of 4 x 4 that reaches beyond the frame, one inside, one wholly outside.
    assert group.held(_windows([0, 1, 2], [(-2, -2), (0, 0), (-1, -1)]), 4) == 1
    assert group.held(_windows([0, 2], [(1, 2), (3, 5)]), 4) == 2
    assert group.held(_windows([0, 1, 2], [(-9, 0), (0, 0), (0, 40)]), 4) == 0
    assert Group.of([1], None, 3).held(_windows([1], [(0, 0)]), 4) == math.inf


def test_what_was_found_comes_group_by_group_in_the_order_of_tiles() -> None:
    def found(cell: int) -> Matches:
        return Matches(torch.tensor([cell]), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64))

    columns = [[{0: found(1)}, {}], [{0: found(2), 1: found(3)}, {1: found(4)}]]
    cells = [[int(match.cells) for match in matches] for matches in in_order(columns, 3)]
    assert cells == [[1, 2], [3, 4], []]


def test_a_span_is_a_tile_with_the_radius_on_both_sides() -> None:
    assert Settings(radius=12, top_k=10, temperature=0.07, tile=8).span == 32
