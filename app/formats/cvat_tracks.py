"""From results to CVAT's tracks: one per object and kind, with keyframes where the object is seen and where it ends.

CVAT shows a track from its first keyframe until one that is marked as outside, or to the end. So every run of frames on
which an object is seen is closed on the frame after, and opened again by the keyframe with which it comes back.

CVAT has no tracks of masks: its page refuses a job that holds one, and its importer keeps the first mask alone
(https://github.com/cvat-ai/cvat/issues/6264). Masks go as one shape a frame, held together by their group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from app.formats import contours, cvat_rle
from app.formats.options import DEFAULTS
from model.errors import InputError
from model.labels import FrameResult, LabelObject, ObjectResult, raster
from model.labels.types import Box

Region = Literal["mask", "polygon", "rectangle"]


@dataclass(frozen=True)
class Keyframe:
    """What a track says on one frame.

    Attributes:
        frame: the frame's index.
        type: CVAT's name of the shape.
        points: CVAT's numbers; empty for a skeleton.
        outside: True where the track ends.
        occluded: whether the point is hidden.
        elements: of a skeleton, its points by name.
    """

    frame: int
    type: str
    points: tuple[float, ...]
    outside: bool = False
    occluded: bool = False
    elements: tuple[tuple[str, Keyframe], ...] = ()


@dataclass(frozen=True)
class ObjectPlan:
    """How an object is written.

    Attributes:
        region: the type of its region's shapes, or None where it has none.
        points: the names of its keypoints.
        skeleton: whether these make a skeleton; otherwise each is a track of its own.
    """

    region: Region | None
    points: tuple[str, ...]
    skeleton: bool


@dataclass(frozen=True)
class Plan:
    """How the results are written.

    Attributes:
        objects: by id.
        start: the first frame that has results, 0 where none has.
        stop: the last one.
        step: how far they lie apart; 1 where there are fewer than two.
        places: by object, where its keypoints are on the first frame that has some.
    """

    objects: dict[int, ObjectPlan]
    start: int
    stop: int
    step: int
    places: dict[int, dict[str, tuple[float, float]]]


def plan(objects: Sequence[LabelObject], results: Iterable[FrameResult], *, polygons: bool = False) -> Plan:
    """How results are written, from one pass over them.

    An object is written in boxes where it has no mask, and where every label that a person gave of it is a box.
    """
    masks: set[int] = set()
    boxes: set[int] = set()
    outlined: set[int] = set()
    named: dict[int, dict[str, None]] = {}
    places: dict[int, dict[str, tuple[float, float]]] = {}
    frames: list[int] = []
    for object_ in objects:
        named[object_.id] = dict.fromkeys(object_.skeleton.points) if object_.skeleton is not None else {}
    for result in results:
        frames.append(result.frame)
        for found in result.objects:
            if found.keypoints:
                places.setdefault(found.object, {point.name: (point.x, point.y) for point in found.keypoints})
            named.setdefault(found.object, {}).update(dict.fromkeys(point.name for point in found.keypoints))
            if found.mask is not None:
                masks.add(found.object)
                if found.source == "anchor" and found.mask.any():
                    (boxes if _is_box(found) else outlined).add(found.object)
            elif found.box is not None:
                boxes.add(found.object)
    outline: Region = "polygon" if polygons else "mask"
    plans = {}
    for object_ in objects:
        region: Region | None = None
        if object_.id in boxes and object_.id not in outlined:
            region = "rectangle"
        elif object_.id in masks:
            region = outline
        points = tuple(named[object_.id])
        plans[object_.id] = ObjectPlan(region, points, object_.skeleton is not None)
    step = min((after - before for before, after in pairwise(frames)), default=1)
    return Plan(plans, frames[0] if frames else 0, frames[-1] if frames else 0, step, places)


class Track:
    """Collects one track, keyframe by keyframe, and closes it where nothing is there."""

    def __init__(self) -> None:
        self._open: Keyframe | None = None

    def at(self, frame: int, shape: Keyframe | None) -> Keyframe | None:
        """The keyframe that this frame needs: the shape's, the one that ends the track, or none."""
        if shape is not None:
            self._open = shape
            return shape
        return self.end(frame)

    def end(self, frame: int) -> Keyframe | None:
        """The keyframe that ends the track on `frame`; None where it does not stand open."""
        if self._open is None:
            return None
        last, self._open = self._open, None
        return replace(
            last,
            frame=frame,
            outside=True,
            elements=tuple((name, replace(point, frame=frame, outside=True)) for name, point in last.elements),
        )


