"""YOLO segmentation: rows `class x1 y1 x2 y2 ...`, one outline per object and frame; see `app.formats.yolo`.

A row has neither parts nor holes: those of a mask are joined into one outline by bridges without width. Outlines are
simplified to the option `tolerance`. Objects without a mask have no row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.formats import contours, yolo
from app.formats.categories import Category
from app.formats.gathering import polygon_region
from app.formats.reading import bad
from model.labels import ObjectResult

if TYPE_CHECKING:
    from app.formats.base import ExportInput, Imported, ImportInput


def write(given: ExportInput, path: Path) -> None:
    """The zip, the same bytes whenever it is built."""
    size = (given.info.width, given.info.height)

    def row(found: ObjectResult, _: Category) -> list[float] | None:
        parts = [] if found.mask is None else contours.polygons(found.mask, given.options.tolerance)
        return (contours.joined(parts) / size).reshape(-1).tolist() if parts else None

    yolo.write_dataset(given, path, row)


def read(given: ImportInput) -> Imported:
    """Labels of the frames that have rows.

    Raises:
        InputError: `bad-annotations`, naming file and line.
    """
    width, height = given.info.width, given.info.height

    def take(row: yolo.Row, _: yolo.Classes) -> dict[str, Any]:
        if len(row.numbers) < 6 or len(row.numbers) % 2:
            raise bad(
                f"{row.where}: {len(row.numbers)} numbers after the class are no outline, which is x and y of three"
                " points or more. Is this `yolo-box` or `yolo-pose`?"
            )
        yolo.check_normalised(row, row.numbers)
        ring = [round(value * (height if k % 2 else width), 3) for k, value in enumerate(row.numbers)]
        return {"region": polygon_region([ring], given, row.where)}

    return yolo.read_dataset(given, take)
