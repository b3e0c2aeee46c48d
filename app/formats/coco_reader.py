"""COCO read as anchors: masks, polygons, boxes and keypoints.

Which frame an image is: its `frame_index` (ours), else its `frame_id` (CocoVID's), else its `file_name`
(`app.formats.frames`). Which object an annotation is: its `track_id` or `instance_id`, also in `attributes` (CVAT's),
else its category (`app.formats.gathering`). Annotations that say that nobody made them are passed over: `source`
"propagated" (ours) and the attribute `keyframe` false (CVAT's).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from app.formats.base import Imported
from app.formats.frames import FrameNames
from app.formats.gathering import Gathering, box_region, point, polygon_region
from app.formats.reading import Foreign, bad, open_files, parse_json
from model.errors import LabelError
from model.labels import raster, rle

if TYPE_CHECKING:
    from app.formats.base import ImportInput

Id = int | str


class _Image(Foreign):
    id: Id
    file_name: str = ""
    width: int | None = None
    height: int | None = None
    frame_index: int | None = None
    frame_id: int | None = None


class _Category(Foreign):
    id: Id
    name: str
    keypoints: list[str] = Field(default_factory=list)
    skeleton: list[tuple[int, int]] | None = None


class _Annotation(Foreign):
    image_id: Id
    category_id: Id
    segmentation: Any = None
    bbox: list[float] | None = None
    keypoints: list[float] | None = None
    track_id: int | None = None
    instance_id: int | None = None
    source: str | None = None
    attributes: dict[str, Any] | None = None

    @property
    def made_by_hand(self) -> bool:
        return self.source != "propagated" and (self.attributes or {}).get("keyframe") is not False

    @property
    def number(self) -> int | None:
        values = (self.track_id, self.instance_id, (self.attributes or {}).get("track_id"))
        return next((value for value in values if type(value) is int), None)


class _Document(Foreign):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read(given: ImportInput) -> Imported:
    """Labels of every image that has annotations. A zip or folder holds one document.

    Raises:
        InputError: `bad-annotations`, naming the field.
    """
    with open_files(given) as files:
        paths = files.paths if files.single else files.with_suffix(".json")
        if len(paths) != 1:
            raise bad(f"{given.path.name} holds {len(paths)} .json files. Give the one with the annotations.")
        document = parse_json(_Document, files.read(paths[0]), str(paths[0]))
    where = str(paths[0])
    images = {image.id: (k, image) for k, image in enumerate(document.images)}
    categories = {category.id: category for category in document.categories}
    by_hand = [(k, found) for k, found in enumerate(document.annotations) if found.made_by_hand]
    if document.annotations and not by_hand:
        raise bad(
            f"{where}: every annotation is marked as made by a program (`source` or `keyframe`)."
            " Remove that mark from those that a person has checked."
        )
    names = FrameNames(given.table)
    gathering = Gathering(given)
    frames: dict[Id, int] = {}
    for k, found in by_hand:
        at = f"{where}: /annotations/{k}"
        if found.image_id not in images:
            raise bad(f"{at}/image_id: there is no image {found.image_id!r}.", pointer=f"/annotations/{k}/image_id")
        if found.category_id not in categories:
            detail = f"{at}/category_id: there is no category {found.category_id!r}."
            raise bad(detail, pointer=f"/annotations/{k}/category_id")
        if found.image_id not in frames:
            frames[found.image_id] = _frame(*images[found.image_id], names, given, where)
        category = categories[found.category_id]
        keypoints = _keypoints(found, category, given, at)
        gathering.add(
            frames[found.image_id],
            at,
            name=category.name,
            number=found.number,
            skeleton=(category.keypoints, _edges(category, where)) if category.keypoints else None,
            region=_region(found, keypoints, given, at),
            keypoints=keypoints,
        )
    return gathering.imported(where)


def _frame(k: int, image: _Image, names: FrameNames, given: ImportInput, where: str) -> int:
    at = f"{where}: /images/{k}"
    size = (image.width or given.info.width, image.height or given.info.height)
    if size != (given.info.width, given.info.height):
        raise bad(
            f"{at}: the image is {size[0]} x {size[1]} pixels, but the video's frames are {given.info.width} x"
            f" {given.info.height}. Label frames of this video at their full size.",
            pointer=f"/images/{k}",
        )
    for field in ("frame_index", "frame_id"):
        index = getattr(image, field)
        if index is not None:
            return names.check(index, f"{at}/{field}")
    if not image.file_name:
        raise bad(f"{at}: neither `frame_index` nor `file_name` says which frame it is.", pointer=f"/images/{k}")
    return names.find(image.file_name, f"{at}/file_name")


def _edges(category: _Category, where: str) -> list[tuple[int, int]]:
    edges = [(a - 1, b - 1) for a, b in category.skeleton or ()]  # COCO counts points from 1
    if any(not 0 <= end < len(category.keypoints) for edge in edges for end in edge):
        raise bad(f"{where}: the `skeleton` of category {category.name[:50]!r} must be pairs from 1 to its last point.")
    return edges


def _keypoints(found: _Annotation, category: _Category, given: ImportInput, at: str) -> list[dict[str, Any]]:
    if not found.keypoints:
        return []
    if len(found.keypoints) != 3 * len(category.keypoints):
        raise bad(
            f"{at}/keypoints: {len(found.keypoints)} numbers, but category {category.name[:50]!r} has"
            f" {len(category.keypoints)} keypoints of three each."
        )
    triples = zip(category.keypoints, found.keypoints[::3], found.keypoints[1::3], found.keypoints[2::3], strict=True)
    return [point(name, x, y, flag > 1.5, given, f"{at}/keypoints") for name, x, y, flag in triples if flag > 0]


def _region(found: _Annotation, keypoints: list[dict[str, Any]], given: ImportInput, at: str) -> dict[str, Any] | None:
    if found.segmentation:
        return _segment(found.segmentation, given, f"{at}/segmentation")
    if found.bbox is None:
        return None
    if len(found.bbox) != 4:
        raise bad(f"{at}/bbox: a box is x, y, width, height, not {len(found.bbox)} numbers.")
    if keypoints and _bounds(keypoints) == [round(value, 2) for value in found.bbox]:
        return None  # the box around an object's points says nothing that they do not say
    x, y, width, height = found.bbox
    return box_region(x, y, width, height, given, f"{at}/bbox")


def _bounds(keypoints: list[dict[str, Any]]) -> list[float]:
    placed = [at for at in keypoints if at["visible"]] or keypoints
    left, top = min(at["x"] for at in placed), min(at["y"] for at in placed)
    right, bottom = max(at["x"] for at in placed), max(at["y"] for at in placed)
    return [round(value, 2) for value in (left, top, right - left, bottom - top)]


def _segment(segmentation: Any, given: ImportInput, at: str) -> dict[str, Any]:
    height, width = given.info.height, given.info.width
    try:
        if isinstance(segmentation, Mapping):
            mask = rle.decode(segmentation, size=(width, height), max_pixels=width * height)
            return {"mask": rle.encode(mask)}
        if not isinstance(segmentation, list) or not all(isinstance(ring, list) for ring in segmentation):
            raise bad(f"{at}: neither polygons (a list of lists of numbers) nor run lengths (`size`, `counts`).")
        if not all(type(value) in (int, float) for ring in segmentation for value in ring):
            raise bad(f"{at}: an outline is a list of numbers, x and y in turn.")
        region = polygon_region(segmentation, given, at)
        if len(segmentation) == 1:
            return region
        # COCO's polygons are parts of one area: two that overlap do not cancel out.
        parts = [raster.polygon([ring], height, width) for ring in region["polygon"]]
        return {"mask": rle.encode(np.logical_or.reduce(parts))}
    except LabelError as error:
        raise bad(f"{at}: {error.detail}") from None
