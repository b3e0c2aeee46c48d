"""From CVAT's tracks and shapes to our objects: which of them are one object, and what each says on which frame.

A track is an object. A single shape has no identity beyond its frame, so:

- Regions (masks, polygons) of one label in one group are one object, on one frame and over frames. This is CVAT's own
  convention for an object in several parts, and how it carries masks through a video: it has no tracks of masks.
- Other shapes of one label and one group are one object as long as no frame has two of them.
- Shapes without a group: where no frame has two of a label, they are one object; where they all stand on one frame,
  each is one; anything else is ambiguous and refused with the advice to group them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from app.formats.base import Imported
from app.formats.cvat_shapes import REGIONS, Shape, fault, keypoints_of, point_names, region_of
from model.errors import LabelError
from model.labels.types import MAX_OBJECT_ID

SKELETON_SUFFIX = " skeleton"
"""What the label of a skeleton ends in where its object has a region too: a label of CVAT's has one type."""


@dataclass
class Part:
    """A track, or a single shape.

    Attributes:
        label: the name of its label.
        group: its group, 0 for none.
        frames: its keyframes.
        single: whether it is a shape on one frame that says nothing about any other.
        closes: of a single shape that a tool wrote as a track, the frame of the keyframe that ends it.
        origin: whatever the caller wants to find again, such as its id in CVAT.
    """

    label: str
    group: int
    frames: dict[int, Shape]
    single: bool = False
    closes: int | None = None
    origin: Any = None

    @property
    def first(self) -> Shape:
        """Its first keyframe."""
        return self.frames[min(self.frames)]

    def shown_at(self, frame: int) -> bool:
        """Whether it is on that frame, keyframe or not."""
        if self.single:
            return frame in self.frames
        before = bisect_right(self._keyframes, frame)
        return before > 0 and not self.frames[self._keyframes[before - 1]].gone

    @cached_property
    def _keyframes(self) -> list[int]:
        return sorted(self.frames)


@dataclass
class LinkedObject:
    """Parts that are one object.

    Attributes:
        name: what it is called.
        group: the group that its parts share alone, or 0.
        parts: its tracks and shapes.
        id: 1 to 254.
    """

    name: str
    group: int
    parts: list[Part] = field(default_factory=list)
    id: int = 0


def part_of_track(label: str, group: int, frames: dict[int, Shape], step: int = 1) -> Part | None:
    """The part that a track is; None where it shows nothing.

    CVAT writes a single shape as a track that is closed on the very next frame. Read as it stands it would say that the
    object is gone there, which nobody said.

    Args:
        label: the name of its label.
        group: its group.
        frames: its keyframes.
        step: how many of the video's frames lie between two of CVAT's.
    """
    shown = [frame for frame, shape in frames.items() if not shape.gone]
    if not shown:
        return None
    if len(frames) == 2 and shown == [min(frames)] and max(frames) == shown[0] + step and _same(*frames.values()):
        return Part(label, group, {shown[0]: frames[shown[0]]}, single=True, closes=max(frames))
    return Part(label, group, dict(sorted(frames.items())))


def is_name(text: str) -> bool:
    """Whether an object or a keypoint may be called so (`app.schemas.base.Name`)."""
    return text == text.strip() and 1 <= len(text) <= 100 and text.isprintable()


def link(parts: Sequence[Part]) -> list[LinkedObject]:
    """Which parts are one object, with an id for each: its group where that can be one, else the next that is free.

    Raises:
        LabelError: `bad-annotations`, for shapes that cannot be told apart, and for more objects than a job carries.
    """
    objects = _objects(parts)
    for object_, id_ in zip(objects, _ids(objects), strict=True):
        object_.id = id_
    return sorted(objects, key=lambda object_: object_.id)


def assemble(
    objects: Sequence[LinkedObject],
    skeletons: Mapping[str, dict[str, Any]],
    *,
    width: int,
    height: int,
    frame_count: int,
) -> Imported:
    """Objects and anchors for a request.

    Args:
        objects: all of them, their frames as indices of our video.
        skeletons: by label, as `skeleton` of an object in `POST /v1/jobs`.
        width: of the frames.
        height: of the frames.
        frame_count: of the video.

    Raises:
        LabelError: `bad-annotations`, for shapes that are nothing or lie beyond the video, and where there are none.
    """
    if not objects:
        raise LabelError(
            "The annotations hold no shape that can be carried: draw a box, a polygon, a mask, points or a skeleton.",
            slug="bad-annotations",
        )
    for part in (part for object_ in objects for part in object_.parts):
        for frame, shape in part.frames.items():
            if not 0 <= frame < frame_count:
                raise fault(shape, f"frame {frame} lies beyond the video, whose last frame is {frame_count - 1}")
    declared: list[dict[str, Any]] = []
    anchors: dict[int, list[dict[str, Any]]] = {}
    for object_ in objects:
        declared.append({"id": object_.id, "name": object_.name, "skeleton": _skeleton(object_, skeletons)})
        for frame, label in _labels(object_, width, height, frame_count):
            anchors.setdefault(frame, []).append({"object": object_.id, **label})
    return Imported(declared, [{"frame": frame, "labels": labels} for frame, labels in sorted(anchors.items())])


