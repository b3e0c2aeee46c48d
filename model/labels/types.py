"""The label types: what a person gives on a frame, and what the model answers for a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import LabelError

Mask = NDArray[np.bool_]
"""A boolean array (height, width); True where the object is."""

Box = tuple[float, float, float, float]
"""(x, y, width, height) in pixels."""

Colour = tuple[int, int, int]
"""(red, green, blue), each 0..255."""

Source = Literal["anchor", "propagated"]

MAX_OBJECT_ID = 254
"""The largest object id: 0 is the background and 255 is void in an indexed PNG."""


@dataclass(frozen=True)
class Skeleton:
    """Named keypoints and the lines between them.

    Attributes:
        points: the keypoints' names, unique.
        edges: pairs of indices into `points`.

    Raises:
        LabelError: a name that stands twice, or an edge that points at no keypoint.
    """

    points: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.points)) != len(self.points):
            twice = sorted({name for name in self.points if self.points.count(name) > 1})
            raise LabelError(f"A skeleton's point names must differ; {', '.join(twice)} stands more than once.")
        for edge in self.edges:
            if len(edge) != 2 or not all(0 <= end < len(self.points) for end in edge):
                raise LabelError(
                    f"The skeleton's edge {list(edge)} must be two indices into its {len(self.points)} points."
                )


@dataclass(frozen=True)
class LabelObject:
    """Something to be followed through the video.

    Raises:
        LabelError: an id outside 1..254.
    """

    id: int
    name: str
    colour: Colour
    skeleton: Skeleton | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.id <= MAX_OBJECT_ID:
            raise LabelError(f"An object's id must be from 1 to {MAX_OBJECT_ID}, not {self.id}.")


@dataclass(frozen=True)
class Keypoint:
    """A named point on an object, in pixels. `visible` is False for a point that is hidden but placed."""

    name: str
    x: float
    y: float
    visible: bool = True


@dataclass(frozen=True, eq=False)
class Label:
    """What one object looks like on one frame.

    Attributes:
        object: the object's id.
        mask: (height, width) bool, the region in whatever form it was given; None when none was given.
        box: the region as it was given, only when it was given as a box.
        keypoints: the points that were given.
        absent: True says that the object is not on this frame.
    """

    object: int
    mask: Mask | None
    box: Box | None = None
    keypoints: tuple[Keypoint, ...] = ()
    absent: bool = False

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Label) and (
            (self.object, self.box, self.keypoints, self.absent)
            == (other.object, other.box, other.keypoints, other.absent)
            and _same(self.mask, other.mask)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Anchor:
    """A frame that a person labelled.

    Attributes:
        frame: the frame's 0-based index in the video.
        labels: one per object that the anchor speaks of; an object it does not mention is unknown here, not gone.
        void: (height, width) bool, pixels that belong to nothing and are not learned from; None where there are none.
    """

    frame: int
    labels: tuple[Label, ...]
    void: Mask | None = None

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, Anchor)
            and (self.frame, self.labels) == (other.frame, other.labels)
            and _same(self.void, other.void)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class KeypointResult:
    """Where a keypoint is on a frame, in pixels, and how sure the model is (0..1)."""

    name: str
    x: float
    y: float
    visible: bool
    confidence: float


@dataclass(frozen=True, eq=False)
class ObjectResult:
    """What one object looks like on one frame, as the model answers it.

    Attributes:
        object: the object's id.
        visible: whether any of the object is on the frame.
        confidence: 0..1.
        mask: (height, width) bool, or None for an object without a region.
        box: the tight box of the mask, or the box exactly as the anchor gave it.
        keypoints: one per keypoint that the object's anchors gave.
        source: "anchor" where a person gave this label on this very frame, else "propagated".
    """

    object: int
    visible: bool
    confidence: float
    mask: Mask | None
    box: Box | None
    keypoints: tuple[KeypointResult, ...]
    source: Source

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ObjectResult) and (
            (self.object, self.visible, self.confidence, self.box, self.keypoints, self.source)
            == (other.object, other.visible, other.confidence, other.box, other.keypoints, other.source)
            and _same(self.mask, other.mask)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class FrameResult:
    """The labels of one frame: its index, its presentation time in milliseconds, and one entry per object."""

    frame: int
    time_ms: int
    objects: tuple[ObjectResult, ...]

    __hash__ = None  # type: ignore[assignment]


def _same(a: Mask | None, b: Mask | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)
