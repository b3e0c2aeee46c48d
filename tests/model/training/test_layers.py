from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.training.cells import centres, normalised
from model.training.crops import apply, correspondence, crop, random_crops
from model.training.layers import Motion, Pieces, compose, matches, paste, random_pieces, random_places

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, CELLS = 64, 8


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _stroke(start: tuple[float, float], end: tuple[float, float], radius: float, *, present: bool = True) -> Pieces:
    return Pieces(torch.tensor([[start]]), torch.tensor([[end]]), torch.tensor([[radius]]), torch.tensor([present]))


def _place(scale: float, x: float = 0.0, y: float = 0.0, *, degrees: float = 0.0) -> Tensor:
    """From a view to a piece that is `1 / scale` of the view's half side large and has its origin at (x, y)."""
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    return torch.cat([turn, -(turn @ torch.tensor([[x], [y]]))], dim=1)[None]


def _pixels(size: int = SIZE) -> Tensor:
    return normalised(centres((size, size)), (size, size))


def test_depth_by_hand() -> None:
    piece = _stroke((-0.5, 0.0), (0.5, 0.0), 0.2)
    points = torch.tensor([[[0.0, 0.0], [0.0, 0.3], [0.6, 0.0], [0.8, 0.4], [-0.5, -0.2]]])
    torch.testing.assert_close(piece.depth(points), torch.tensor([[0.2, -0.1, 0.1, -0.3, 0.0]]), atol=1e-6, rtol=0)


def test_of_several_strokes_the_one_that_a_point_is_deepest_in_counts() -> None:
    both = Pieces(
        torch.tensor([[[-0.5, 0.0], [0.0, 0.0]]]),
        torch.tensor([[[0.5, 0.0], [0.0, 0.9]]]),
        torch.tensor([[0.2, 0.1]]),
        torch.tensor([True]),
    )
    points = torch.tensor([[[0.4, 0.1], [0.05, 0.8], [0.0, 0.0]]])
    torch.testing.assert_close(both.depth(points), torch.tensor([[0.1, 0.05, 0.2]]), atol=1e-6, rtol=0)


def test_a_point_for_a_stroke_is_a_disc() -> None:
    depth = _stroke((0.1, 0.1), (0.1, 0.1), 0.3).depth(torch.tensor([[[0.1, 0.1], [0.1, 0.5]]]))
    torch.testing.assert_close(depth, torch.tensor([[0.3, -0.1]]), atol=1e-6, rtol=0)


def test_an_absent_piece_is_nowhere() -> None:
    depth = _stroke((0.0, 0.0), (0.0, 0.0), 9.0, present=False).depth(torch.zeros(1, 1, 2))
    assert depth.item() == -math.inf


def test_random_pieces_are_present_as_often_as_wanted_and_hang_together() -> None:
    pieces = random_pieces(500, 0.3, _seeded())
    assert pieces.present.float().mean().item() == pytest.approx(0.3, abs=0.06)
    torch.testing.assert_close(pieces.starts[:, 0], -pieces.ends[:, 0])
    # Every limb begins inside of a stroke before it.
    for k in range(1, pieces.starts.shape[1]):
        before = Pieces(pieces.starts[:, :k], pieces.ends[:, :k], pieces.radii[:, :k], torch.ones(500) > 0)
        assert (before.depth(pieces.starts[:, k, None]) > 0).all()
    span = torch.cat([pieces.starts, pieces.ends], dim=1).abs().amax(dim=(1, 2))
    assert 0.5 < span.median() < 1.2
    assert not random_pieces(50, 0.0, _seeded()).present.any()
    assert random_pieces(50, 1.0, _seeded()).present.all()


def test_places_keep_to_their_motion() -> None:
    motion = Motion(zoom=(0.4, 0.8), zoom_change=1.3, rotation_degrees=20.0, shift=0.2)
    places = torch.stack(random_places(300, 3, motion, _seeded()), dim=1)
    linear = places[:, :, :, :2]
    area = torch.linalg.det(linear)
    assert (area > 0).all()  # never a mirror
    size = area.rsqrt()
    assert size.min() >= 0.4 / math.sqrt(1.3) - 1e-4
    assert size.max() <= 0.8 * math.sqrt(1.3) + 1e-4
    assert size.max() > 0.75
    assert (size.amax(dim=1) / size.amin(dim=1)).max() <= 1.3 + 1e-4
    angle = torch.rad2deg(torch.atan2(linear[:, :, 1, 0], linear[:, :, 0, 0]))
    assert 18 < angle.abs().max() <= 20 + 1e-3
    origin = -torch.linalg.solve(linear, places[:, :, :, 2:])[..., 0]  # of the piece, in the view
    assert origin.abs().max() <= 0.9 + 1e-4
    assert (origin.amax(dim=1) - origin.amin(dim=1)).max() <= 0.4 + 1e-4


