"""Label Studio's regions of single pictures: one task per frame, with brushes, rectangles, polygons and points.

The tags of the configuration that they belong to are `<Image name="image" value="$image"/>` with `<BrushLabels
name="brush">`, `<RectangleLabels name="rect">` and `<KeyPointLabels name="points">`, each `toName="image"`. A point's
label is its name; it belongs to the region that is its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.formats import brush_rle
from app.formats.label_studio_shapes import (
    box_percent,
    page_id,
    point_percent,
    polygon_label,
    shape_label,
)
from model.errors import InputError, LabelError
from model.labels import FrameResult, LabelObject, ObjectResult, rle

REGION_TYPES = ("brushlabels", "brush", "rectanglelabels", "rectangle", "polygonlabels", "polygon")
POINT_TYPES = ("keypointlabels", "keypoint")
UNREAD_TYPES = ("ellipselabels", "ellipse", "bitmasklabels", "bitmask", "vectorlabels", "vector", "videovector")
_HIDDEN = "hidden"
_POINT_WIDTH = 0.5


@dataclass(frozen=True)
class Point:
    """One keypoint: its name, place in pixels, and whether it can be seen."""

    name: str
    x: float
    y: float
    visible: bool

    def document(self) -> dict[str, Any]:
        """As a label's keypoint."""
        return {"name": self.name, "x": self.x, "y": self.y, "visible": self.visible}


def results_of(result: FrameResult, objects: Mapping[int, LabelObject], size: tuple[int, int]) -> Iterator[dict]:
    """The regions of one frame: a brush, or else a rectangle, for every visible object, and its points."""
    for found in result.objects:
        if not found.visible or found.object not in objects:
            continue
        named = objects[found.object]
        region = _region(found, named, size)
        if region is not None:
            yield region
        for number, point in enumerate(found.keypoints):
            value = {**point_percent(point.x, point.y, size), "width": _POINT_WIDTH, "keypointlabels": [point.name]}
            yield {
                **_common(page_id(found.object, f"k{number}"), "points", "keypointlabels", point.confidence, size),
                **({} if region is None else {"parentID": region["id"]}),
                "meta": {"text": [named.name] + ([] if point.visible else [_HIDDEN])},
                "value": value,
            }


def read_region(result: Mapping[str, Any], size: tuple[int, int], where: str) -> dict[str, Any] | None:
    """The fields of a label for a region; None where nothing of it lies on the frame.

    Raises:
        InputError: `bad-annotations`.
    """
    value = result.get("value")
    if not isinstance(value, Mapping):
        raise _bad(f"{where} has no `value`.")
    kind = str(result["type"]).removesuffix("labels")
    if kind == "rectangle":
        return shape_label(value, size, where)
    if kind == "polygon":
        return polygon_label(_points(value, size, where), size)
    if value.get("format") != "rle" or not isinstance(value.get("rle"), list):
        raise _bad(f"{where} has no `rle`: its `format` must be `rle`, as Label Studio's export in JSON has it.")
    drawn_on = (result.get("original_width"), result.get("original_height"))
    if drawn_on != size:
        raise _bad(
            f"{where} was drawn on a picture of {drawn_on[0]} x {drawn_on[1]} pixels, but the video's frames are"
            f" {size[0]} x {size[1]}. Brushes must be drawn on frames of full size."
        )
    try:
        mask = brush_rle.decode(value["rle"], size=size, max_pixels=size[0] * size[1])
    except LabelError as error:
        raise _bad(f"{where}: {error.detail}") from None
    return {"mask": rle.encode(mask)} if mask.any() else None


def read_point(result: Mapping[str, Any], labels: list[str], size: tuple[int, int], where: str) -> Point:
    """A keypoint.

    Raises:
        InputError: `bad-annotations`.
    """
    value = result.get("value")
    x, y = (value.get("x"), value.get("y")) if isinstance(value, Mapping) else (None, None)
    if x is None or y is None or not _on_page(x) or not _on_page(y):
        raise _bad(f"{where} has no usable `x` and `y`: they must be per cent of the picture, 0 to 100.")
    if not labels:
        raise _bad(f"{where} has no label, and a keypoint is called by it. Give it one.")
    left, top = round(x * size[0] / 100, 4), round(y * size[1] / 100, 4)
    return Point(labels[0], left, top, visible=_HIDDEN not in meta_text(result)[1:])


def meta_text(result: Mapping[str, Any]) -> list[str]:
    """The lines of a region's note."""
    meta = result.get("meta")
    text = meta.get("text") if isinstance(meta, Mapping) else None
    return [line for line in text if isinstance(line, str)] if isinstance(text, list) else []


def _region(found: ObjectResult, named: LabelObject, size: tuple[int, int]) -> dict[str, Any] | None:
    region = page_id(found.object)
    if found.mask is not None and found.mask.any():
        value: dict[str, Any] = {"format": "rle", "rle": brush_rle.encode(found.mask), "brushlabels": [named.name]}
        return {**_common(region, "brush", "brushlabels", found.confidence, size), "value": value}
    if found.mask is None and found.box is not None:
        value = {**box_percent(found.box, size), "rotation": 0, "rectanglelabels": [named.name]}
        return {**_common(region, "rect", "rectanglelabels", found.confidence, size), "value": value}
    return None


def _common(region: str, from_name: str, kind: str, score: float, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": region,
        "type": kind,
        "from_name": from_name,
        "to_name": "image",
        "origin": "prediction",
        "score": round(score, 3),
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
    }


def _points(value: Mapping[str, Any], size: tuple[int, int], where: str) -> list[tuple[float, float]]:
    points = value.get("points")
    if not isinstance(points, list) or len(points) < 3:
        raise _bad(f"{where} needs `points`, a list of at least three pairs in per cent.")
    if not all(isinstance(p, list) and len(p) == 2 and _near_page(p[0]) and _near_page(p[1]) for p in points):
        raise _bad(f"{where} has a point that is no pair of numbers in per cent.")
    return [(x * size[0] / 100, y * size[1] / 100) for x, y in points]


def _on_page(value: Any) -> bool:
    return _near_page(value) and 0 <= value <= 100


def _near_page(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6


def _bad(detail: str) -> InputError:
    return InputError(detail, slug="bad-annotations")