def region_shape(
    found: ObjectResult, region: Region, frame: int, tolerance: float = DEFAULTS.tolerance
) -> Keyframe | None:
    """An object's region on one frame, or None where there is none; a polygon is within `tolerance` of the outline."""
    if not found.visible:
        return None
    if region == "rectangle":
        box = found.box or (None if found.mask is None else raster.tight_box(found.mask))
        return None if box is None else Keyframe(frame, region, corners(box))
    if found.mask is None or not found.mask.any():
        return None
    if region == "mask":
        return Keyframe(frame, region, tuple(cvat_rle.encode(found.mask)))
    return Keyframe(frame, region, outline(found.mask, tolerance))


def outline(mask: raster.Mask, tolerance: float = DEFAULTS.tolerance) -> tuple[float, ...]:
    """A mask as one ring `(x0, y0, x1, y1, ...)`: parts and holes are joined by bridges without width."""
    return tuple(contours.flat(contours.joined(contours.polygons(mask, tolerance))))


def point_shapes(found: ObjectResult, frame: int) -> dict[str, Keyframe]:
    """An object's keypoints on one frame; hidden ones are marked as occluded."""
    if not found.visible:
        return {}
    return {
        point.name: Keyframe(frame, "points", (point.x, point.y), occluded=not point.visible)
        for point in found.keypoints
    }


class SkeletonTrack:
    """As `Track`, of a skeleton: every keyframe holds all of its points, those that are not there as outside."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._last: dict[str, Keyframe] = {}
        self._track = Track()

    def at(self, frame: int, points: dict[str, Keyframe]) -> Keyframe | None:
        """The keyframe that this frame needs, or None."""
        if not points:
            return self._track.at(frame, None)
        # A point that was never seen needs a place all the same: that of the first one that is.
        somewhere = next(iter(points.values()))
        elements = []
        for name in self._names:
            point = points.get(name) or replace(self._last.get(name, somewhere), frame=frame, outside=True)
            elements.append((name, point))
        self._last = dict(elements)
        return self._track.at(frame, Keyframe(frame, "skeleton", (), elements=tuple(elements)))

    def end(self, frame: int) -> Keyframe | None:
        """As `Track.end`."""
        return self._track.end(frame)


def corners(box: Box) -> tuple[float, float, float, float]:
    """A box as CVAT has it: left, top, right, bottom."""
    x, y, width, height = box
    return x, y, x + width, y + height


def attributes_of(keyframe: Keyframe) -> Iterator[tuple[str, str]]:
    """A keyframe's place as attributes of an XML element."""
    points = keyframe.points
    match keyframe.type:
        case "rectangle":
            yield from zip(("xtl", "ytl", "xbr", "ybr"), (f"{value:.2f}" for value in points), strict=True)
        case "mask":
            runs, (left, top, right, bottom) = points[:-4], (int(value) for value in points[-4:])
            yield "rle", ", ".join(str(int(run)) for run in runs)
            yield "left", str(left)
            yield "top", str(top)
            yield "width", str(right - left + 1)
            yield "height", str(bottom - top + 1)
        case "polygon" | "points":
            yield "points", ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(points[::2], points[1::2], strict=True))


def _is_box(found: ObjectResult) -> bool:
    if found.mask is None or found.box is None:
        return False
    try:
        rectangle = raster.box(*found.box, *found.mask.shape)
    except InputError:
        return False
    return bool((rectangle == found.mask).all())