def test_the_generator_decides_pieces_and_places() -> None:
    draws = [(random_pieces(4, 0.5, g), random_places(4, 2, Motion(), g)) for g in map(_seeded, (3, 3, 4))]
    assert torch.equal(draws[0][0].starts, draws[1][0].starts)
    assert torch.equal(draws[0][1][1], draws[1][1][1])
    assert not torch.equal(draws[0][0].starts, draws[2][0].starts)
    assert not torch.equal(draws[0][1][1], draws[2][1][1])


def test_composed_maps_go_through_both() -> None:
    generator = _seeded()
    outer, inner = torch.randn(5, 2, 3, generator=generator), torch.randn(5, 2, 3, generator=generator)
    points = torch.randn(5, 7, 2, generator=generator)
    torch.testing.assert_close(apply(compose(outer, inner), points), apply(outer, apply(inner, points)))


def test_paste_covers_what_depth_says() -> None:
    generator = _seeded(5)
    pieces, place = random_pieces(6, 1.0, generator), random_places(6, 1, Motion(), generator)[0]
    view, content = torch.zeros(6, 3, SIZE, SIZE), torch.ones(6, 3, SIZE, SIZE)
    share = paste(view, content, pieces, place)[:, 0].flatten(1)
    scale = torch.linalg.det(place[:, :, :2]).sqrt()[:, None]
    pixels_deep = pieces.depth(apply(place, _pixels())) / scale * SIZE / 2
    assert (share[pixels_deep > 0.5] == 1).all()
    assert (share[pixels_deep < -0.5] == 0).all()
    edge = pixels_deep.abs() < 0.5
    assert edge.sum() > 50
    torch.testing.assert_close(share[edge], pixels_deep[edge] + 0.5, atol=1e-3, rtol=0)


def test_a_pasted_disc_has_its_area_and_shows_the_content_there() -> None:
    # A radius of 0.5 in a space of half the view's size is a quarter of the half side: 8 pixels of 64.
    view, content = torch.zeros(1, 3, SIZE, SIZE), torch.rand(1, 3, SIZE, SIZE, generator=_seeded())
    place = _place(2.0, x=0.25, y=-0.5)  # its middle is at pixel (40, 16)
    disc = _stroke((0.0, 0.0), (0.0, 0.0), 0.5)
    covered = paste(view, torch.ones_like(content), disc, place)[0, 0]
    assert covered.sum().item() == pytest.approx(math.pi * 64, rel=0.01)
    assert covered[16, 40] == 1
    assert covered[16, 40 - 9] == covered[16, 40 + 8] == covered[16 + 8, 40] == 0
    pasted = paste(view, content, disc, place)
    assert torch.equal(pasted[..., 12:20, 36:44], content[..., 12:20, 36:44])


def test_an_absent_piece_leaves_the_view_as_it_was() -> None:
    view, content = torch.rand(2, 1, 3, SIZE, SIZE, generator=_seeded())
    assert torch.equal(paste(view, content, _stroke((0, 0), (0, 0), 9.0, present=False), _place(1.0)), view)


def test_matches_of_a_moved_disc_by_hand() -> None:
    # A disc 2 cells wide about the middle moves by one cell to the right over a frame that stands still.
    disc, there, here = _stroke((0, 0), (0, 0), 0.25), _place(1.0), _place(1.0, x=0.25)
    behind = centres((CELLS, CELLS))[None], torch.ones(1, CELLS * CELLS, dtype=torch.bool)
    locations, valid = matches(behind, disc, there, here, CELLS)
    locations, valid = locations.view(CELLS, CELLS, 2), valid.view(CELLS, CELLS)
    for row, column in ((3, 3), (3, 4), (4, 3), (4, 4)):  # cells of the disc go with it
        torch.testing.assert_close(locations[row, column], torch.tensor([column + 1.0, row]))
        assert valid[row, column]
    assert not valid[3, 5]  # the frame that it now hides
    assert not valid[4, 5]
    expected = torch.ones(CELLS, CELLS, dtype=torch.bool)
    expected[3:5, 5] = False
    assert torch.equal(valid, expected)
    torch.testing.assert_close(locations[0], behind[0].view(CELLS, CELLS, 2)[0])


