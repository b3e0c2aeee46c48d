from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import LabelError
from model.labels import raster


def by_the_book(rings: list[list[float]], height: int, width: int) -> np.ndarray:
    """Even-odd, one pixel and one edge at a time: crossings of the ray to the left of the centre."""
    mask = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y, inside = column + 0.5, row + 0.5, False
            for ring in rings:
                points = list(zip(ring[::2], ring[1::2], strict=True))
                for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                    if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x:
                        inside = not inside
            mask[row, column] = inside
    return mask


quarters = st.integers(0, 48).map(lambda v: v / 4)  # lands on centres and borders of pixels often


@given(st.lists(st.lists(st.tuples(quarters, quarters), min_size=3, max_size=7), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_polygon_sets_the_pixels_whose_centre_is_inside(rings: list[list[tuple[float, float]]]) -> None:
    flat = [[value for point in ring for value in point] for ring in rings]
    assert np.array_equal(raster.polygon(flat, 12, 12), by_the_book(flat, 12, 12))


@given(
    st.lists(
        st.tuples(st.floats(0, 20, allow_subnormal=False), st.floats(0, 13, allow_subnormal=False)),
        min_size=3,
        max_size=9,
    )
)
@settings(max_examples=200, deadline=None)
def test_polygon_agrees_on_arbitrary_coordinates(ring: list[tuple[float, float]]) -> None:
    flat = [[value for point in ring for value in point]]
    assert np.array_equal(raster.polygon(flat, 13, 20), by_the_book(flat, 13, 20))


def test_the_centre_of_the_first_pixel_is_at_a_half() -> None:
    around_it = [0.4, 0.4, 0.6, 0.4, 0.6, 0.6, 0.4, 0.6]
    mask = raster.polygon([around_it], 3, 4)
    assert mask[0, 0]
    assert mask.sum() == 1
    beside_it = [0.6, 0.0, 1.4, 0.0, 1.4, 1.0, 0.6, 1.0]
    assert not raster.polygon([beside_it], 3, 4).any()


def test_a_ring_inside_another_is_a_hole() -> None:
    mask = raster.polygon([[0, 0, 6, 0, 6, 6, 0, 6], [2, 2, 4, 2, 4, 4, 2, 4]], 6, 6)
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_polygons_that_share_an_edge_tile_the_frame() -> None:
    # The shared edge runs through pixel centres.
    upper = raster.polygon([[0, 0, 8, 0, 0, 8]], 8, 8)
    lower = raster.polygon([[8, 0, 8, 8, 0, 8]], 8, 8)
    assert (upper ^ lower).all()


def test_many_long_edges_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ring = np.column_stack([rng.uniform(0, 50, 300), rng.uniform(0, 40, 300)]).ravel().tolist()
    whole = raster.polygon([ring], 40, 50)
    monkeypatch.setattr(raster, "_CROSSINGS_AT_ONCE", 100)
    assert np.array_equal(raster.polygon([ring], 40, 50), whole)


@given(
    st.floats(0, 10, allow_subnormal=False),
    st.floats(0, 10, allow_subnormal=False),
    st.floats(0.01, 10, allow_subnormal=False),
    st.floats(0.01, 10, allow_subnormal=False),
)
@settings(max_examples=200, deadline=None)
def test_a_box_is_its_four_corners_as_a_polygon(x: float, y: float, w: float, h: float) -> None:
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    assert np.array_equal(raster.box(x, y, w, h, 20, 21), raster.polygon([corners], 20, 21))


def test_a_box_of_whole_pixels_is_those_pixels_and_comes_back_tight() -> None:
    mask = raster.box(3, 1, 4, 2, 6, 9)
    assert mask[1:3, 3:7].all()
    assert mask.sum() == 8
    assert raster.tight_box(mask) == (3.0, 1.0, 4.0, 2.0)


def test_a_box_to_the_very_edge_is_allowed_despite_rounding() -> None:
    assert raster.box(0.1, 0.2, 854 - 0.1, 480 - 0.2, 480, 854).all()


def test_the_tight_box_of_one_pixel_and_of_nothing() -> None:
    mask = np.zeros((5, 7), bool)
    assert raster.tight_box(mask) is None
    mask[4, 6] = True
    assert raster.tight_box(mask) == (6.0, 4.0, 1.0, 1.0)


BAD_POLYGONS: dict[str, object] = {
    "none": [],
    "null": None,
    "text": "0,0,1,1,2,2",
    "flat list": [0, 0, 4, 0, 4, 4],
    "two points": [[0, 0, 4, 4]],
    "odd": [[0, 0, 4, 0, 4, 4, 1]],
    "nan": [[0, 0, 4, math.nan, 4, 4]],
    "infinite": [[0, 0, 4, 0, 4, math.inf]],
    "huge integer": [[0, 0, 4, 0, 4, 10**400]],
    "boolean": [[0, 0, 4, True, 4, 4]],
    "text inside": [[0, 0, 4, "0", 4, 4]],
    "left of the frame": [[-0.1, 0, 4, 0, 4, 4]],
    "right of the frame": [[0, 0, 8.1, 0, 4, 4]],
    "below the frame": [[0, 0, 4, 0, 4, 6.1]],
    "second ring": [[0, 0, 4, 0, 4, 4], [1, 1]],
    "too many points": [[0, 0, 4, 0, 4, 4] * 4000],
}


@pytest.mark.parametrize("rings", BAD_POLYGONS.values(), ids=BAD_POLYGONS.keys())
def test_bad_polygons_are_refused(rings: object) -> None:
    with pytest.raises(LabelError) as caught:
        raster.polygon(rings, 6, 8)  # type: ignore[arg-type]
    assert caught.value.slug == "bad-polygon"


def test_a_polygon_along_the_whole_frame_is_allowed() -> None:
    assert raster.polygon([[0, 0, 8, 0, 8, 6, 0, 6]], 6, 8).all()


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 0, 1, 1),
        (0, 0, math.inf, 1),
        (0, 0, 0, 1),
        (0, 0, 1, -1),
        (-1, 0, 2, 2),
        (7, 0, 2, 2),
        (0, 5, 2, 2),
        ("0", 0, 1, 1),
        (True, 0, 1, 1),
    ],
)
def test_bad_boxes_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(LabelError) as caught:
        raster.box(*box, 6, 8)
    assert caught.value.slug == "bad-box"
