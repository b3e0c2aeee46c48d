"""YOLO detection: rows `class x y width height`, the box's centre and size; see `app.formats.yolo`.

The box is the tight one of the mask, or as it was given, or the one around an object's visible keypoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.formats import yolo
from app.formats.categories import Category
from app.formats.gathering import box_region
from app.formats.reading import bad
from model.labels import ObjectResult

if TYPE_CHECKING:
    from app.formats.base import ExportInput, Imported, ImportInput


def write(given: ExportInput, path: Path) -> None:
    """The zip, the same bytes whenever it is built."""

    def row(found: ObjectResult, _: Category) -> list[float] | None:
        box = yolo.box_of(found, given.info.width, given.info.height)
        return None if box is None else yolo.centred(box, given.info.width, given.info.height)

    yolo.write_dataset(given, path, row)


def read(given: ImportInput) -> Imported:
    """Labels of the frames that have rows. A sixth number, a confidence, is passed over.

    Raises:
        InputError: `bad-annotations`, naming file and line.
    """

    def take(row: yolo.Row, _: yolo.Classes) -> dict[str, Any]:
        if len(row.numbers) not in (4, 5):
            raise bad(
                f"{row.where}: {len(row.numbers)} numbers after the class are no box, which is x, y, width, height."
                " Is this `yolo-seg` or `yolo-pose`?"
            )
        yolo.check_normalised(row, row.numbers[:4])
        box = yolo.uncentred(row.numbers[:4], given.info.width, given.info.height)
        return {"region": box_region(*box, given, row.where)}

    return yolo.read_dataset(given, take)
