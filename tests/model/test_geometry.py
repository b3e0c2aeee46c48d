from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.geometry import Grid

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = [(64, 48), (17, 9), (16, 16), (1, 1), (3, 200), (65, 33), (100, 75)]


def _ramp(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])


@pytest.mark.parametrize(
    ("size", "working", "expected"),
    [
        ((854, 480), 480, (854, 480, 107, 60)),
        ((480, 854), 480, (480, 854, 60, 107)),
        ((1920, 1080), 480, (853, 480, 107, 60)),
        ((1921, 1081), 480, (853, 480, 107, 60)),
        ((320, 240), 480, (320, 240, 40, 30)),  # never enlarged
        ((17, 9), 480, (17, 9, 3, 2)),
        ((1, 1), 480, (1, 1, 2, 2)),
        ((65, 49), 480, (65, 49, 9, 7)),
        ((640, 480), 64, (85, 64, 11, 8)),
    ],
)
def test_the_short_side_fits_and_cells_cover_the_frame(
    size: tuple[int, int], working: int, expected: tuple[int, int, int, int]
) -> None:
    grid = Grid.fit(*size, working)
    assert (grid.working_width, grid.working_height, grid.columns, grid.rows) == expected


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_images_are_padded_right_and_below_by_replication_and_nothing_else(width: int, height: int) -> None:
    image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
    grid = Grid.fit(width, height, 480)
    padded = grid.image(image)
    assert padded.shape == (1, 3, 8 * grid.rows, 8 * grid.columns)
    rows = torch.arange(8 * grid.rows).clamp(max=height - 1)
    columns = torch.arange(8 * grid.columns).clamp(max=width - 1)
    assert torch.equal(padded[0].permute(1, 2, 0), image[rows][:, columns].float())


def test_bytes_are_exact_in_bfloat16() -> None:
    image = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).expand(16, 16, 3).contiguous()
    assert torch.equal(Grid.fit(16, 16, 480).image(image, torch.bfloat16).float(), Grid.fit(16, 16, 480).image(image))


def test_a_larger_video_is_reduced_without_shift_or_squeeze() -> None:
    grid = Grid.fit(200, 120, 60)
    ramp = (_ramp(120, 200) * torch.tensor([1.0, 2.0])[:, None, None]).floor().byte()
    image = torch.stack([ramp[0], ramp[1], ramp[0]], dim=2)
    reduced = grid.image(image)[0, :, :60, :100]
    expected = _ramp(60, 100) * 2 * torch.tensor([1.0, 2.0])[:, None, None]
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(reduced[:2][inner] + 0.5, expected[inner], atol=1.01)
    assert float((reduced[:2][inner] + 0.5 - expected[inner]).mean().abs()) < 0.6


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_labels_are_averaged_over_the_cells_area(width: int, height: int) -> None:
    grid = Grid.fit(width, height, 480)
    maps = torch.rand(2, height, width)
    found = grid.cells(maps)
    assert found.shape == (2, grid.rows, grid.columns)
    padded = np.pad(maps.double().numpy(), ((0, 0), (0, 8 * grid.rows - height), (0, 8 * grid.columns - width)), "edge")
    expected = padded.reshape(2, grid.rows, 8, grid.columns, 8).mean(axis=(2, 4))
    assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_reduced_labels_keep_their_total_area() -> None:
    grid = Grid.fit(256, 128, 64)  # 2 x 2 pixels become one, and 16 x 16 a cell
    maps = (torch.rand(1, 128, 256) < 0.3).float()
    expected = maps.reshape(1, 8, 16, 16, 16).mean(dim=(2, 4))
    assert torch.allclose(grid.cells(maps), expected, atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (17, 9), (65, 33), (16, 16)])
def test_upsampling_is_the_usual_bilinear_one(width: int, height: int) -> None:
    grid = Grid.fit(width, height, 480)
    cells = torch.rand(grid.rows, grid.columns)
    whole = F.interpolate(cells[None, None], scale_factor=8, mode="bilinear", align_corners=False)[0, 0]
    assert torch.allclose(grid.pixels(cells), whole[:height, :width], atol=1e-6)


def test_upsampling_a_reduced_video_goes_straight_to_its_pixels() -> None:
    grid = Grid.fit(300, 200, 64)
    cells = torch.rand(grid.rows, grid.columns)
    x = (np.arange(300) + 0.5) * grid.working_width / 300 / 8 - 0.5
    y = (np.arange(200) + 0.5) * grid.working_height / 200 / 8 - 0.5
    along = np.stack([np.interp(x, np.arange(grid.columns), row) for row in cells.numpy()])
    expected = np.stack([np.interp(y, np.arange(grid.rows), column) for column in along.T], axis=1)
    assert np.allclose(grid.pixels(cells).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("width", "height"), [*SIZES, (4, 4), (300, 200)])
def test_support_is_where_the_pixels_are_not_zero(width: int, height: int) -> None:
    grid = Grid.fit(width, height, 64)
    for row, column in itertools.product(range(grid.rows), range(grid.columns)):
        cells = torch.zeros(grid.rows, grid.columns)
        cells[row, column] = 0.5
        whole = grid.pixels(cells)
        support = grid.support(cells)
        if support is None:
            assert not whole.any()
            continue
        y, x, values = support
        assert torch.allclose(whole[y, x], values, atol=1e-7)
        whole[y, x] = 0
        assert not whole.any()
    assert grid.support(torch.zeros(grid.rows, grid.columns)) is None


def test_support_of_many_cells() -> None:
    grid = Grid.fit(100, 75, 480)
    cells = torch.zeros(grid.rows, grid.columns)
    cells[2, 3], cells[6, 9] = 0.25, 1.0
    support = grid.support(cells)
    assert support is not None
    whole = grid.pixels(cells)
    assert torch.allclose(whole[support[0], support[1]], support[2], atol=1e-7)
    assert torch.allclose(support[2].sum(), whole.sum())


@pytest.mark.parametrize(("width", "height", "working"), [(64, 48, 480), (65, 33, 480), (300, 200, 64), (17, 9, 480)])
def test_points_go_to_cells_and_back(width: int, height: int, working: int) -> None:
    grid = Grid.fit(width, height, working)
    for x, y in ((0.0, 0.0), (0.5, 0.5), (width / 3, height / 7), (width, height)):
        assert grid.to_pixel(*grid.to_cell(x, y)) == pytest.approx((x, y), abs=1e-9)


def test_points_and_maps_agree() -> None:
    # Where a ramp over pixels has its value is where `to_cell` says the pixel lies.
    grid = Grid.fit(128, 96, 480)
    cells = grid.cells(_ramp(96, 128))
    assert grid.to_cell(float(cells[0, 5, 7]), float(cells[1, 5, 7])) == pytest.approx((7, 5), abs=1e-5)
    assert grid.to_cell(4, 12) == (0.0, 1.0)  # the centre of the first cell is pixel coordinate 4