def _objects(parts: Sequence[Part]) -> list[LinkedObject]:
    grouped: dict[tuple[int, str], list[Part]] = {}
    loose: dict[str, list[Part]] = {}
    objects: list[LinkedObject] = []
    for part in parts:
        if part.group:
            grouped.setdefault((part.group, _name(part)), []).append(part)
        elif part.single:
            loose.setdefault(part.label, []).append(part)
        else:
            objects.append(LinkedObject(part.label, 0, [part]))
    for (group, name), members in grouped.items():
        objects += _split(name, group, members)
    for label, members in loose.items():
        objects += _loose(label, members)
    order = {id(part): number for number, part in enumerate(parts)}
    return sorted(objects, key=lambda object_: order[id(object_.parts[0])])


def _split(name: str, group: int, members: list[Part]) -> list[LinkedObject]:
    """One object of a group's parts, or several where two that cannot be one are seen at once."""
    clash = _clash(members)
    if clash is None:
        return [LinkedObject(name, group, members)]
    tracks, singles = [part for part in members if not part.single], [part for part in members if part.single]
    if singles and (tracks or len({frame for part in singles for frame in part.frames}) > 1):
        raise fault(clash, f"two {name!r} in group {group} stand on one frame. Give each object a group of its own")
    return [LinkedObject(name, 0, [part]) for part in members]


def _loose(label: str, members: list[Part]) -> list[LinkedObject]:
    frames = Counter(frame for part in members for frame in part.frames)
    if max(frames.values()) == 1:
        return [LinkedObject(label, 0, members)]
    if len(frames) == 1:
        return [LinkedObject(label, 0, [part]) for part in members]
    clash = next(part.first for part in members if frames[min(part.frames)] > 1)
    raise fault(
        clash,
        f"several shapes of {label!r} stand on this frame and others on further frames, so that it is open which belong"
        " together. Group the shapes of one object in CVAT (select them, G), or draw tracks",
    )


def _clash(members: Sequence[Part]) -> Shape | None:
    """A shape that is seen together with another of its object and cannot be a part of the same one."""
    seen: dict[int, list[Shape]] = {}
    for part in members:
        for frame, shape in part.frames.items():
            if not shape.gone:
                seen.setdefault(frame, []).append(shape)
    for shapes in seen.values():
        whole = [shape for shape in shapes if shape.type in ("rectangle", "ellipse")]
        names = [name for shape in shapes if shape.type not in REGIONS for name in point_names(shape, "")]
        regions = [shape for shape in shapes if shape.type in REGIONS]
        if len(whole) > 1 or (whole and len(regions) > 1):
            return whole[-1]
        if len(set(names)) < len(names):
            return next(shape for shape in reversed(shapes) if shape.type not in REGIONS)
    return None


def _ids(objects: Sequence[LinkedObject]) -> list[int]:
    """An object's group is its id where it can be one and no other object has it; the rest take what is free."""
    if len(objects) > MAX_OBJECT_ID:
        raise LabelError(
            f"The annotations hold {len(objects)} objects; a job carries {MAX_OBJECT_ID}. Import fewer at once.",
            slug="bad-annotations",
        )
    groups = [object_.group for object_ in objects]
    taken = {group for group in groups if 1 <= group <= MAX_OBJECT_ID and groups.count(group) == 1}
    free = (id_ for id_ in range(1, MAX_OBJECT_ID + 1) if id_ not in taken)
    return [group if group in taken else next(free) for group in groups]


def _labels(object_: LinkedObject, width: int, height: int, frame_count: int) -> Iterable[tuple[int, dict[str, Any]]]:
    by_frame: dict[int, list[Shape]] = {}
    for part in object_.parts:
        for frame, shape in part.frames.items():
            by_frame.setdefault(frame, []).append(shape)
    shown = {frame: [shape for shape in shapes if not shape.gone] for frame, shapes in by_frame.items()}
    # A single shape's closing counts once the object was followed up to it: seen on the two frames before.
    ends = {
        part.closes
        for part in object_.parts
        if part.closes is not None and shown.get(min(part.frames) - (part.closes - min(part.frames)))
    }
    tracks = [part for part in object_.parts if not part.single]
    for frame in sorted(frame for frame in {*by_frame, *ends} if frame < frame_count):
        if shown.get(frame):
            yield frame, _label(object_, shown[frame], width, height)
        elif not any(part.shown_at(frame) for part in tracks):
            yield frame, {"absent": True}


def _label(object_: LinkedObject, shapes: Sequence[Shape], width: int, height: int) -> dict[str, Any]:
    regions = [shape for shape in shapes if shape.type in REGIONS]
    others = [shape for shape in shapes if shape.type not in REGIONS]
    label: dict[str, Any] = region_of(regions, width, height) if regions else {}
    points = keypoints_of(others, object_.name, width, height)
    return label | ({"keypoints": points} if points else {})


def _skeleton(object_: LinkedObject, skeletons: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    for part in object_.parts:
        if part.first.type == "skeleton":
            names = dict.fromkeys(name for shape in part.frames.values() for name, _ in shape.elements)
            known = skeletons.get(part.label)
            if known is not None and set(names) <= set(known["points"]):
                return known
            return {"points": list(names), "edges": []}
    return None


def _name(part: Part) -> str:
    skeleton = part.first.type == "skeleton" and part.label.endswith(SKELETON_SUFFIX)
    return part.label.removesuffix(SKELETON_SUFFIX) if skeleton else part.label


def _same(a: Shape, b: Shape) -> bool:
    return a.type == b.type and (a.points, [e.points for _, e in a.elements]) == (
        b.points,
        [e.points for _, e in b.elements],
    )
