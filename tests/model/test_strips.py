from __future__ import annotations

import numpy as np
import pytest
import torch

from model.strips import Strip

pytestmark = pytest.mark.usefixtures("one_thread")
TILE, SPAN = 2, 6


def _window(keys: torch.Tensor, slots: list[int], at: np.ndarray) -> torch.Tensor:
    parts = [keys[slot, y : y + SPAN, x : x + SPAN] for slot, (y, x) in zip(slots, at.tolist(), strict=True)]
    return torch.stack(parts, dim=1).flatten(0, 2)


def test_every_window_is_what_its_frames_show() -> None:
    keys = torch.randn(3, 24, 20, 4, generator=torch.Generator().manual_seed(0))
    strip = Strip(keys, TILE, SPAN)
    base = np.array([[1, 2], [5, 3], [0, 9]])
    tiles: list[tuple[int, int, list[int], tuple[int, int]]] = [
        # row, column, slots, and where the windows lie beside those of a still picture
        (0, 0, [0, 1, 2], (0, 0)),
        (1, 0, [0, 1, 2], (0, 0)),
        (3, 0, [0, 1, 2], (0, 0)),  # one left out
        (4, 0, [0, 1, 2], (1, 0)),  # another object's, which moved otherwise
        (5, 0, [0, 1], (1, 0)),  # fewer slots
        (6, 0, [0, 1], (1, 0)),
        (0, 1, [0, 1], (0, 2)),
        (6, 1, [0, 1], (0, 2)),  # so far below that nothing is shared
    ]
    for row, column, slots, beside in tiles:
        at = base[slots] + (row * TILE, 0) + beside
        assert torch.equal(strip.window(np.array(slots), at, row, column), _window(keys, slots, at)), (row, column)


def test_a_window_at_the_frames_end_stops_while_tiles_go_on() -> None:
    keys = torch.randn(1, 20, 8, 4, generator=torch.Generator().manual_seed(0))
    strip = Strip(keys, TILE, SPAN)
    for row, y in enumerate((10, 12, 14, 14)):
        at = np.array([[y, 1]])
        assert torch.equal(strip.window(np.array([0]), at, row, 0), _window(keys, [0], at))


def test_frames_that_changed_are_gathered_anew() -> None:
    keys = torch.randn(1, 14, 8, 4, generator=torch.Generator().manual_seed(0))
    strip, at = Strip(keys, TILE, SPAN), np.array([[0, 0]])
    strip.window(np.array([0]), at, 0, 0)
    keys += 1
    strip.forget()
    assert torch.equal(strip.window(np.array([0]), at, 0, 0), _window(keys, [0], at))
