from __future__ import annotations

import pytest
import torch

from model.training.cells import centres
from model.training.concentration import _windows, concentration_loss, spread

pytestmark = pytest.mark.usefixtures("one_thread")


def test_spread_by_hand() -> None:
    # Two windows of two cells: x at 0 and 2 about 1, and twice 5. Over 4 cells and 2 axes: (1 + 1) / 8.
    places = torch.tensor([[[0.0, 3.0], [2.0, 3.0], [5.0, 3.0], [5.0, 3.0]]])
    assert spread(places, (1, 4), window=2).item() == 0.25


def test_a_shift_of_each_window_as_a_whole_changes_nothing() -> None:
    size = (16, 16)
    places = centres(size)[None]
    y, x = centres(size)[:, 1] // 8, centres(size)[:, 0] // 8
    moved = places + torch.stack([x * 7, y * -3], dim=1)
    torch.testing.assert_close(spread(moved, size), spread(places, size))
    # Within a window of 8, each axis has the variance (64 - 1) / 12.
    assert spread(places, size).item() == pytest.approx(5.25)


@pytest.mark.parametrize(
    ("size", "sides"), [((20, 32), ([10], [8])), ((13, 4), ([6, 7], [4])), ((3, 60), ([3], [7, 8]))]
)
def test_sides_that_are_no_multiple_have_windows_of_nearly_one_size(
    size: tuple[int, int], sides: tuple[list[int], list[int]]
) -> None:
    index = _windows(size, 8, torch.device("cpu")).view(size)
    for row, allowed in ((index[:, 0], sides[0]), (index[0], sides[1])):
        assert sorted(set(row.unique_consecutive(return_counts=True)[1].tolist())) == allowed
    assert index.unique().numel() == index.max() + 1


def test_both_directions_are_added() -> None:
    # A sharp identity over 2 x 2 cells, one window: x and y are -0.5 or 0.5 about 0, so 0.25 in each direction.
    scores = torch.eye(4)[None] * 100
    assert concentration_loss(scores, (2, 2), (2, 2)).item() == pytest.approx(0.5)
    # All reference cells on one target cell: there it is together, and the other three cells see all of the reference
    # (uniform, its middle) as do those that matched.
    scores = torch.zeros(1, 4, 4)
    scores[:, :, 0] = 100
    assert concentration_loss(scores, (2, 2), (2, 2)).item() == pytest.approx(0)


def test_the_gradient_reaches_the_scores_and_brings_a_window_together() -> None:
    scores = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = concentration_loss(scores, (4, 4), (8, 8))
    loss.backward()
    assert scores.grad is not None
    assert (scores.grad.abs().sum(dim=2) > 0).all()
    with torch.no_grad():
        assert concentration_loss(scores - 20 * scores.grad, (4, 4), (8, 8)) < loss
