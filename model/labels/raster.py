"""Polygons and boxes to masks, and masks to tight boxes, by one rule: a pixel is set iff its centre is inside.

A centre that lies exactly on an outline counts on the left and upper side and not on the right and lower side, so that
shapes which share an edge neither overlap nor leave a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.errors import LabelError
from model.labels.types import Box, Mask

_CROSSINGS_AT_ONCE = 1 << 20  # bounds the memory of a polygon with many long edges


def polygon(rings: Sequence[Sequence[float]], height: int, width: int, *, max_points: int = 10_000) -> Mask:
    """The even-odd interior of closed rings, each `[x0, y0, x1, y1, ...]` in pixels.

    Args:
        rings: at least one ring of at least three points; a ring inside another cuts a hole.
        height: of the frame.
        width: of the frame.
        max_points: refuse more points than this, all rings together.

    Returns:
        (height, width) bool. It is empty when the outline holds no pixel's centre; whether that is allowed is the
        caller's to say.

    Raises:
        LabelError: `bad-polygon` for too few or too many points, and for a coordinate that is not a finite number on
            the frame (0..width, 0..height, both ends included).
    """
    if isinstance(rings, str | bytes) or not isinstance(rings, Sequence) or not rings:
        raise _bad_polygon("A polygon is a list of rings, each a list [x0, y0, x1, y1, ...] of at least three points.")
    parsed = [_ring(ring, number, height, width) for number, ring in enumerate(rings)]
    total = sum(len(points) for points in parsed)
    if total > max_points:
        raise _bad_polygon(f"The polygon has {total} points; at most {max_points} are allowed. Send a mask instead.")
    start = np.concatenate(parsed)
    end = np.concatenate([np.roll(points, -1, axis=0) for points in parsed])
    # Edge by edge, the rows whose centre line the edge crosses; horizontal edges cross none.
    first = _first_centre(np.minimum(start[:, 1], end[:, 1]), height)
    stop = _first_centre(np.maximum(start[:, 1], end[:, 1]), height)
    crossed = stop - first
    used = crossed > 0
    start, end, first, crossed = start[used], end[used], first[used], crossed[used]
    toggles = np.zeros((height, width + 1), np.uint8)
    edges_at_once = max(1, _CROSSINGS_AT_ONCE // height)
    for i in range(0, len(start), edges_at_once):
        part = slice(i, i + edges_at_once)
        _toggle(toggles, start[part], end[part], first[part], crossed[part])
    # A pixel is inside when an odd number of crossings lies to its left.
    return np.bitwise_xor.accumulate(toggles[:, :width], axis=1).astype(np.bool_)


def box(x: float, y: float, w: float, h: float, height: int, width: int) -> Mask:
    """The filled rectangle as a mask (height, width): the pixels whose centre is inside.

    Raises:
        LabelError: `bad-box` when a value is not a finite number, a side is not positive, or the box leaves the frame.
    """
    if not all(_is_number(value) for value in (x, y, w, h)):
        raise _bad_box("A box is [x, y, width, height], four finite numbers.")
    if w <= 0 or h <= 0:
        raise _bad_box(f"A box's width and height must be above 0, not {w} and {h}.")
    slack = 1e-6  # of x + w computed in floating point
    if x < 0 or y < 0 or x + w > width + slack or y + h > height + slack:
        raise _bad_box(
            f"The box from ({x}, {y}) to ({x + w}, {y + h}) leaves the frame of {width} x {height} pixels."
            " Cut it off at the frame's edge."
        )
    mask = np.zeros((height, width), np.bool_)
    left, right = _first_centre(np.array([x, x + w]), width)
    top, bottom = _first_centre(np.array([y, y + h]), height)
    mask[top:bottom, left:right] = True
    return mask


def covered(start: float, length: float, size: int) -> slice:
    """The pixels of a row or column of `size` whose centres lie from `start` on, `length` far, on the frame; one at
    least, so that nothing small is lost."""
    first, stop = _first_centre(np.array([start, start + length]), size).tolist()
    first = min(first, size - 1)
    return slice(first, max(stop, first + 1))


def tight_box(mask: Mask) -> Box | None:
    """The smallest box around a mask's pixels, (x, y, width, height) at pixel borders; None for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    return float(left), float(top), float(right - left), float(bottom - top)


def _ring(ring: Sequence[float], number: int, height: int, width: int) -> NDArray[np.float64]:
    """One ring's points, (n, 2), checked."""
    where = f"Ring {number} of the polygon"
    if isinstance(ring, str | bytes) or not isinstance(ring, Sequence) or not all(_is_number(v) for v in ring):
        raise _bad_polygon(f"{where} must be a list [x0, y0, x1, y1, ...] of finite numbers.")
    if len(ring) % 2 or len(ring) < 6:
        raise _bad_polygon(f"{where} has {len(ring)} numbers; it needs an x and a y for at least three points.")
    points = np.array(ring, np.float64).reshape(-1, 2)
    outside = ((points < 0) | (points > (width, height))).any(axis=1)
    if outside.any():
        x, y = points[np.argmax(outside)]
        raise _bad_polygon(
            f"{where} has the point ({x:g}, {y:g}) outside the frame of {width} x {height} pixels."
            " Cut the outline off at the frame's edge."
        )
    return points


def _is_number(value: object) -> bool:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _first_centre(position: NDArray[np.float64], length: int) -> NDArray[np.intp]:
    """The index of the first pixel whose centre is at or after each position, within 0..length."""
    return np.clip(np.ceil(position - 0.5), 0, length).astype(np.intp)


def _toggle(
    toggles: NDArray[np.uint8],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    first: NDArray[np.intp],
    crossed: NDArray[np.intp],
) -> None:
    """Flips, for every row that an edge crosses, the first pixel to the right of the crossing."""
    edge = np.repeat(np.arange(len(start)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    slope = (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope[edge]
    np.bitwise_xor.at(toggles, (row, _first_centre(x, toggles.shape[1] - 1)), 1)


def _bad_polygon(detail: str) -> LabelError:
    return LabelError(detail, slug="bad-polygon")


def _bad_box(detail: str) -> LabelError:
    return LabelError(detail, slug="bad-box")
