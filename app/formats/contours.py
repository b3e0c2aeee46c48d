"""Polygons from masks: outlines with their holes, simplified to a tolerance in pixels.

The outline is traced at half height between the centres of set and unset pixels (contourpy), in the geometry of the
contracts: the centre of the top-left pixel is (0.5, 0.5). It parts the centres exactly, so that
`model.labels.raster.polygon` gives the mask back pixel for pixel. Simplifying (Douglas and Peucker, 1973, as GEOS has
it, through shapely) then drops points as long as none lies further than `tolerance` from what remains, and no outline
crosses itself or another of its part.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.labels.raster import tight_box
from model.labels.types import Mask

Ring = NDArray[np.float64]
"""A closed outline, (n, 2) of x and y in pixels; the last point is not the first one again."""

_MOST_CHAINED = 200  # beyond that, a mask is noise, and the search for short bridges is not worth its time

Part = tuple[Ring, list[Ring]]
"""An outline and the holes in it."""


def polygons(mask: Mask, tolerance: float = 0.0) -> list[Part]:
    """The connected parts of a mask as polygons.

    Args:
        mask: (height, width) bool.
        tolerance: how far, in pixels, the outline may be from the traced one. 0 keeps every corner, and the polygons
            give exactly the mask back; a part or hole of a few pixels keeps its form whatever the tolerance.

    Returns:
        Parts from top to bottom, each an outer ring and its holes; empty for an empty mask.
    """
    if tolerance < 0:
        raise ValueError("the tolerance must not be negative")
    return [_simplified(part, tolerance) for part in _traced(mask)]


def flat(ring: Ring, decimals: int = 2) -> list[float]:
    """A ring as `[x0, y0, x1, y1, ...]`."""
    return [round(value, decimals) for value in ring.reshape(-1).tolist()]


def joined(parts: Iterable[Part]) -> Ring:
    """One ring for formats that have neither parts nor holes: all rings, joined by bridges without width.

    A bridge goes along rows and columns and back the same way, so that by the even-odd rule it encloses nothing.

    Args:
        parts: at least one.
    """
    rings = [ring for outer, holes in parts for ring in (outer, *holes)]
    order = _chained(rings) if len(rings) <= _MOST_CHAINED else rings
    path = [np.concatenate([ring, ring[:1]]) for ring in order]
    corners = [np.array([[b[0, 0], a[0, 1]]]) for a, b in pairwise(order)]
    there = [piece for ring, corner in zip(path[:-1], corners, strict=True) for piece in (ring, corner)] + [path[-1]]
    back = [piece for ring, corner in zip(order[-2::-1], corners[::-1], strict=True) for piece in (corner, ring[:1])]
    return np.concatenate([*there, *back])[:-1]  # the last point is the first one again


def _chained(rings: list[Ring]) -> list[Ring]:
    """Each ring followed by the one nearest to its first point, which then begins nearest to it: short bridges."""
    left = rings[1:]
    order = rings[:1]
    while left:
        last = order[-1][0]
        distances = [np.abs(ring - last).sum(axis=1) for ring in left]
        nearest = min(range(len(left)), key=lambda k: float(distances[k].min()))
        order.append(np.roll(left.pop(nearest), -int(distances[nearest].argmin()), axis=0))
    return order


def _traced(mask: Mask) -> Iterable[list[Ring]]:
    """The outer ring and the holes of each part."""
    import contourpy

    box = tight_box(mask)
    if box is None:
        return
    left, top = int(box[0]), int(box[1])
    inner = mask[top : top + int(box[3]), left : left + int(box[2])]
    # The frame's border is an outline too: what lies beyond it is unset.
    padded = np.pad(inner, 1).astype(np.float32)
    tracer = contourpy.contour_generator(z=padded, name="serial", fill_type=contourpy.FillType.OuterOffset)
    filled: Any = tracer.filled(0.5, 2.0)
    for these, starts in zip(*filled, strict=True):
        # Index 0 of the padded array is the centre of the pixel before the crop.
        placed = np.asarray(these, np.float64) + (left - 0.5, top - 0.5)
        yield [placed[a : b - 1] for a, b in pairwise(starts.tolist())]


def _simplified(rings: list[Ring], tolerance: float) -> Part:
    from shapely import Polygon

    for allowed in (tolerance, tolerance / 2, tolerance / 4):
        outer, *holes = (_fewer(ring, allowed) for ring in rings)
        # At 0 only the points in the middle of straight lines go, which changes nothing.
        if allowed == 0 or Polygon(outer, holes).is_valid:
            return outer, holes
    outer, *holes = (_fewer(ring, 0.0) for ring in rings)
    return outer, holes


def _fewer(ring: Ring, tolerance: float) -> Ring:
    """A ring with fewer points, in two halves between its first point and the one furthest from that."""
    import shapely

    furthest = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    halves = [ring[: furthest + 1], np.concatenate([ring[furthest:], ring[:1]])]
    simple = shapely.simplify([shapely.LineString(half) for half in halves], tolerance, preserve_topology=False)
    found = np.concatenate([shapely.get_coordinates(half)[:-1] for half in simple])
    # A few pixels keep their form.
    return found if len(found) > 2 or tolerance == 0 else _fewer(ring, 0.0)
