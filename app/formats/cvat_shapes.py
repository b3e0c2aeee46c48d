"""One CVAT shape, from XML or from its REST API, as a label of ours.

CVAT and we share one geometry: pixels, x right, y down, the top-left pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.formats import cvat_rle
from model.errors import InputError, LabelError
from model.labels import raster, rle
from model.labels.types import Mask

REGIONS = ("mask", "polygon", "rectangle", "ellipse")
_ELLIPSE_POINTS = 72


@dataclass(frozen=True)
class Shape:
    """A shape on one frame.

    Attributes:
        type: CVAT's own: `rectangle`, `polygon`, `mask`, `ellipse`, `points` or `skeleton`.
        points: CVAT's own numbers: a rectangle's two corners, an ellipse's centre and its right and top, x and y of
            every point, a mask's run lengths and box.
        where: where it stands, such as `Line 12`; begins every error.
        rotation: clockwise degrees around the centre, of rectangles and ellipses.
        outside: whether it says that the object is not on this frame.
        occluded: whether it is marked as hidden.
        elements: a skeleton's points by name.
        keypoint: what a single point is called, or None.
    """

    type: str
    points: tuple[float, ...]
    where: str
    rotation: float = 0.0
    outside: bool = False
    occluded: bool = False
    elements: tuple[tuple[str, Shape], ...] = ()
    keypoint: str | None = None

    @property
    def gone(self) -> bool:
        """Whether nothing of it is on the frame."""
        return self.outside or (self.type == "skeleton" and all(element.outside for _, element in self.elements))


def region_of(shapes: Sequence[Shape], width: int, height: int) -> dict[str, Any]:
    """The region that one or more shapes of an object on one frame make, as the field of a label; their union.

    Raises:
        LabelError: `bad-annotations`, naming where it stands, for a shape that cannot be used.
    """
    if len(shapes) == 1:
        return _region(shapes[0], width, height)
    mask = mask_of(shapes[0], width, height)
    for shape in shapes[1:]:
        mask |= mask_of(shape, width, height)
    return {"mask": rle.encode(mask)}


def mask_of(shape: Shape, width: int, height: int) -> Mask:
    """The pixels (height, width) of a region.

    Raises:
        LabelError: `bad-annotations`, where it has none on the frame or is damaged.
    """
    try:
        if shape.type == "mask":
            mask = cvat_rle.decode(shape.points, width, height)
        else:
            ring = _clipped(_ring(shape), width, height)
            mask = raster.polygon([ring], height, width) if len(ring) >= 6 else cvat_rle.decode([1, 0, 0, 0, 0], 1, 1)
    except InputError as error:
        raise fault(shape, error.detail.removesuffix(".")) from None
    if not mask.any():
        raise fault(shape, f"the {shape.type} has no pixels on the frame. Remove it, or mark it as outside")
    return mask


def keypoints_of(shapes: Sequence[Shape], label: str, width: int, height: int) -> list[dict[str, Any]]:
    """The keypoints of an object's points and skeletons on one frame, those outside left out.

    Raises:
        LabelError: `bad-annotations`, for a point beyond the frame or a name that stands twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for shape in shapes:
        for name, point in _named_points(shape, label):
            x, y = point.points[:2]
            if not (-1 <= x <= width + 1 and -1 <= y <= height + 1):
                raise fault(point, f"the point ({x:g}, {y:g}) lies outside the frame of {width} x {height} pixels")
            if name in found:
                raise fault(point, f"the point {name!r} stands twice on one frame")
            x, y = min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))
            found[name] = {"name": name, "x": x, "y": y, "visible": not point.occluded}
    return list(found.values())


def point_names(shape: Shape, label: str) -> list[str]:
    """The names of the keypoints that a shape gives."""
    return [name for name, _ in _named_points(shape, label)]


def fault(shape: Shape, detail: str) -> LabelError:
    """An error of a shape."""
    return LabelError(f"{shape.where}: {detail}.", slug="bad-annotations")


def _named_points(shape: Shape, label: str) -> list[tuple[str, Shape]]:
    if shape.type == "skeleton":
        return [(name, point) for name, point in shape.elements if not point.outside]
    pairs = [shape.points[i : i + 2] for i in range(0, len(shape.points), 2)]
    if len(pairs) == 1:
        return [(shape.keypoint or label, shape)]
    return [
        (f"point-{number}", Shape("points", pair, shape.where, occluded=shape.occluded))
        for number, pair in enumerate(pairs, start=1)
    ]


def _region(shape: Shape, width: int, height: int) -> dict[str, Any]:
    if shape.type == "mask":
        return {"mask": rle.encode(mask_of(shape, width, height))}
    if shape.type == "rectangle" and not shape.rotation:
        x0, y0, x1, y1 = shape.points
        x0, x1 = sorted((min(max(x0, 0.0), float(width)), min(max(x1, 0.0), float(width))))
        y0, y1 = sorted((min(max(y0, 0.0), float(height)), min(max(y1, 0.0), float(height))))
        if x0 == x1 or y0 == y1:
            raise fault(shape, "the box has no area on the frame")
        mask_of(
            shape, width, height
        )  # a box between two pixel centres has no pixels: said here, where the line is known
        return {"box": [x0, y0, x1 - x0, y1 - y0]}
    mask_of(shape, width, height)
    return {"polygon": [_clipped(_ring(shape), width, height)]}


def _ring(shape: Shape) -> list[tuple[float, float]]:
    """The outline of a polygon, a rectangle or an ellipse, turned by its rotation."""
    p = shape.points
    if shape.type == "polygon":
        return list(zip(p[::2], p[1::2], strict=True))
    if shape.type == "rectangle":
        ring = [(p[0], p[1]), (p[2], p[1]), (p[2], p[3]), (p[0], p[3])]
        centre = (p[0] + p[2]) / 2, (p[1] + p[3]) / 2
    else:
        centre, rx, ry = (p[0], p[1]), abs(p[2] - p[0]), abs(p[1] - p[3])
        turns = [2 * math.pi * i / _ELLIPSE_POINTS for i in range(_ELLIPSE_POINTS)]
        ring = [(centre[0] + rx * math.cos(turn), centre[1] + ry * math.sin(turn)) for turn in turns]
    if not shape.rotation:
        return ring
    cos, sin = math.cos(math.radians(shape.rotation)), math.sin(math.radians(shape.rotation))
    moved = [(x - centre[0], y - centre[1]) for x, y in ring]
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in moved]


def _clipped(ring: list[tuple[float, float]], width: int, height: int) -> list[float]:
    """The ring cut off at the frame's edges (Sutherland and Hodgman), flat."""
    for axis, limit, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        kept: list[tuple[float, float]] = []
        for i, end in enumerate(ring):
            start = ring[i - 1]
            inside, before = sign * (end[axis] - limit) >= 0, sign * (start[axis] - limit) >= 0
            if inside != before:
                share = (limit - start[axis]) / (end[axis] - start[axis])
                crossing = [start[other] + share * (end[other] - start[other]) for other in (0, 1)]
                crossing[axis] = limit
                kept.append((crossing[0], crossing[1]))
            if inside:
                kept.append(end)
        ring = kept
    size = (width, height)
    return [min(max(point[axis], 0.0), float(size[axis])) for point in ring for axis in (0, 1)]
