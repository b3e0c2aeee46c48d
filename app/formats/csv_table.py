"""CSV: a table with one row per frame and object, for spreadsheets and data frames.

Columns: `frame`, `time_ms`, `image` (the frame's file name), `object`, `name`, `visible`, `confidence`, `source`, the
box `x`, `y`, `width`, `height` and `area` in pixels (of the mask, where there is one, else of the box), and for every
keypoint `<name>.x`, `<name>.y`, `<name>.visible`, `<name>.confidence`. What there is nothing to say about is empty.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.formats.categories import categories_of
from model.labels import ObjectResult
from model.labels.raster import tight_box

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_COLUMNS = ("frame", "time_ms", "image", "object", "name", "visible", "confidence", "source")
_REGION = ("x", "y", "width", "height", "area")
_OF_POINT = ("x", "y", "visible", "confidence")


def write(given: ExportInput, path: Path) -> None:
    """The table, as UTF-8 with a header, lines ended as RFC 4180 has it; the same bytes whenever it is built."""
    points = list(dict.fromkeys(name for category in categories_of(given).values() for name in category.points))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*_COLUMNS, *_REGION, *(f"{name}.{what}" for name in points for what in _OF_POINT)])
        table.writerows(_rows(given, points))


def _rows(given: ExportInput, points: list[str]) -> Iterator[list[Any]]:
    names = {object_.id: object_.name for object_ in given.objects}
    for result in given.results():
        image = given.image_name(result.frame)
        for found in result.objects:
            row: list[Any] = [result.frame, result.time_ms, image, found.object, names.get(found.object, "")]
            row += [int(found.visible), found.confidence, found.source, *_region(found)]
            by_name = {point.name: point for point in found.keypoints}
            for name in points:
                point = by_name.get(name)
                row += [""] * 4 if point is None else [point.x, point.y, int(point.visible), point.confidence]
            yield row


def _region(found: ObjectResult) -> list[Any]:
    box = found.box or (None if found.mask is None else tight_box(found.mask))
    if box is None or not found.visible:
        return [""] * 5
    return [*box, round(box[2] * box[3], 2) if found.mask is None else int(found.mask.sum())]
