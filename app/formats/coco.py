"""COCO: one image per frame, one annotation per visible object and frame, masks in compressed run lengths.

Beyond COCO's own fields an image carries `video_id`, `frame_index` and `time_ms`, an annotation `video_id`, `track_id`
(the object's id), `score` (the confidence) and `source` (`anchor` or `propagated`). Objects of one name and skeleton
share a category. Keypoints follow COCO's visibility: 2 visible, 1 hidden but placed, 0 not given on this frame.
The document is written as it is made, so that its size is not bounded by memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.formats.categories import Category, categories_of, numbered
from app.formats.documents import json_of, write_list
from model.labels import ObjectResult, rle
from model.labels.raster import tight_box

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_VIDEO_ID = 1


def write(given: ExportInput, path: Path) -> None:
    """The document, as UTF-8 JSON, the same bytes whenever it is built."""
    write_document(given, path, categories_of(given))


def write_document(
    given: ExportInput, path: Path, categories: dict[int, Category], *, keypoints_only: bool = False
) -> None:
    """The document of those objects that have an entry in `categories`; without annotations that have no keypoints."""
    ids = numbered(categories.values(), 1)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info":' + json_of({"description": given.video_name, "job": given.job_id, "version": "1.0"}))
        write_list(file, "videos", [_video(given)])
        write_list(file, "categories", (category_document(category, id_) for category, id_ in ids.items()))
        write_list(file, "images", _images(given))
        write_list(file, "annotations", _annotations(given, categories, ids, keypoints_only))
        file.write("}\n")


def category_document(category: Category, id_: int) -> dict[str, Any]:
    """An entry of `categories`."""
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
    given: ExportInput, categories: dict[int, Category], ids: dict[Category, int], keypoints_only: bool
) -> Iterator[dict[str, Any]]:
    number = 0
    for result in given.results():
        for found in result.objects:
            region = _region(found)
            if not found.visible or region is None or found.object not in categories:
                continue
            if keypoints_only and not found.keypoints:
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


def _keypoints(found: ObjectResult, category: Category) -> dict[str, Any]:
    by_name = {point.name: point for point in found.keypoints}
    triples: list[float] = []
    for name in category.points:
        point = by_name.get(name)
        triples += [0, 0, 0] if point is None else [point.x, point.y, 2 if point.visible else 1]
    return {"keypoints": triples, "num_keypoints": sum(name in by_name for name in category.points)}
