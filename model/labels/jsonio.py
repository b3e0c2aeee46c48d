"""A frame's result as the JSON of the contract, and back: the one place that knows that form.

`{"frame", "time_ms", "objects": [{"object", "visible", "confidence", "mask", "box", "keypoints", "source"}]}`: the mask
is a compressed COCO RLE or null, the box `[x, y, width, height]` or null, a keypoint
`{"name", "x", "y", "visible", "confidence"}`. Propagated coordinates carry two decimals; those of an anchor are exactly
what was given. Confidences carry three. What has been written once reads back exactly and is written again as the
same JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.labels import rle
from model.labels.raster import tight_box
from model.labels.types import FrameResult, KeypointResult, ObjectResult


def result_to_json(result: FrameResult) -> dict[str, Any]:
    """One frame's result as JSON values. An object with a mask and no box gets the mask's tight box."""
    return {
        "frame": int(result.frame),
        "time_ms": int(result.time_ms),
        "objects": [_object_to_json(entry) for entry in result.objects],
    }


def result_from_json(document: Mapping[str, Any]) -> FrameResult:
    """The result that `result_to_json` wrote.

    Raises:
        KeyError: a field is missing; the document is not ours.
        LabelError: `bad-rle` when a mask is damaged.
    """
    return FrameResult(
        frame=document["frame"],
        time_ms=document["time_ms"],
        objects=tuple(_object_from_json(entry) for entry in document["objects"]),
    )


def _object_to_json(entry: ObjectResult) -> dict[str, Any]:
    given = entry.source == "anchor"
    box = entry.box
    if box is None and entry.mask is not None:
        box = tight_box(entry.mask)
    return {
        "object": int(entry.object),
        "visible": bool(entry.visible),
        "confidence": _rounded(entry.confidence, 3),
        "mask": None if entry.mask is None else rle.encode(entry.mask),
        "box": None if box is None else [_coordinate(value, given) for value in box],
        "keypoints": [_keypoint_to_json(point, given) for point in entry.keypoints],
        "source": entry.source,
    }


def _keypoint_to_json(point: KeypointResult, given: bool) -> dict[str, Any]:
    return {
        "name": point.name,
        "x": _coordinate(point.x, given),
        "y": _coordinate(point.y, given),
        "visible": bool(point.visible),
        "confidence": _rounded(point.confidence, 3),
    }


def _object_from_json(entry: Mapping[str, Any]) -> ObjectResult:
    mask, box = entry["mask"], entry["box"]
    return ObjectResult(
        object=entry["object"],
        visible=entry["visible"],
        confidence=entry["confidence"],
        # Our own results were checked when they were made; a video may be larger than the cap on foreign masks.
        mask=None if mask is None else rle.decode(mask, max_pixels=mask["size"][0] * mask["size"][1]),
        box=None if box is None else (box[0], box[1], box[2], box[3]),
        keypoints=tuple(
            KeypointResult(point["name"], point["x"], point["y"], point["visible"], point["confidence"])
            for point in entry["keypoints"]
        ),
        source=entry["source"],
    )


def _coordinate(value: float, given: bool) -> float:
    return float(value) if given else _rounded(value, 2)


def _rounded(value: float, decimals: int) -> float:
    return round(float(value), decimals) + 0.0  # -0.0 becomes 0.0
