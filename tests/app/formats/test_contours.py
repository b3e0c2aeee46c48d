from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.formats import contours
from model.labels import raster
from model.rendered import RenderedClip

MASKS = npst.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def filled(parts: list[contours.Part], shape: tuple[int, int]) -> np.ndarray:
    rings = [contours.flat(ring) for outer, holes in parts for ring in (outer, *holes)]
    return raster.polygon(rings, *shape) if rings else np.zeros(shape, bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_without_tolerance_the_mask_comes_back_pixel_for_pixel(mask: np.ndarray) -> None:
    parts = contours.polygons(mask)
    assert np.array_equal(filled(parts, mask.shape), mask)
    if parts:
        assert np.array_equal(raster.polygon([contours.flat(contours.joined(parts))], *mask.shape), mask)


@settings(max_examples=100, deadline=None)
@given(MASKS, st.sampled_from([0.25, 0.5, 1.0, 3.0]))
def test_no_point_of_the_outline_is_further_away_than_the_tolerance(mask: np.ndarray, tolerance: float) -> None:
    from shapely import LinearRing, Point, Polygon

    exact, simple = contours.polygons(mask), contours.polygons(mask, tolerance)
    assert len(exact) == len(simple)
    for (outer, holes), (outer_s, holes_s) in zip(exact, simple, strict=True):
        assert len(holes) == len(holes_s)
        assert Polygon(outer_s, holes_s).is_valid
        for ring, ring_s in zip([outer, *holes], [outer_s, *holes_s], strict=True):
            assert len(ring_s) <= len(ring)
            line = LinearRing(ring_s)
            assert max(line.distance(Point(at)) for at in ring) <= tolerance + 1e-9


def test_parts_and_holes_are_told_apart() -> None:
    mask = np.zeros((12, 20), bool)
    mask[1:9, 1:9] = True
    mask[3:6, 3:6] = False
    mask[4, 4] = True
    mask[2:10, 12:19] = True
    found = contours.polygons(mask)
    assert sorted(len(holes) for _, holes in found) == [0, 0, 1]
    square = next(outer for outer, holes in found if not holes and len(outer) == 8 and outer[:, 0].min() == 12)
    # The outline runs on the pixels' borders and cuts the corners half a pixel off.
    assert sorted(map(tuple, square.tolist()))[:2] == [(12, 2.5), (12, 9.5)]


def test_the_frame_is_an_edge_and_an_empty_mask_has_no_outline() -> None:
    ((outer, holes),) = contours.polygons(np.ones((3, 4), bool))
    assert holes == []
    assert (outer.min(axis=0).tolist(), outer.max(axis=0).tolist()) == ([0, 0], [4, 3])
    assert contours.polygons(np.zeros((3, 4), bool)) == []


@pytest.mark.parametrize(("tolerance", "least", "points"), [(0.5, 0.98, 120), (1.0, 0.92, 80), (2.0, 0.84, 60)])
def test_rendered_objects_keep_their_form(clip: RenderedClip, tolerance: float, least: float, points: int) -> None:
    for frame in (0, 5, 11):
        for object_ in (1, 2):
            mask = clip.mask(frame) == object_
            parts = contours.polygons(mask, tolerance)
            assert iou(filled(parts, mask.shape), mask) > least
            assert sum(len(outer) + sum(map(len, holes)) for outer, holes in parts) < points


def test_a_negative_tolerance_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="negative"):
        contours.polygons(np.ones((2, 2), bool), -1)
