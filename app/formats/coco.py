"""COCO: one image per frame, one annotation per visible object and frame, masks in compressed run lengths.

Beyond COCO's own fields an image carries `video_id`, `frame_index` and `time_ms`, an annotation `video_id`, `track_id`
(the object's id), `score` (the confidence) and `source` (`anchor` or `propagated`). Objects of one name and skeleton
share a category. Keypoints follow COCO's visibility: 2 visible, 1 hidden but placed, 0 not given on this frame.
The document is written as it is made, so that its size is not bounded by memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from model.labels import ObjectResult, rle
from model.labels.raster import tight_box

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_VIDEO_ID = 1


class _Category(NamedTuple):
    name: str
    points: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]


def write(given: ExportInput, path: Path) -> None:
    """The document, as UTF-8 JSON, the same bytes whenever it is built."""
    categories = _categories(given)
    ids = {category: number for number, category in enumerate(dict.fromkeys(categories.values()), start=1)}
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info":' + _json({"description": given.video_name, "job": given.job_id, "version": "1.0"}))
        _write_list(file, "videos", [_video(given)])
        _write_list(file, "categories", (_category(category, id_) for category, id_ in ids.items()))
        _write_list(file, "images", _images(given))
        _write_list(file, "annotations", _annotations(given, categories, ids))
        file.write("}\n")


def _write_list(file: IO[str], name: str, items: Iterable[dict[str, Any]]) -> None:
    file.write(f',\n"{name}":[')
    for i, item in enumerate(items):
        file.write((",\n" if i else "\n") + _json(item))
    file.write("]")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _categories(given: ExportInput) -> dict[int, _Category]:
    """The category of each object. Without a skeleton, the names of its points are those that its results have."""
    named: dict[int, dict[str, None]] = {object_.id: {} for object_ in given.objects}
    if any(object_.skeleton is None for object_ in given.objects):
        for result in given.results():
            for found in result.objects:
                named.setdefault(found.object, {}).update(dict.fromkeys(point.name for point in found.keypoints))
    categories = {}
    for object_ in given.objects:
        skeleton = object_.skeleton
        points = tuple(named[object_.id]) if skeleton is None else skeleton.points
        categories[object_.id] = _Category(object_.name, points, () if skeleton is None else skeleton.edges)
    return categories


def _category(category: _Category, id_: int) -> dict[str, Any]:
    document: dict[str, Any] = {"id": id_, "name": category.name, "supercategory": "object"}
    if category.points:
        document["keypoints"] = list(category.points)
        document["skeleton"] = [[a + 1, b + 1] for a, b in category.edges]  # COCO counts points from 1
    return document


def _video(given: ExportInput) -> dict[str, Any]:
    info = given.info
    return {
        "id": _VIDEO_ID,
        "name": given.video_name,
        "width": info.width,
        "height": info.height,
        "length": info.frame_count,
        "fps": None if info.fps is None else round(float(info.fps), 6),
    }


def _images(given: ExportInput) -> Iterator[dict[str, Any]]:
    for result in given.results():
        yield {
            "id": _image_id(result.frame),
            "file_name": given.image_name(result.frame),
            "width": given.info.width,
            "height": given.info.height,
            "video_id": _VIDEO_ID,
            "frame_index": result.frame,
            "time_ms": result.time_ms,
        }


def _annotations(
    given: ExportInput, categories: dict[int, _Category], ids: dict[_Category, int]
) -> Iterator[dict[str, Any]]:
    number = 0
    for result in given.results():
        for found in result.objects:
            region = _region(found)
            if not found.visible or region is None:
                continue
            number += 1
            category = categories[found.object]
            document = {
                "id": number,
                "image_id": _image_id(result.frame),
                "video_id": _VIDEO_ID,
                "track_id": found.object,
                "category_id": ids[category],
                "iscrowd": 0,
                **region,
                "score": found.confidence,
                "source": found.source,
            }
            if category.points:
                document.update(_keypoints(found, category))
            yield document


def _image_id(frame: int) -> int:
    return frame + 1  # some readers take an id of 0 for none


def _region(found: ObjectResult) -> dict[str, Any] | None:
    """Segmentation, area and box; None where there is nothing to place."""
    if found.mask is not None:
        box = tight_box(found.mask)
        if box is None:
            return None
        encoded = rle.encode(found.mask)
        return {"segmentation": encoded, "area": int(found.mask.sum()), "bbox": list(found.box or box)}
    if found.box is not None:
        return {"segmentation": [], "area": round(found.box[2] * found.box[3], 2), "bbox": list(found.box)}
    placed = [point for point in found.keypoints if point.visible] or list(found.keypoints)
    if not placed:
        return None
    left, top = min(point.x for point in placed), min(point.y for point in placed)
    width, height = max(point.x for point in placed) - left, max(point.y for point in placed) - top
    box = (left, top, round(width, 2), round(height, 2))
    return {"segmentation": [], "area": round(width * height, 2), "bbox": list(box)}


def _keypoints(found: ObjectResult, category: _Category) -> dict[str, Any]:
    by_name = {point.name: point for point in found.keypoints}
    triples: list[float] = []
    for name in category.points:
        point = by_name.get(name)
        triples += [0, 0, 0] if point is None else [point.x, point.y, 2 if point.visible else 1]
    return {"keypoints": triples, "num_keypoints": sum(name in by_name for name in category.points)}