def test_a_piece_that_leaves_the_view_has_no_match_there() -> None:
    disc = _stroke((0, 0), (0, 0), 0.25)
    behind = centres((CELLS, CELLS))[None], torch.ones(1, CELLS * CELLS, dtype=torch.bool)
    _, valid = matches(behind, disc, _place(1.0), _place(1.0, x=1.0), CELLS)
    # Half a view is four cells: its left cells arrive in the last column, its right ones beyond.
    inner = valid.view(CELLS, CELLS)[3:5, 3:5]
    assert inner.tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_that_a_search_by_colour_finds(seed: int) -> None:
    """Two layers whose colours tell their own coordinates, in two views; every pixel of the second is looked at."""
    count, generator = 20, _seeded(seed)
    sizes = torch.tensor([[300, 300]]).expand(count, 2)
    first = random_crops(sizes, size=SIZE, zoom=(0.8, 1.2), rotation_degrees=20.0, generator=generator)
    second = random_crops(sizes, size=SIZE, zoom=(0.8, 1.2), near=first, reach=0.3, generator=generator)
    pieces = random_pieces(count, 1.0, generator)
    places = random_places(count, 2, Motion(), generator)
    views = []
    for theta, place in zip((first, second), places, strict=True):
        # Of the frame its coordinates in units of 100 pixels, of the piece its own; the third channel tells them apart.
        frame = torch.cat([apply(theta, _pixels()) / 100, torch.zeros(count, SIZE * SIZE, 1)], dim=2)
        piece = torch.cat([apply(place, _pixels()), torch.full((count, SIZE * SIZE, 1), 9.0)], dim=2)
        frame, piece = (layer.mT.reshape(count, 3, SIZE, SIZE) for layer in (frame, piece))
        views.append(paste(frame, piece, pieces, place))
    locations, valid = matches(correspondence(first, second, SIZE), pieces, *places, CELLS)
    # A cell's centre lies between four pixels.
    seen = F.avg_pool2d(views[0][:, :, 3:, 3:], 2, stride=8).flatten(2).mT
    pure = ((seen[..., 2] - 4.5).abs() > 4.4).view(count, CELLS, CELLS)
    distance = torch.cdist(seen, views[1].flatten(2).mT)  # (B, cells, pixels)
    nearest, at = distance.min(dim=2)
    # What a pixel is in each layer's coordinates, in the second view.
    step = torch.where(
        seen[..., 2] > 4.5,
        torch.linalg.det(places[1][:, :, :2]).abs().sqrt()[:, None] * 2 / SIZE,
        torch.linalg.det(second[:, :, :2]).abs().sqrt()[:, None] * 2 / SIZE / 100,
    )
    found = (torch.stack([at % SIZE, at // SIZE], dim=2) + 0.5) / 8 - 0.5
    sure = pure.flatten(1) & valid
    assert sure.sum() > 100
    error = (found - locations).norm(dim=2)
    right = (error < 0.2) & (nearest < 1.5 * step)
    # Those at an edge of the piece may be a mixture of both layers in the second view.
    assert right[sure].float().mean() > 0.97
    assert error[sure & (nearest < 1.5 * step)].max() < 0.2
    # And where there is said to be no match, none is found but at an edge or in the half cell about the view.
    outside = ((locations < 0) | (locations > CELLS - 1)).any(dim=2)
    refused = pure.flatten(1) & ~valid & ~outside
    assert refused.sum() > 5
    assert (nearest[refused] > 0.7 * step[refused]).float().mean() > 0.85


def test_a_pasted_piece_moves_with_the_picture_that_it_shows() -> None:
    """Through `compose`, as the sampler does it: a matching cell of the piece shows the same content in both views."""
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    picture = torch.stack([x, y, torch.zeros_like(x)])[None]
    source = torch.tensor([[[60.0, 0.0, 100.0], [0.0, 60.0, 100.0]]])  # from the piece's space to that picture
    pieces, generator = _stroke((-0.4, 0.0), (0.4, 0.2), 0.5)[torch.zeros(8, dtype=torch.int64)], _seeded(2)
    places = random_places(8, 2, Motion(shift=0.1), generator)
    blank = torch.full((8, 3, SIZE, SIZE), -500.0)
    pictures, sources = picture.expand(8, -1, -1, -1), source.expand(8, 2, 3)
    views = [paste(blank, crop(pictures, compose(sources, place), SIZE), pieces, place) for place in places]
    behind = torch.zeros(8, CELLS * CELLS, 2), torch.zeros(8, CELLS * CELLS, dtype=torch.bool)
    locations, valid = matches(behind, pieces, *places, CELLS)
    original = F.avg_pool2d(views[0][:, :, 3:, 3:], 2, stride=8).flatten(2).mT
    grid = normalised(locations, (CELLS, CELLS)).view(8, CELLS, CELLS, 2)
    fetched = F.grid_sample(views[1], grid, align_corners=False).flatten(2).mT
    inner = valid & (original[..., 2] == 0) & (fetched[..., 2] == 0)  # not at an edge in either view
    assert inner.sum() > 30
    assert inner.sum() > 0.6 * valid.sum()
    torch.testing.assert_close(fetched[inner], original[inner], atol=0.05, rtol=0)
