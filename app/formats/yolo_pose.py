"""YOLO pose: rows `class x y width height` and `x y v` per keypoint; see `app.formats.yolo`.

`v` is COCO's: 2 visible, 1 hidden but placed, 0 not given on this frame. All classes of a file have one number of
keypoints: shorter skeletons are padded with points that are not given. Objects without keypoints have no row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.formats import yolo
from app.formats.categories import Category
from app.formats.gathering import box_region, point
from app.formats.reading import bad
from model.labels import ObjectResult

if TYPE_CHECKING:
    from app.formats.base import ExportInput, Imported, ImportInput


def write(given: ExportInput, path: Path) -> None:
    """The zip, the same bytes whenever it is built."""
    width, height = given.info.width, given.info.height

    def row(found: ObjectResult, category: Category) -> list[float] | None:
        box = yolo.box_of(found, width, height)
        if box is None or not found.keypoints:
            return None
        numbers = yolo.centred(box, width, height)
        placed = {point.name: point for point in found.keypoints}
        for name in category.points:
            at = placed.get(name)
            on = at is not None and 0 <= at.x <= width and 0 <= at.y <= height
            numbers += [at.x / width, at.y / height, 2 if at.visible else 1] if at is not None and on else [0, 0, 0]
        return numbers

    yolo.write_dataset(given, path, row, keypoints=True)


def read(given: ImportInput) -> Imported:
    """Keypoints, and the box that each row begins with as the region, of the frames that have rows.

    Raises:
        InputError: `bad-annotations`, naming file and line.
    """
    width, height = given.info.width, given.info.height

    def take(row: yolo.Row, classes: yolo.Classes) -> dict[str, Any]:
        count, each = _shape(row, classes)
        yolo.check_normalised(row, row.numbers[:4])
        names = _names(row, classes, count)
        points = []
        for k, name in enumerate(names):
            x, y, *flag = row.numbers[4 + each * k : 4 + each * (k + 1)]
            # Without a flag, a point in the corner is one that is not given: so Ultralytics reads them.
            given_here = flag[0] > 0 if flag else (x, y) != (0.0, 0.0)
            if given_here:
                yolo.check_normalised(row, (x, y))
                hidden = bool(flag) and flag[0] < 1.5
                points.append(point(name, round(x * width, 2), round(y * height, 2), not hidden, given, row.where))
        box = yolo.uncentred(row.numbers[:4], width, height)
        used = [name for name in names if not name.startswith("unused-")]
        return {"region": box_region(*box, given, row.where), "keypoints": points, "skeleton": (used, ())}

    return yolo.read_dataset(given, take)


def _shape(row: yolo.Row, classes: yolo.Classes) -> tuple[int, int]:
    numbers = len(row.numbers) - 4
    count, each = classes.points or (numbers // 3, 3)
    if numbers <= 0 or numbers != count * each:
        wanted = f"{count} keypoints of {each} numbers (`kpt_shape`)" if classes.points else "x, y, v for each keypoint"
        raise bad(f"{row.where}: {len(row.numbers)} numbers after the class are not a box and {wanted}.")
    return count, each


def _names(row: yolo.Row, classes: yolo.Classes, count: int) -> list[str]:
    names = classes.point_names.get(row.class_id) or [f"point-{k}" for k in range(count)]
    if len(names) != count or len(set(names)) != count:
        raise bad(f"{row.where}: `kpt_names` of class {row.class_id} must be {count} names that differ.")
    return names
