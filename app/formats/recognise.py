"""Which format a file of labels is of, by what is in it and never by what it is called alone."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from pydantic_core import from_json

from app.formats.reading import Files, bad, open_path

_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD = 1 << 16


def recognise(path: Path, known: list[str]) -> str:
    """The name of the format of a file, zip or folder.

    Args:
        path: of it.
        known: the names of formats that are read, for the message.

    Raises:
        InputError: `bad-annotations` where it is none that is known here.
    """
    with open_path(path) as files:
        found = _of_one(files, files.paths[0]) if files.single else _of_many(files)
    if found is None:
        raise bad(
            f"{path.name}: the format of these labels was not recognised. Name it, one of: {', '.join(known)}.",
            pointer="/format",
        )
    return found


def format_of_json(document: Any) -> str | None:
    """The name of the format of a JSON document; None for what is none of them, a job's own JSON among it."""
    if isinstance(document, dict):
        if "images" in document and "categories" in document:
            return "coco"
        if isinstance(document.get("shapes"), list):
            return "labelme"
    if isinstance(document, list) and document and all(isinstance(task, dict) for task in document):
        return "label-studio" if any({"data", "annotations", "predictions", "result"} & set(document[0])) else None
    return None


def _of_one(files: Files, path: PurePosixPath) -> str | None:
    data = files.read(path)
    head = data[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    if data.startswith(_PNG):
        return "davis"
    if head.startswith(b"<"):
        return "cvat"
    if head.startswith((b"{", b"[")):
        try:
            return format_of_json(from_json(data.removeprefix(b"\xef\xbb\xbf"), allow_inf_nan=False))
        except ValueError as error:
            raise bad(f"{path} is not JSON that can be read: {error}.") from None
    return _of_rows(head, points=False)


def _of_many(files: Files) -> str | None:
    if files.with_suffix(".xml"):
        return "cvat"
    if files.with_suffix(".txt"):
        return _of_yolo(files)
    documents = [path for path in files.with_suffix(".json") if path.name != "meta.json"]
    if files.with_suffix(".png") and not documents:
        return "davis" if files.named("meta.json") is None else "youtube-vos"
    if documents:
        return _of_one(files, documents[0])
    return None


def _of_yolo(files: Files) -> str | None:
    yaml = files.named("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
    points = yaml is not None and b"kpt_shape" in files.read(yaml)[:_HEAD]
    texts = [path for path in files.with_suffix(".txt") if "labels" in path.parts] or files.with_suffix(".txt")
    for path in texts:
        found = _of_rows(files.read(path)[:_HEAD], points=points)
        if found is not None:
            return found
    return None


def _of_rows(text: bytes, *, points: bool) -> str | None:
    """By the numbers in the first row: a box has four, an outline pairs of them, keypoints three each after a box."""
    row = next((line.split() for line in text.splitlines() if line.strip()), [])
    try:
        numbers = [float(word) for word in row[1:]]
    except ValueError:
        return None
    if len(numbers) in (4, 5):
        return "yolo-box"
    flags = numbers[6::3]
    if points or (len(numbers) >= 7 and len(numbers) % 3 == 1 and all(flag in (0, 1, 2) for flag in flags)):
        return "yolo-pose"
    return "yolo-seg" if len(numbers) >= 6 and len(numbers) % 2 == 0 else None
