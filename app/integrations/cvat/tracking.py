"""CVAT's shapes in and out of a tracker that goes picture by picture: the agent's function and the serverless tracker.

The tracker itself needs torch and lives in `worker.tracking`; this module knows only what it offers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.formats import cvat_rle
from app.formats.cvat_shapes import Shape, mask_of
from app.formats.cvat_tracks import corners, outline
from model.errors import LabelError
from model.labels import Keypoint, Label, ObjectResult, raster

SHAPE_TYPES = ("mask", "polygon", "rectangle", "points")
"""What can be tracked."""

Image = NDArray[np.uint8]


class Tracker(Protocol):
    """What is needed of `worker.tracking.Tracker`."""

    def prepare(self, image: Image) -> Any: ...
    def start(self, frame: Any, label: Label) -> Any: ...
    def step(self, frame: Any, target: Any) -> ObjectResult: ...


def load_tracker(**options: Any) -> Tracker:
    """The tracker, with its model; see `worker.tracking.load_tracker`. Only here torch comes in."""
    tracker: Tracker = import_module("worker.tracking").load_tracker(**options)
    return tracker


@dataclass
class TrackedShape:
    """One shape that is tracked.

    Attributes:
        type: of `SHAPE_TYPES`; it never changes.
        target: the tracker's own.
        points: where it was last seen, as CVAT's numbers.
    """

    type: str
    target: Any
    points: list[float] = field(default_factory=list)


def start(tracker: Tracker, frame: Any, image: Image, kind: str, points: Sequence[float]) -> TrackedShape:
    """Begins to track a shape on a picture.

    Args:
        tracker: the tracker.
        frame: the picture, prepared.
        image: the picture.
        kind: of `SHAPE_TYPES`.
        points: CVAT's numbers.

    Raises:
        LabelError: the shape cannot be used; `detail` says why.
    """
    height, width = image.shape[:2]
    shape = Shape(kind, tuple(float(value) for value in points), "The shape")
    if kind == "points":
        if len(points) < 2 or len(points) % 2:
            raise LabelError("The shape: points are pairs of x and y.", slug="bad-annotations")
        pairs = [shape.points[i : i + 2] for i in range(0, len(points), 2)]
        for x, y in pairs:
            if not (0 <= x <= width and 0 <= y <= height):
                raise LabelError(f"The shape: the point ({x:g}, {y:g}) lies outside the frame.", slug="bad-annotations")
        label = Label(1, None, keypoints=tuple(Keypoint(str(number), x, y) for number, (x, y) in enumerate(pairs)))
    elif kind in SHAPE_TYPES:
        if kind == "rectangle" and len(points) != 4:
            raise LabelError("The shape: a rectangle has four numbers, two corners.", slug="bad-annotations")
        if kind == "polygon" and (len(points) < 6 or len(points) % 2):
            raise LabelError("The shape: a polygon needs three points or more.", slug="bad-annotations")
        label = Label(1, mask_of(shape, width, height))
    else:
        raise LabelError(f"The shape: a {kind[:40]} cannot be tracked.", slug="bad-annotations")
    return TrackedShape(kind, tracker.start(frame, label), list(shape.points))


def step(tracker: Tracker, frame: Any, shape: TrackedShape) -> list[float] | None:
    """Where the shape is on the next picture, as CVAT's numbers of the same type; None where it is lost."""
    found = tracker.step(frame, shape.target)
    points = _points(found, shape)
    if points is not None:
        shape.points = points
    return points


def _points(found: ObjectResult, shape: TrackedShape) -> list[float] | None:
    if shape.type == "points":
        seen = {point.name: point for point in found.keypoints}
        if not any(point.visible for point in seen.values()):
            return None
        # CVAT wants as many points as it gave: one that is hidden stays where it was last seen.
        flat = list(shape.points)
        for number in range(len(flat) // 2):
            point = seen.get(str(number))
            if point is not None and point.visible:
                flat[2 * number : 2 * number + 2] = [point.x, point.y]
        return flat
    if found.mask is None or not found.mask.any():
        return None
    if shape.type == "mask":
        return [float(value) for value in cvat_rle.encode(found.mask)]
    if shape.type == "polygon":
        return list(outline(found.mask))
    box = raster.tight_box(found.mask)
    return None if box is None else list(corners(box))
