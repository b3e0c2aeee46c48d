"""Label Studio's `videorectangle` regions: keyframes of boxes in per cent, out of results and into anchors.

A region's `sequence` holds keyframes; the page draws lines between them. A keyframe with `enabled: false` is the last
that is shown: the region is hidden after it, until the next keyframe. Before its first keyframe there is no region.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.formats.label_studio_frames import PageFrames
from app.formats.label_studio_shapes import PAGE_ID, box_percent, labels_of, shape_label
from model.errors import InputError
from model.labels import FrameResult, ObjectResult
from model.labels.jsonio import result_from_json
from model.labels.raster import tight_box
from model.labels.types import Box

TYPE = "videorectangle"
SUPPORTED = (TYPE,)


@dataclass(frozen=True)
class Controls:
    """The tags of a labelling configuration that a video's regions belong to.

    Attributes:
        from_name: the `VideoRectangle`.
        to_name: the `Video`.
        data_key: the field of a task's data that the `Video` shows.
    """

    from_name: str = "box"
    to_name: str = "video"
    data_key: str = "video"


@dataclass
class Track:
    """One region as a person left it: what is known of it, on true frames.

    Attributes:
        region: the region's id.
        labels: its labels.
        shapes: a label's fields (`box` or `polygon`) by frame; None where it is gone.
    """

    region: str
    labels: list[str]
    shapes: dict[int, dict[str, Any] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """How an object is called on the page: its region's id and labels."""

    region: str
    labels: tuple[str, ...]


class Sequences:
    """Gathers results, in the order of frames, and gives one region per object.

    Args:
        size: the frame's (width, height).
        named: the objects' regions, by object id.
    """

    def __init__(self, size: tuple[int, int], named: Mapping[int, Named]) -> None:
        self._size = size
        self._named = named
        self._boxes: dict[int, list[tuple[int, Box | None]]] = {id_: [] for id_ in named}
        self._sums: dict[int, list[float]] = {id_: [] for id_ in named}

    def add_json(self, documents: Iterable[dict[str, Any]]) -> Sequences:
        """Takes results as JSON, without decoding their masks: each has its box beside it. Returns itself."""
        return self.add(
            result_from_json({**document, "objects": [{**entry, "mask": None} for entry in document["objects"]]})
            for document in documents
        )

    def add(self, results: Iterable[FrameResult]) -> Sequences:
        """Takes results; only their boxes are kept. Returns itself."""
        for result in results:
            for found in result.objects:
                if found.object in self._boxes:
                    box = box_of(found)
                    self._boxes[found.object].append((result.frame, box))
                    if box is not None:
                        self._sums[found.object].append(found.confidence)
        return self

    def regions(self, page: PageFrames, controls: Controls) -> list[dict[str, Any]]:
        """The regions of the objects that are seen anywhere."""
        found = []
        for id_, named in self._named.items():
            sequence = self._sequence(self._boxes[id_], page)
            if sequence:
                value = {"framesCount": page.count, "duration": page.duration_s, "sequence": sequence}
                found.append(
                    {
                        "id": named.region,
                        "type": TYPE,
                        "from_name": controls.from_name,
                        "to_name": controls.to_name,
                        "origin": "prediction",
                        "score": self._mean(self._sums[id_]),
                        "value": {**value, "labels": list(named.labels)},
                    }
                )
        return found

    @property
    def score(self) -> float:
        """The mean confidence of all objects where they are seen."""
        return self._mean([value for values in self._sums.values() for value in values])

    def _sequence(self, boxes: list[tuple[int, Box | None]], page: PageFrames) -> list[dict[str, Any]]:
        shown = [(page.numbers(frame), frame, box) for frame, box in boxes]
        shown = [row for row in shown if row[0]]
        sequence: list[dict[str, Any]] = []
        for at, (numbers, frame, box) in enumerate(shown):
            if box is None:
                continue
            following = shown[at + 1][2] if at + 1 < len(shown) else None
            ends = following is None and frame < page.frame_count - 1
            before = shown[at - 1][2] if at else None
            # Of a stretch of equal boxes the first and the last keyframe say everything.
            kept = []
            if box != before:
                kept.append(numbers[0])
            if (box != following or ends) and numbers[-1] not in kept:
                kept.append(numbers[-1])
            for number in kept:
                sequence.append(
                    {
                        "frame": number,
                        "time": page.time(number),
                        **box_percent(box, self._size),
                        "rotation": 0,
                        "enabled": not (ends and number == numbers[-1]),
                    }
                )
        return sequence

    @staticmethod
    def _mean(values: list[float]) -> float:
        return round(math.fsum(values) / len(values), 3) if values else 0.0


def box_of(found: ObjectResult) -> Box | None:
    """An object's box on a frame: its own, its mask's, or that around its visible points; None where it is gone."""
    if not found.visible:
        return None
    if found.box is not None:
        return found.box
    if found.mask is not None:
        return tight_box(found.mask)
    placed = [point for point in found.keypoints if point.visible]
    if len(placed) < 2:
        return None
    left, top = min(point.x for point in placed), min(point.y for point in placed)
    width, height = max(point.x for point in placed) - left, max(point.y for point in placed) - top
    return (left, top, width, height) if width > 0 and height > 0 else None


def read_track(
    result: Mapping[str, Any], page: PageFrames, size: tuple[int, int], where: str, *, labels: list[str] | None = None
) -> Track:
    """A `videorectangle` result as a track of its keyframes; what the page drew between them is left out.

    Args:
        result: the result.
        page: the page's frames of the video.
        size: the frame's (width, height).
        where: what messages call the result.
        labels: of the region, where another result holds them.

    Raises:
        InputError: `bad-annotations`.
    """
    value = result.get("value")
    sequence = value.get("sequence") if isinstance(value, Mapping) else None
    if not isinstance(sequence, list):
        raise _bad(f"{where} has no `value.sequence`, the list of its keyframes.")
    track = Track(str(result.get("id") or ""), labels or labels_of(result))
    keyframes = []
    for i, entry in enumerate(sequence):
        at = f"{where}, keyframe {i}"
        number = entry.get("frame") if isinstance(entry, Mapping) else None
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= 1 << 40:
            raise _bad(f"{at} has no `frame`, a number from 1.")
        if not entry.get("auto"):  # Label Studio's own export can fill in what it drew between keyframes
            keyframes.append((max(1, int(number)), entry, at))
    keyframes.sort(key=lambda keyframe: keyframe[0])
    for k, (number, entry, at) in enumerate(keyframes):
        index = page.index(number)
        track.shapes[index] = shape_label(entry, size, at)
        if entry.get("enabled") is False:
            gone = max(page.index(number + 1), index + 1)
            following = page.index(keyframes[k + 1][0]) if k + 1 < len(keyframes) else page.frame_count
            if gone < following and gone < page.frame_count:
                track.shapes[gone] = None
    return track


def object_id_of(region: str) -> int | None:
    """The object's id in a region's id that we gave, or None for one of Label Studio's own."""
    found = PAGE_ID.fullmatch(region)
    return int(found[1]) if found and 1 <= int(found[1]) <= 254 else None


def _bad(detail: str) -> InputError:
    return InputError(detail, slug="bad-annotations")
