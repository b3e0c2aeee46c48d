"""LabelMe: one JSON document per frame, named after its picture, with polygons, masks, rectangles and points.

Out, a region is one `polygon` per part (simplified to the option `tolerance`), or, where it has holes, which LabelMe's
polygons cannot have, one exact `mask`. The label is the object's name and `group_id` its id. A keypoint is a `point`:
its label is the keypoint's name, `group_id` its object, `description` its object's name; the flag `hidden` says that it
is not visible.

In, `imagePath` says which frame a document is (`app.formats.frames`). Shapes of one `group_id` are one object; each
shape without one is an object of its own, points without one belong to the only object there is.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from app.formats import contours, packing
from app.formats.base import Imported
from app.formats.documents import json_of
from app.formats.frames import FrameNames
from app.formats.gathering import Gathering, box_region, point, polygon_region, within
from app.formats.reading import Foreign, bad, open_files, parse_json
from model.errors import LabelError
from model.labels import LabelObject, ObjectResult, indexed_png, raster, rle
from model.labels.raster import tight_box
from model.labels.types import Mask

if TYPE_CHECKING:
    from app.formats.base import ExportInput, ImportInput

_VERSION = "5.5.0"


def write(given: ExportInput, path: Path) -> None:
    """A zip of the documents, the same bytes whenever it is built."""
    packing.write_zip(path, _documents(given))


def _documents(given: ExportInput) -> Iterator[tuple[str, bytes]]:
    objects = {object_.id: object_ for object_ in given.objects}
    for result in given.results():
        shapes: list[dict[str, Any]] = []
        for found in result.objects:
            if found.visible and found.object in objects:
                shapes += _shapes(found, objects[found.object], given.options.tolerance)
        document: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": given.image_name(result.frame),
            "imageData": None,
            "imageHeight": given.info.height,
            "imageWidth": given.info.width,
        }
        yield f"{given.stem(result.frame)}.json", json_of(document).encode()


def _shapes(found: ObjectResult, object_: LabelObject, tolerance: float) -> Iterator[dict[str, Any]]:
    parts = [] if found.mask is None else contours.polygons(found.mask, tolerance)
    if found.mask is not None and any(holes for _, holes in parts):
        yield _mask_shape(found.mask, object_)
    else:
        for outer, _ in parts:
            yield _shape("polygon", object_.name, object_.id, np.round(outer, 2).tolist())
    if found.mask is None and found.box is not None:
        x, y, width, height = found.box
        yield _shape("rectangle", object_.name, object_.id, [[x, y], [round(x + width, 4), round(y + height, 4)]])
    for at in found.keypoints:
        yield {
            **_shape("point", at.name, object_.id, [[at.x, at.y]]),
            "description": object_.name,
            "flags": {} if at.visible else {"hidden": True},
        }


def _mask_shape(mask: Mask, object_: LabelObject) -> dict[str, Any]:
    box = tight_box(mask)
    assert box is not None
    left, top, width, height = map(int, box)
    file = io.BytesIO()
    Image.fromarray(mask[top : top + height, left : left + width].astype(np.uint8)).save(file, "PNG")
    corners: list[list[float]] = [
        [left, top],
        [left + width - 1, top + height - 1],
    ]  # LabelMe's corners are pixels, both inside
    data = base64.b64encode(file.getvalue()).decode()
    return {**_shape("mask", object_.name, object_.id, corners), "mask": data}


def _shape(kind: str, label: str, group: int, points: list[list[float]]) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


class _Shape(Foreign):
    label: str
    points: list[tuple[float, float]]
    group_id: int | None = None
    description: str | None = None
    shape_type: str = "polygon"
    flags: dict[str, Any] | None = None
    mask: str | None = None


class _Document(Foreign):
    shapes: list[_Shape]
    imagePath: str = ""  # noqa: N815  (LabelMe's name)
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815


@dataclass
class _Instance:
    """The shapes of one object in one document."""

    number: int | None
    regions: list[tuple[str, _Shape]] = field(default_factory=list)
    points: list[tuple[str, _Shape]] = field(default_factory=list)


def read(given: ImportInput) -> Imported:
    """Labels of every document: one, or a zip or folder of them.

    Raises:
        InputError: `bad-annotations`, naming file and shape.
    """
    with open_files(given) as files:
        paths = files.paths if files.single else files.with_suffix(".json")
        if not paths:
            raise bad(f"{given.path.name} holds no .json file. Give LabelMe's documents.")
        frames = FrameNames(given.table)
        gathering = Gathering(given)
        seen: dict[int, PurePosixPath] = {}
        for path in paths:
            document = parse_json(_Document, files.read(path), str(path))
            _check_size(document, given, str(path))
            if not document.shapes:
                continue
            frame = frames.find(document.imagePath or path.name, f"{path}: /imagePath")
            if frame in seen:
                raise bad(f"{path} and {seen[frame]} are both frame {frame}. Keep one of them.")
            seen[frame] = path
            for instance in _instances(document, str(path)):
                _add(gathering, frame, instance, given)
        return gathering.imported(given.path.name)


def _check_size(document: _Document, given: ImportInput, path: str) -> None:
    size = (document.imageWidth or given.info.width, document.imageHeight or given.info.height)
    if size != (given.info.width, given.info.height):
        raise bad(
            f"{path}: the picture was {size[0]} x {size[1]} pixels, but the video's frames are {given.info.width} x"
            f" {given.info.height}. Label frames of this video at their full size."
        )


def _instances(document: _Document, path: str) -> list[_Instance]:
    groups: dict[int, _Instance] = {}
    alone: list[_Instance] = []
    loose: list[tuple[str, _Shape]] = []
    for k, shape in enumerate(document.shapes):
        where = f"{path}: /shapes/{k}"
        if shape.group_id is not None:
            instance = groups.setdefault(shape.group_id, _Instance(number=shape.group_id))
            (instance.points if shape.shape_type == "point" else instance.regions).append((where, shape))
        elif shape.shape_type == "point":
            loose.append((where, shape))
        else:
            alone.append(_Instance(number=None, regions=[(where, shape)]))
    instances = [*groups.values(), *alone]
    if loose and len(instances) > 1:
        raise bad(f"{loose[0][0]}: whose is the point {loose[0][1].label!r}? Give it the `group_id` of its object.")
    if loose:
        instances = instances or [_Instance(number=None)]
        instances[0].points.extend(loose)
    return instances


def _add(gathering: Gathering, frame: int, instance: _Instance, given: ImportInput) -> None:
    where, first = (instance.regions or instance.points)[0]
    name: str | None = first.label if instance.regions else first.description or None
    if any(shape.label != name for _, shape in instance.regions):
        labels = " and ".join(sorted({repr(shape.label) for _, shape in instance.regions}))
        raise bad(f"{where}: the shapes of group {instance.number} are called {labels}. Give them one label.")
    points = []
    for at, shape in instance.points:
        if len(shape.points) != 1:
            raise bad(f"{at}: a point has one place, not {len(shape.points)}.")
        visible = not (shape.flags or {}).get("hidden", False)
        points.append(point(shape.label, *shape.points[0], visible, given, at))
    region = _region(instance.regions, given) if instance.regions else None
    gathering.add(frame, where, name=name, number=instance.number, region=region, keypoints=points)


def _region(shapes: list[tuple[str, _Shape]], given: ImportInput) -> dict[str, Any]:
    if len(shapes) == 1 and shapes[0][1].shape_type != "mask":
        return _outline(*shapes[0], given)
    # Parts are joined as areas: two that overlap do not cancel out.
    whole = np.zeros((given.info.height, given.info.width), np.bool_)
    for where, shape in shapes:
        whole |= _filled(where, shape, given)
    return {"mask": rle.encode(whole)}


def _outline(where: str, shape: _Shape, given: ImportInput) -> dict[str, Any]:
    if shape.shape_type == "polygon":
        return polygon_region([[value for at in shape.points for value in at]], given, where)
    if shape.shape_type == "rectangle" and len(shape.points) == 2:
        (x0, y0), (x1, y1) = shape.points
        return box_region(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0), given, where)
    raise bad(f"{where}: a {shape.shape_type!r} of {len(shape.points)} points is not read. Draw a polygon instead.")


def _filled(where: str, shape: _Shape, given: ImportInput) -> Mask:
    height, width = given.info.height, given.info.width
    if shape.shape_type == "mask":
        return _placed(where, shape, given)
    outline = _outline(where, shape, given)
    try:
        if "box" in outline:
            x, y, w, h = outline["box"]
            return raster.box(x, y, w, h, height, width)
        return raster.polygon(outline["polygon"], height, width)
    except LabelError as error:
        raise bad(f"{where}: {error.detail}") from None


def _placed(where: str, shape: _Shape, given: ImportInput) -> Mask:
    height, width = given.info.height, given.info.width
    try:
        data = base64.b64decode(shape.mask or "", validate=True)
        crop = indexed_png.decode(data, max_pixels=width * height) != 0
    except (binascii.Error, ValueError) as error:
        detail = error.detail if isinstance(error, LabelError) else "it is not base64."
        raise bad(f"{where}/mask: {detail}") from None
    if len(shape.points) != 2:
        raise bad(f"{where}: a mask has two corners, not {len(shape.points)} points.")
    (x0, y0), (x1, y1) = shape.points
    left, top = round(within(x0, width, where)), round(within(y0, height, where))
    if (round(y1) - top + 1, round(x1) - left + 1) != crop.shape or left + crop.shape[1] > width:
        raise bad(f"{where}: the mask of {crop.shape[1]} x {crop.shape[0]} pixels does not fit its corners.")
    if top + crop.shape[0] > height:
        raise bad(f"{where}: the mask leaves the frame at the bottom. Is this the video that was labelled?")
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask
