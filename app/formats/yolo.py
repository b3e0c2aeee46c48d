"""What the three YOLO formats share: a data set as Ultralytics lays it out, out and in.

    data.yaml            classes (`names`), and for keypoints `kpt_shape` and `kpt_names`
    labels/<frame>.txt   one row per object, its class first, all coordinates divided by the frame's size
    objects.json         ours, ignored by others: which object each row of each file is

The pictures belong into `images/` beside `labels/`. Rows know classes and no objects: objects of one name and skeleton
share a class. `objects.json` is `{"objects": [{"id", "name", "class"}], "rows": {"<frame>": [ids, row by row]}}`;
without it, `app.formats.gathering` says when objects can be told apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from app.formats import packing
from app.formats.base import Imported
from app.formats.categories import Category, categories_of, numbered
from app.formats.class_list import parse_classes
from app.formats.documents import json_of
from app.formats.frames import FrameNames
from app.formats.gathering import Gathering
from app.formats.reading import Files, Foreign, bad, open_files, parse_json
from model.labels import ObjectResult
from model.labels.raster import tight_box

if TYPE_CHECKING:
    from app.formats.base import ExportInput, ImportInput

_MAX_YAML = 1 << 18
_MAX_ROWS = 254
_ROBOFLOW_NOTES = re.compile(r"readme", re.IGNORECASE)
Numbers = Sequence[float]


class Classes(NamedTuple):
    """What `data.yaml` says.

    Attributes:
        names: of the classes, by number.
        points: how many keypoints a row has and how many numbers each (2 or 3); None where it does not say.
        point_names: of the keypoints, by class.
    """

    names: dict[int, str]
    points: tuple[int, int] | None
    point_names: dict[int, list[str]]


class Row(NamedTuple):
    """One row of a file: the class, its numbers as they stand there, and where that is."""

    class_id: int
    numbers: list[float]
    where: str


def write_dataset(
    given: ExportInput,
    path: Path,
    row: Callable[[ObjectResult, Category], Numbers | None],
    *,
    keypoints: bool = False,
) -> None:
    """Writes the zip.

    Args:
        given: the results.
        path: of the zip.
        row: the numbers after the class of one visible object, or None for one that this format has no row for.
        keypoints: whether only classes with keypoints count, padded to the longest of them.
    """
    categories = categories_of(given)
    if keypoints:
        longest = max((len(category.points) for category in categories.values()), default=0)
        categories = {id_: category for id_, category in categories.items() if category.points}
    packing.write_zip(path, _entries(given, categories, row, longest if keypoints else 0))


def read_dataset(
    given: ImportInput,
    take: Callable[[Row, Classes], dict[str, Any]],
) -> Imported:
    """Reads a zip or folder of such files, or a single file of one frame.

    Args:
        given: the import.
        take: what `Gathering.add` takes of a row: `region`, `keypoints`, `skeleton`. It raises for a row that is none.

    Raises:
        InputError: `bad-annotations`, naming file and line.
    """
    with open_files(given) as files:
        classes = _classes(files)
        known = _objects(files)
        frames = FrameNames(given.table)
        gathering = Gathering(given)
        seen: dict[int, PurePosixPath] = {}
        for path in _label_files(files):
            rows = list(_rows(files.text(path), str(path)))
            if not rows:
                continue
            frame = frames.find(path.name, str(path))
            if frame in seen:
                raise bad(f"{path} and {seen[frame]} are both frame {frame}. Keep one of them.")
            seen[frame] = path
            ids = known.rows.get(path.stem)
            if ids is not None and len(ids) != len(rows):
                raise bad(
                    f"{path} has {len(rows)} rows, but objects.json knows {len(ids)}. Mend or remove objects.json."
                )
            for k, row in enumerate(rows):
                number = None if ids is None else ids[k]
                name = known.names.get(number or 0) or _name(row, classes)
                gathering.add(frame, row.where, name=name, number=number, **take(row, classes))
        return gathering.imported(given.path.name)


def box_of(found: ObjectResult, width: int, height: int) -> tuple[float, float, float, float] | None:
    """The box that a row gives of an object: of the mask, as given, or around its visible points."""
    if found.mask is not None:
        return tight_box(found.mask)
    if found.box is not None:
        return found.box
    placed = [point for point in found.keypoints if point.visible] or list(found.keypoints)
    if not placed:
        return None
    # A box without extent on the frame is dropped by readers.
    left, top = min(width - 1, *(point.x for point in placed)), min(height - 1, *(point.y for point in placed))
    return left, top, max(1.0, max(p.x for p in placed) - left), max(1.0, max(p.y for p in placed) - top)


def centred(box: tuple[float, float, float, float], width: int, height: int) -> list[float]:
    """A box as YOLO has it: the centre and the size, each divided by the frame's."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    across, down = (left + right) / 2 / width, (top + bottom) / 2 / height
    return [across, down, (right - left) / width, (bottom - top) / height]


def uncentred(numbers: Numbers, width: int, height: int) -> tuple[float, float, float, float]:
    """The inverse of `centred`, to the hundredth of a pixel."""
    across, down, w, h = numbers
    left, top = (across - w / 2) * width, (down - h / 2) * height
    return round(left, 2), round(top, 2), round(w * width, 2), round(h * height, 2)


def check_normalised(row: Row, numbers: Numbers) -> None:
    """Refuses numbers that are no fractions of the frame's size."""
    for number in numbers:
        if not -0.001 <= number <= 1.001:
            raise bad(
                f"{row.where}: {number:g} is not from 0 to 1. Divide coordinates by the frame's width and height."
            )


