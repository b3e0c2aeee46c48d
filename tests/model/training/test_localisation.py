from __future__ import annotations

import pytest
import torch

from model.training.cells import centres
from model.training.localisation import boxes, coordinates, crop
from model.training.transport import over_target

pytestmark = pytest.mark.usefixtures("one_thread")


def _spread(left: float, top: float, width: float, height: float, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    """(1, N, 2) cells' centres spread evenly over a box."""
    unit = (centres(size) + 0.5) / torch.tensor([size[1], size[0]])
    return (torch.tensor([left, top]) + unit * torch.tensor([width, height]))[None]


def test_soft_argmax_by_hand() -> None:
    weights = torch.tensor([[[0.5, 0.0, 0.0, 0.0, 0.25, 0.25]]])  # of 2 x 3 cells: (0, 0), (1, 1) and (2, 1)
    assert coordinates(weights, (2, 3)).tolist() == [[[0.75, 0.5]]]


def test_soft_argmax_keeps_its_precision_under_autocast() -> None:
    weights = torch.zeros(1, 1, 80 * 80)
    weights[0, 0, 79 * 80 + 77] = 0.75
    weights[0, 0, 79 * 80 + 78] = 0.25
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert coordinates(weights, (80, 80)).tolist() == [[[77.25, 79]]]


@pytest.mark.parametrize(("width", "height"), [(8.0, 8.0), (12.0, 5.0), (20.25, 3.5)])
def test_the_box_of_an_even_spread_is_exactly_as_wide(width: float, height: float) -> None:
    box = boxes(_spread(5.0, 7.0, width, height), (40, 40))
    torch.testing.assert_close(box, torch.tensor([[5.0, 7.0, 5.0 + width, 7.0 + height]]))


def test_an_identical_match_gives_the_whole_frame() -> None:
    assert boxes(centres((6, 8))[None], (6, 8)).tolist() == [[-0.5, -0.5, 7.5, 5.5]]


def test_an_estimated_box_is_cut_at_the_frame() -> None:
    box = boxes(_spread(-4.0, 30.0, 10.0, 20.0), (40, 50))
    torch.testing.assert_close(box, torch.tensor([[-0.5, 30.0, 6.0, 39.5]]))


def test_a_collapsed_match_has_a_box_of_one_cell() -> None:
    assert boxes(torch.tensor([[[3.0, 4.0]] * 5]), (8, 8)).tolist() == [[2.5, 3.5, 3.5, 4.5]]


def test_a_fixed_box_keeps_its_side_and_moves_inside() -> None:
    box = boxes(_spread(2.0, 2.0, 1.0, 1.0), (40, 40), scale="fixed", side=(8, 6))
    torch.testing.assert_close(box, torch.tensor([[-0.5, -0.5, 5.5, 7.5]]))
    box = boxes(_spread(18.0, 38.0, 2.0, 1.0), (40, 40), scale="fixed", side=(8, 6))
    torch.testing.assert_close(box, torch.tensor([[16.0, 31.5, 22.0, 39.5]]))
    box = boxes(_spread(2.0, 2.0, 1.0, 1.0), (4, 10), scale="fixed", side=(8, 6))
    torch.testing.assert_close(box, torch.tensor([[-0.5, -0.5, 5.5, 3.5]]))
    with pytest.raises(ValueError, match="side"):
        boxes(_spread(2.0, 2.0, 1.0, 1.0), (40, 40), scale="fixed")


def test_a_crop_of_whole_cells_is_those_cells() -> None:
    maps = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    got = crop(maps, torch.tensor([[2.5, 3.5, 6.5, 8.5]]), (5, 4))
    torch.testing.assert_close(got, maps[:, :, 4:9, 3:7], atol=1e-5, rtol=0)


def test_a_crop_of_a_ramp_is_exact_at_any_place_and_scale() -> None:
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    maps = torch.stack([x, y])[None]
    got = crop(maps, torch.tensor([[3.3, 2.1, 19.9, 14.7]]), (7, 5))
    place = torch.tensor([3.3, 2.1]) + (centres((7, 5)) + 0.5) / torch.tensor([5, 7]) * torch.tensor([16.6, 12.6])
    torch.testing.assert_close(got.flatten(2)[0].T, place, atol=1e-4, rtol=0)


def test_the_same_box_cuts_features_and_pixels() -> None:
    pixels = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[0.5, 1.5, 4.5, 4.5], [2.5, -0.5, 6.5, 2.5]])
    got = crop(pixels, box, (24, 32), size=(8, 10))
    torch.testing.assert_close(got[0], pixels[0, :, 16:40, 8:40], atol=1e-4, rtol=0)
    torch.testing.assert_close(got[1], pixels[1, :, 0:24, 24:56], atol=1e-4, rtol=0)


def test_autocast_moves_no_crop() -> None:
    maps, box = torch.rand(1, 2, 80, 80), torch.tensor([[20.3, 11.7, 52.3, 43.7]])
    exact = crop(maps, box, (32, 32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(crop(maps, box, (32, 32)), exact)


def test_the_gradient_goes_through_the_centre_and_not_the_extent() -> None:
    scores = torch.randn(1, 16, 400, generator=torch.Generator().manual_seed(0)).requires_grad_()
    box = boxes(coordinates(over_target(scores), (20, 20)), (20, 20))
    (width,) = torch.autograd.grad((box[:, 2:] - box[:, :2]).sum(), scores, retain_graph=True)
    assert width.abs().max() < 1e-6
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    maps = torch.stack([x * x, y])[None].requires_grad_()
    crop(maps, box, (4, 4)).sum().backward()
    assert scores.grad is not None
    assert maps.grad is not None
    assert scores.grad.abs().sum() > 1e-3
    assert maps.grad.abs().sum() > 0
