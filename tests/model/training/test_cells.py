from __future__ import annotations

import pytest
import torch

from model.training.cells import centres, corners, divergence, full_precision, mean_where, normalised

pytestmark = pytest.mark.usefixtures("one_thread")


def test_centres_run_row_by_row() -> None:
    assert centres((2, 3)).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]


def test_normalised_coordinates_put_the_edges_at_one() -> None:
    points = torch.tensor([[-0.5, -0.5], [3.5, 1.5], [1.5, 0.5], [0.0, 0.0]])
    assert normalised(points, (2, 4)).tolist() == [[-1, -1], [1, 1], [0, 0], [-0.75, -0.5]]


def test_corners_by_hand() -> None:
    indices, shares = corners(torch.tensor([[1.25, 0.5]]), (3, 4))
    assert indices.tolist() == [[1, 2, 5, 6]]
    assert shares.tolist() == [[0.375, 0.125, 0.375, 0.125]]


@pytest.mark.parametrize("point", [[-0.4, 0.0], [3.4, 2.0], [3.0, 2.4], [3.0, 2.0]])
def test_corners_at_the_border_are_the_border_cells(point: list[float]) -> None:
    indices, shares = corners(torch.tensor(point), (3, 4))
    nearest = int(indices[shares.argmax()])
    assert nearest == (0 if point[0] < 0 else 11)
    assert shares.max() == 1
    assert ((indices >= 0) & (indices < 12)).all()


def test_shares_give_the_point_back() -> None:
    points = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([6.0, 4.0])
    indices, shares = corners(points, (5, 7))
    torch.testing.assert_close((centres((5, 7))[indices] * shares[..., None]).sum(dim=1), points)


def test_divergence_is_zero_for_the_shares_themselves_and_otherwise_kl() -> None:
    shares = torch.tensor([0.5, 0.5, 0.0, 0.0])
    assert divergence(torch.tensor([0.5, 0.5, 1e-9, 1e-9]).log(), shares).item() == pytest.approx(0, abs=1e-6)
    # KL = log(0.5 / 0.25)
    assert divergence(torch.tensor([0.25, 0.25, 0.25, 0.25]).log(), shares).item() == pytest.approx(0.693147, abs=1e-5)


def test_the_mean_of_nothing_is_zero_and_has_a_gradient() -> None:
    values = torch.tensor([torch.inf, 2.0, 4.0], requires_grad=True)
    assert mean_where(values, torch.tensor([False, True, True])).item() == 3
    nothing = mean_where(values, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0
    assert values.grad is not None
    assert (values.grad == 0).all()


def test_full_precision_undoes_autocast() -> None:
    x = torch.tensor([[257.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ torch.ones(1, 1)).item() != 257
        with full_precision(x):
            assert (x @ torch.ones(1, 1)).item() == 257