def _entries(
    given: ExportInput,
    categories: dict[int, Category],
    row: Callable[[ObjectResult, Category], Numbers | None],
    points: int,
) -> Iterator[tuple[str, bytes]]:
    ids = numbered(categories.values(), 0)
    rows: dict[str, list[int]] = {}
    yield "data.yaml", _yaml(ids, points).encode()
    for result in given.results():
        lines, present = [], []
        for found in sorted(result.objects, key=lambda found: found.object):
            category = categories.get(found.object)
            numbers = None if category is None or not found.visible else row(found, category)
            if category is None or numbers is None:
                continue
            padding = [0.0] * 3 * (points - len(category.points)) if points else []
            texts = [_decimal(number) for number in [*numbers, *padding]]
            lines.append(" ".join([str(ids[category]), *texts]) + "\n")
            present.append(found.object)
        stem = given.stem(result.frame)
        rows[stem] = present
        yield f"labels/{stem}.txt", "".join(lines).encode()
    objects = [
        {"id": object_.id, "name": object_.name, "class": ids[categories[object_.id]]}
        for object_ in given.objects
        if object_.id in categories
    ]
    yield "objects.json", json_of({"objects": objects, "rows": rows}).encode()


def _decimal(number: float) -> str:
    return f"{number:.7f}".rstrip("0").rstrip(".") or "0"


def _yaml(ids: dict[Category, int], points: int) -> str:
    # Text in JSON is text in YAML.
    lines = ["path: .", "train: images", "val: images", f"names:{'' if ids else ' {}'}"]
    lines += [f"  {number}: {json.dumps(category.name, ensure_ascii=False)}" for category, number in ids.items()]
    if points:
        lines += [f"kpt_shape: [{points}, 3]", "kpt_names:"]
        for category, number in ids.items():
            names = list(category.points) + [f"unused-{k}" for k in range(len(category.points), points)]
            lines.append(f"  {number}: {json.dumps(names, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _label_files(files: Files) -> list[PurePosixPath]:
    texts = [path for path in files.with_suffix(".txt") if not _ROBOFLOW_NOTES.match(path.name)]
    texts = [path for path in texts if path.name.lower() not in ("classes.txt", "obj.names")]
    below = [path for path in texts if "labels" in (part.lower() for part in path.parts[:-1])]
    found = files.paths if files.single else below or texts
    if not found:
        raise bad("There is no .txt file with labels. Give labels/<frame>.txt, with data.yaml beside them.")
    return found


def _rows(text: str, path: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if number > _MAX_ROWS * 4:
            raise bad(f"{where}: more rows than a job has objects ({_MAX_ROWS}). Is this one frame's file?")
        try:
            numbers = [float(word) for word in words[1:]]
            class_id = int(words[0])
        except ValueError:
            raise bad(f"{where}: {line[:60]!r} is not a class and numbers with spaces between them.") from None
        if not 0 <= class_id < 1 << 20:
            raise bad(f"{where}: {class_id} is no class; they count from 0.")
        yield Row(class_id, numbers, where)


def _name(row: Row, classes: Classes) -> str:
    if not classes.names:
        return f"class-{row.class_id}"
    if row.class_id not in classes.names:
        raise bad(f"{row.where}: class {row.class_id} has no name in data.yaml. Add it to `names`.")
    return classes.names[row.class_id]


class _Object(Foreign):
    id: int
    name: str | None = None


class _Objects(Foreign):
    objects: list[_Object] = Field(default_factory=list)
    rows: dict[str, list[int]] = Field(default_factory=dict)


class _Known(NamedTuple):
    names: dict[int, str]
    rows: dict[str, list[int]]


def _objects(files: Files) -> _Known:
    path = files.named("objects.json")
    if path is None:
        return _Known({}, {})
    document = parse_json(_Objects, files.read(path), str(path))
    return _Known({entry.id: entry.name for entry in document.objects if entry.name}, document.rows)


def _classes(files: Files) -> Classes:
    path = files.named("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
    if path is not None:
        text = files.text(path, max_bytes=_MAX_YAML)
        return _classes_of(parse_classes(text, str(path), ("names", "kpt_shape", "kpt_names")), str(path))
    path = files.named("classes.txt", "obj.names")
    names = [] if path is None or files.single else files.text(path, max_bytes=_MAX_YAML).splitlines()
    return Classes({k: name for k, name in enumerate(names) if name.strip()}, None, {})


def _classes_of(document: dict[str, Any], path: str) -> Classes:
    names = _numbered(document.get("names"), f"{path}: `names`")
    shape = document.get("kpt_shape")
    points = None
    if shape is not None:
        if not (isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)):
            raise bad(f"{path}: `kpt_shape` must be two numbers, as [17, 3].")
        if not (1 <= shape[0] <= 256 and shape[1] in (2, 3)):
            raise bad(f"{path}: `kpt_shape` must be 1 to 256 points of 2 or 3 numbers each, not {shape}.")
        points = (shape[0], shape[1])
    named = document.get("kpt_names") or {}
    if not (isinstance(named, dict) and all(isinstance(value, list) for value in named.values())):
        raise bad(f"{path}: `kpt_names` must give a list of names for each class.")
    point_names = {key: [str(name) for name in value] for key, value in named.items() if type(key) is int}
    return Classes({number: str(name) for number, name in names.items()}, points, point_names)


def _numbered(names: Any, where: str) -> dict[int, Any]:
    if isinstance(names, list):
        return dict(enumerate(names))
    if isinstance(names, dict) and all(type(key) is int for key in names):
        return names
    raise bad(f"{where} must be a list of classes, or numbers from 0 with a name each.")
