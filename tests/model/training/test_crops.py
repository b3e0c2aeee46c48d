from __future__ import annotations

import pytest
import torch

from model.training.cells import centres, normalised
from model.training.crops import apply, correspondence, crop, invert, mirror, random_crops, zoom_of

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = torch.tensor([[200, 300], [240, 200], [400, 260], [500, 500]])
EVERYTHING = {"zoom": (0.7, 1.4), "rotation_degrees": 25.0, "shear": 0.2, "aspect": 1.3, "flip": 0.5}


def _crops(sizes: torch.Tensor = SIZES, *, size: int = 64, seed: int = 0, **options: object) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return random_crops(sizes, size=size, generator=generator, **{**EVERYTHING, **options})  # type: ignore[arg-type]


def _edges(theta: torch.Tensor) -> torch.Tensor:
    return apply(theta, torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]))


def test_a_plain_crop_is_a_window_of_the_frame() -> None:
    theta = _crops(zoom=(1.0, 1.0), rotation_degrees=0.0, shear=0.0, aspect=1.0, flip=0.0)
    torch.testing.assert_close(theta[:, :, :2], (32 * torch.eye(2)).expand(4, 2, 2))
    theta[:, :, 2] = torch.tensor([50.0, 40.0])
    frames = torch.rand(4, 3, 200, 300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(crop(frames, theta, 64), frames[:, :, 8:72, 18:82], atol=1e-4, rtol=0)


def test_crops_lie_inside_of_frames_that_hold_them() -> None:
    sizes = SIZES.repeat(50, 1)
    edges = _edges(_crops(sizes))
    assert edges.min() >= -1e-3
    assert ((sizes.flip(1)[:, None] - edges) >= -1e-3).all()


def test_crops_reach_the_whole_frame() -> None:
    theta = _crops(torch.tensor([[200, 300]]).repeat(400, 1), rotation_degrees=0.0, shear=0.0, aspect=1.0)
    edges = _edges(theta)
    assert edges.amin(dim=(0, 1)).max() < 5
    assert (torch.tensor([300.0, 200.0]) - edges.amax(dim=(0, 1))).max() < 5


def test_a_crop_that_does_not_fit_is_centred() -> None:
    theta = _crops(torch.tensor([[20, 300]]), size=64, zoom=(0.5, 0.5), rotation_degrees=0.0, shear=0.0, aspect=1.0)
    assert theta[0, 1, 2] == 10
    assert 64 <= theta[0, 0, 2] <= 236


def test_the_zoom_is_output_pixels_per_source_pixel_whatever_else_is_drawn() -> None:
    theta = _crops(SIZES.repeat(100, 1))
    area = torch.linalg.det(theta[:, :, :2])
    zoom = 32 / area.abs().sqrt()
    assert zoom.min() >= 0.7 - 1e-4
    assert zoom.max() <= 1.4 + 1e-4
    assert (zoom < 0.8).any()
    assert (zoom > 1.25).any()
    assert (area < 0).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_rotation_and_flip_by_hand() -> None:
    options = {"zoom": (2.0, 2.0), "shear": 0.0, "aspect": 1.0}
    theta = _crops(SIZES.repeat(50, 1), rotation_degrees=30.0, flip=0.0, **options)
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert 25 < angle.max() <= 30
    assert -30 <= angle.min() < -25
    mirrored = _crops(flip=1.0, rotation_degrees=0.0, **options)
    torch.testing.assert_close(mirrored[:, :, :2], torch.tensor([[-16.0, 0.0], [0.0, 16.0]]).expand(4, 2, 2))


def test_the_generator_decides_everything() -> None:
    assert torch.equal(_crops(seed=3), _crops(seed=3))
    assert not torch.equal(_crops(seed=3), _crops(seed=4))


def test_a_crop_near_another_overlaps_it() -> None:
    sizes = torch.tensor([[1000, 1000]]).repeat(200, 1)
    first = _crops(sizes, seed=1)
    second = _crops(sizes, seed=2, near=first, reach=0.5)
    centre = apply(invert(first), second[:, None, :, 2])
    assert centre.abs().max() <= 0.5 + 1e-4
    assert centre.abs().max() > 0.4
    assert correspondence(first, second, 64)[1].any(dim=1).all()
    apart = _crops(sizes, seed=2)
    assert not correspondence(first, apart, 64)[1].any(dim=1).all()


def test_an_inverse_undoes_its_map() -> None:
    theta = _crops()
    points = torch.rand(4, 10, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(apply(invert(theta), apply(theta, points)), points, atol=1e-5, rtol=0)


def test_a_crop_corresponds_to_itself_cell_by_cell() -> None:
    theta = _crops()
    locations, valid = correspondence(theta, theta, 64)
    torch.testing.assert_close(locations, centres((8, 8)).expand(4, 64, 2), atol=1e-3, rtol=0)
    assert valid.all()


def test_a_shift_by_a_cell_by_hand() -> None:
    first = torch.tensor([[[32.0, 0.0, 100.0], [0.0, 32.0, 100.0]]])
    second = first.clone()
    second[0, 0, 2] += 8  # crop 2 lies a cell further right, so everything is a cell further left in it
    second[0, 1, 2] -= 4
    locations, valid = correspondence(first, second, 64)
    torch.testing.assert_close(locations[0], centres((8, 8)) + torch.tensor([-1.0, 0.5]))
    expected = torch.ones(8, 8, dtype=torch.bool)
    expected[:, 0], expected[7] = False, False
    assert torch.equal(valid[0].view(8, 8), expected)


def test_cropping_a_coordinate_image_shows_the_map_itself() -> None:
    theta = _crops(torch.tensor([[200, 300]] * 4))
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(300) + 0.5, indexing="ij")
    seen = crop(torch.stack([x, y]).expand(4, 2, 200, 300), theta, 64)
    expected = apply(theta, normalised(centres((64, 64)), (64, 64)))
    # Within half a pixel of the frame's edge a picture has nothing to interpolate with.
    inner = ((expected > 0.5) & (expected < torch.tensor([299.5, 199.5]))).all(dim=2)
    assert inner.float().mean() > 0.95
    torch.testing.assert_close(seen.flatten(2).mT[inner], expected[inner], atol=5e-3, rtol=0)


def test_the_correspondence_is_where_both_crops_see_the_same_source_point() -> None:
    sizes = torch.tensor([[200, 300]] * 4)
    first = _crops(sizes, seed=1)
    second = _crops(sizes, seed=2, near=first)
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(300) + 0.5, indexing="ij")
    picture = torch.stack([x, y]).expand(4, 2, 200, 300)
    # What a cell shows: the mean of its 8 x 8 pixels is the source point under its centre.
    seen = [torch.nn.functional.avg_pool2d(crop(picture, theta, 64), 8) for theta in (first, second)]
    locations, valid = correspondence(first, second, 64)
    grid = normalised(locations, (8, 8)).view(4, 8, 8, 2)
    fetched = torch.nn.functional.grid_sample(seen[1], grid, align_corners=False, padding_mode="border")
    inner = valid & (seen[0].flatten(2).mT > 8).all(dim=2)
    inner &= (seen[0].flatten(2).mT < torch.tensor([292.0, 192.0])).all(dim=2)
    assert inner.sum() > 40
    torch.testing.assert_close(fetched.flatten(2).mT[inner], seen[0].flatten(2).mT[inner], atol=2e-2, rtol=0)


