"""Label Studio's geometry: per cent of the picture, a rectangle turned about its top left corner."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from model.errors import InputError
from model.labels.types import Box

PAGE_ID = re.compile(r"labelprop-([0-9]{1,3})(?:-[a-z0-9]+)?")
"""Ids of regions that we write: they carry the object's id, so that it survives a round trip."""

_DECIMALS = 4
_KEYS = ("labels", "rectanglelabels", "brushlabels", "polygonlabels", "keypointlabels", "videorectanglelabels")
Point = tuple[float, float]


def page_id(object_id: int, part: str = "") -> str:
    """The id of an object's region, or of one of several parts of it (letters and digits)."""
    return f"labelprop-{object_id}" + (f"-{part}" if part else "")


def box_percent(box: Box, size: tuple[int, int]) -> dict[str, float]:
    """A box in pixels as `x`, `y`, `width`, `height` in per cent."""
    width, height = size
    x, y, w, h = box
    values = {"x": x / width, "y": y / height, "width": w / width, "height": h / height}
    return {name: round(100 * value, _DECIMALS) for name, value in values.items()}


def point_percent(x: float, y: float, size: tuple[int, int]) -> dict[str, float]:
    """A point in pixels as `x` and `y` in per cent."""
    return {"x": round(100 * x / size[0], _DECIMALS), "y": round(100 * y / size[1], _DECIMALS)}


def shape_label(value: Mapping[str, Any], size: tuple[int, int], where: str) -> dict[str, Any] | None:
    """A rectangle's `x`, `y`, `width`, `height` and `rotation` as a label's `box`, or `polygon` where it is turned.

    What lies outside the frame is cut off; None where nothing is left.

    Raises:
        InputError: `bad-annotations` for what is no rectangle.
    """
    width, height = size
    x, y, w, h = (_number(value, name, where) for name in ("x", "y", "width", "height"))
    rotation = _number(value, "rotation", where) if value.get("rotation") is not None else 0.0
    if w <= 0 or h <= 0:
        raise _bad(f"{where} has no extent: its width and height must be above 0.")
    left, top, wide, high = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    if rotation % 360 == 0:
        right, bottom = min(left + wide, width), min(top + high, height)
        left, top = max(left, 0.0), max(top, 0.0)
        if right <= left or bottom <= top:
            return None
        return {"box": [_tidy(left), _tidy(top), _tidy(right - left), _tidy(bottom - top)]}
    turn = math.radians(rotation)
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [
        (left + a * cos - b * sin, top + a * sin + b * cos) for a, b in ((0, 0), (wide, 0), (wide, high), (0, high))
    ]
    return polygon_label(corners, size)


def polygon_label(points: Iterable[Point], size: tuple[int, int]) -> dict[str, Any] | None:
    """A polygon in pixels as a label, cut off at the frame's edges; None where nothing is left."""
    ring = list(points)
    for axis, limit in enumerate(size):
        ring = _clipped(ring, axis, 0.0, 1)
        ring = _clipped(ring, axis, float(limit), -1)
    if len(ring) < 3:
        return None
    return {"polygon": [[_tidy(part) for point in ring for part in point]]}


def labels_of(result: Mapping[str, Any]) -> list[str]:
    """The labels of a result: the list in its value that is named after its type, or `labels`."""
    value = result.get("value")
    if not isinstance(value, Mapping):
        return []
    for key in (str(result.get("type")), *_KEYS):
        found = value.get(key)
        if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
            return list(found)
    return []


def _clipped(ring: list[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """One step of Sutherland and Hodgman's clipping: the part of a ring on one side of a line."""
    kept: list[Point] = []
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        inside_a, inside_b = sign * (a[axis] - limit) >= 0, sign * (b[axis] - limit) >= 0
        if inside_a:
            kept.append(a)
        if inside_a != inside_b:
            along = (limit - a[axis]) / (b[axis] - a[axis])
            other = a[1 - axis] + along * (b[1 - axis] - a[1 - axis])
            kept.append((limit, other) if axis == 0 else (other, limit))
    return kept


def _number(value: Mapping[str, Any], name: str, where: str) -> float:
    found = value.get(name)
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found) or abs(found) > 1e6:
        raise _bad(
            f"{where} has no usable `{name}`: it must be a number, in per cent of the picture (`rotation`: degrees)."
        )
    return float(found)


def _tidy(value: float) -> float:
    return round(value, 4) + 0.0


def _bad(detail: str) -> InputError:
    return InputError(detail, slug="bad-annotations")
