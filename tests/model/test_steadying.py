from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.steadying import OUTSIDE, on_object, steadied

ROWS, COLUMNS = 20, 30


def _spot(row: float, column: float, height: float = 1.0) -> Tensor:
    """(cells, 1): a keypoint's Gaussian."""
    y = (torch.arange(ROWS) - row) ** 2
    x = (torch.arange(COLUMNS) - column) ** 2
    return height * torch.exp(-(y[:, None] + x) * 2).reshape(-1, 1)


def _place(cells: Tensor) -> tuple[float, float]:
    """The mean (row, column) of a map."""
    share = cells[:, 0] / cells.sum()
    index = torch.arange(len(share))
    return float((share * (index // COLUMNS)).sum()), float((share * (index % COLUMNS)).sum())


def test_of_two_alike_the_near_one_counts() -> None:
    found = steadied(_spot(10, 8) + _spot(10, 22), _spot(10, 9), COLUMNS, 2.5)
    assert _place(found) == pytest.approx((10, 8), abs=0.2)


def test_mass_stays_so_confidence_does() -> None:
    arrived = _spot(10, 8, 0.3) + _spot(10, 22, 0.3)
    assert float(steadied(arrived, _spot(10, 9), COLUMNS, 2.5).sum()) == pytest.approx(float(arrived.sum()), rel=1e-4)


def test_a_single_spot_is_hardly_drawn_back() -> None:
    found = steadied(_spot(10, 12), _spot(10, 9), COLUMNS, 2.5)
    assert _place(found) == pytest.approx((10, 12), abs=0.25)


def test_what_is_far_away_and_nowhere_else_has_come_back_there() -> None:
    found = steadied(_spot(3, 28), _spot(16, 2), COLUMNS, 2.5)
    torch.testing.assert_close(found, _spot(3, 28), atol=1e-3, rtol=0)


def test_a_keypoint_that_was_nowhere_stays_as_it_arrived() -> None:
    arrived = _spot(10, 8) + _spot(10, 22)
    torch.testing.assert_close(steadied(arrived, torch.zeros_like(arrived), COLUMNS, 2.5), arrived)


def test_nothing_arrived_and_nothing_comes_of_it() -> None:
    nothing = torch.zeros(ROWS * COLUMNS, 1)
    assert not steadied(nothing, _spot(10, 9), COLUMNS, 2.5).any()


def test_keypoints_do_not_touch_each_other_and_shares_stay_shares() -> None:
    arrived = torch.cat([_spot(10, 8) + _spot(10, 22), torch.full((ROWS * COLUMNS, 1), 0.5)], dim=1)
    before = torch.cat([_spot(10, 9), _spot(4, 4)], dim=1)
    found = steadied(arrived, before, COLUMNS, 2.5)
    torch.testing.assert_close(found[:, :1], steadied(arrived[:, :1], before[:, :1], COLUMNS, 2.5))
    assert float(found.max()) <= 1
    assert float(found.min()) >= 0


def test_a_frame_of_a_few_cells() -> None:
    before = torch.tensor([[1.0], [0.0]])
    assert steadied(torch.tensor([[0.5], [0.5]]), before, 2, 0.5)[0, 0] > 0.6


class TestOnObject:
    def test_of_two_alike_the_one_on_the_object_counts(self) -> None:
        region = torch.zeros(ROWS, COLUMNS)
        region[5:15, 4:12] = 1
        arrived = _spot(10, 8) + _spot(10, 22)
        found = on_object(arrived, region.reshape(-1, 1), torch.ones(1))
        kept = 2 / (1 + OUTSIDE)
        torch.testing.assert_close(found, (kept * (_spot(10, 8) + OUTSIDE * _spot(10, 22))).clamp(max=1))

    def test_where_its_object_is_nowhere_it_stays_as_it_arrived(self) -> None:
        arrived = _spot(10, 8) + _spot(3, 22, 0.4)
        torch.testing.assert_close(on_object(arrived, torch.zeros_like(arrived), torch.ones(1)), arrived)

    def test_one_that_lies_beside_its_object_stays_as_it_arrived(self) -> None:
        arrived = torch.cat([_spot(10, 8) + _spot(3, 22, 0.4)] * 2, dim=1)
        region = torch.cat([_spot(10, 8)] * 2, dim=1)
        found = on_object(arrived, region, torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(found[:, 0], arrived[:, 0])
        assert float(found[3 * COLUMNS + 22, 1]) < 0.1

    def test_nothing_arrived_and_nothing_comes_of_it(self) -> None:
        nothing = torch.zeros(ROWS * COLUMNS, 1)
        assert not on_object(nothing, _spot(10, 9), torch.ones(1)).any()