def test_every_frame_may_have_limits_of_its_own_for_its_zoom() -> None:
    least = torch.tensor([0.5, 1.0, 2.0, 4.0])
    theta = _crops(zoom=(least, 1.1 * least))
    zoom = zoom_of(theta, 64)
    assert ((zoom >= least - 1e-4) & (zoom <= 1.1 * least + 1e-4)).all()


def test_the_zoom_of_a_crop_by_hand() -> None:
    # Half a side of 32 output pixels shows 16 source pixels, mirrored or not.
    theta = torch.tensor([[[16.0, 0.0, 5.0], [0.0, 16.0, 9.0]], [[-16.0, 0.0, 5.0], [0.0, 16.0, 9.0]]])
    assert zoom_of(theta, 64).tolist() == [2.0, 2.0]


def test_a_mirrored_crop_shows_its_columns_the_other_way_round() -> None:
    theta = _crops(torch.tensor([[200, 300]] * 4), flip=0.0)
    frames = torch.rand(4, 3, 200, 300, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([True, False, True, False])
    plain, mirrored = crop(frames, theta, 64), crop(frames, mirror(theta, chosen), 64)
    torch.testing.assert_close(mirrored[chosen], plain[chosen].flip(3), atol=1e-4, rtol=0)
    assert torch.equal(mirrored[~chosen], plain[~chosen])
