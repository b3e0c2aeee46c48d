"""Polygons from masks: outlines with their holes, simplified to a tolerance in pixels.

The outline is traced at half height between the centres of set and unset pixels (contourpy), in the geometry of the
contracts: the centre of the top-left pixel is (0.5, 0.5). It parts the centres exactly, so that
`model.labels.raster.polygon` gives the mask back pixel for pixel. Simplifying (GEOS through shapely: Douglas and
Peucker, 1973, keeping the topology) then drops points as long as none lies further than `tolerance` from what remains.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.labels.raster import tight_box
from model.labels.types import Mask

if TYPE_CHECKING:
    from shapely import Polygon

Ring = NDArray[np.float64]
"""A closed outline, (n, 2) of x and y in pixels; the last point is not the first one again."""

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
    parts = []
    for outline in _traced(mask):
        # At 0 this only drops the points in the middle of straight lines.
        simple = outline.simplify(tolerance, preserve_topology=True)
        parts.append((_ring(simple.exterior.coords), [_ring(hole.coords) for hole in simple.interiors]))
    return parts


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
    order = [rings.pop(0)]
    while rings:  # each time the ring that is nearest, so that bridges are short
        last = order[-1][0]
        nearest = min(range(len(rings)), key=lambda k: float(np.abs(rings[k] - last).sum(axis=1).min()))
        ring = rings.pop(nearest)
        order.append(np.roll(ring, -int(np.abs(ring - last).sum(axis=1).argmin()), axis=0))
    path = [np.concatenate([ring, ring[:1]]) for ring in order]
    corners = [np.array([[b[0, 0], a[0, 1]]]) for a, b in pairwise(order)]
    there = [piece for ring, corner in zip(path[:-1], corners, strict=True) for piece in (ring, corner)] + [path[-1]]
    back = [piece for ring, corner in zip(order[-2::-1], corners[::-1], strict=True) for piece in (corner, ring[:1])]
    return np.concatenate([*there, *back])[:-1]  # the last point is the first one again


def _traced(mask: Mask) -> Iterable[Polygon]:
    import contourpy
    from shapely import Polygon

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
        rings = [placed[a:b] for a, b in pairwise(starts.tolist())]
        yield Polygon(rings[0], rings[1:])


def _ring(coordinates: Iterable[tuple[float, ...]]) -> Ring:
    return np.array(coordinates, np.float64)[:-1, :2]
