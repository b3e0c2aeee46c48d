"""Labels and options on the command line, the same for every command that takes them.

    --mask FRAME0.png          indexed or grey PNG of the first frame: values are object ids
    --box 3:100,80,60,40       a box on the first frame: object id, then x, y, width, height
    --keypoints KP.json        points on the first frame, see below
    --labels FILE              a job as `POST /v1/jobs` takes it: any frames, objects, options; or labels of another
                               tool: a file, zip or folder in a format of docs/formats.md, named by --labels-format

They may stand together; `--mask`, `--box` and `--keypoints` speak of the first frame that the job covers (`--start`). A
file of keypoints is a list of points of object 1, or a list with one entry per object:

    [{"name": "head", "x": 321.5, "y": 96.0}, ...]
    [{"object": 2, "keypoints": [{"name": "head", "x": 321.5, "y": 96.0}]}, ...]

Skeletons and names of objects come with `--labels`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.formats import EXPORTS, IMPORTS
from app.formats.packing import write_zip
from app.formats.recognise import format_of_json
from app.jobspec import parse_job
from app.problems import InvalidDocument
from model.errors import InputError, LabelError

_OPTIONS = ("model", "preset", "start", "end", "stride", "direction", "working_size")
Document = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the labels' and the options' arguments to a command's parser."""
    labels = parser.add_argument_group("labels (at least one of these)")
    labels.add_argument(
        "--mask", type=Path, metavar="FRAME0.png", help="indexed or grey PNG of the first frame: values are object ids"
    )
    labels.add_argument(
        "--box", action="append", default=[], metavar="ID:x,y,w,h", help="a box on the first frame; may be repeated"
    )
    labels.add_argument(
        "--keypoints",
        type=Path,
        metavar="KP.json",
        help="points on the first frame: a list of {name, x, y} of object 1, or of {object, keypoints}",
    )
    labels.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="a whole job, as POST /v1/jobs takes it, or a file, zip or folder of labels of another tool",
    )
    labels.add_argument(
        "--labels-format",
        choices=tuple(IMPORTS),
        metavar="NAME",
        help=f"the format of that file (default: recognised): {', '.join(IMPORTS)}",
    )
    options = parser.add_argument_group("options")
    options.add_argument("--model", help="name of a model (default: uvc-r18)")
    options.add_argument("--preset", help="named settings (default: plain)")
    options.add_argument("--start", type=int, help="first frame of the job (default: 0)")
    options.add_argument("--end", type=int, help="frame after the last (default: the video's end)")
    options.add_argument("--stride", type=int, help="every n-th frame (default: 1)")
    options.add_argument("--direction", choices=("both", "forward", "backward"), help="(default: both)")
    options.add_argument("--working-size", type=int, help="short side as the network sees it (default: the preset's)")


def add_format_arguments(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Adds the choice of exports to a command's parser."""
    parser.add_argument(
        "--formats",
        default=default,
        metavar="A,B",
        help=f"exports, several with commas: {', '.join(EXPORTS)} (default: {default})",
    )
    parser.add_argument(
        "--format-options",
        default="",
        metavar="NAME=VALUE,...",
        help="options of exports: outline, opacity, names, confidence (overlay), tolerance (yolo-seg, labelme)",
    )


@dataclass(frozen=True)
class Asked:
    """What the arguments ask for.

    Attributes:
        spec: the JSON of `POST /v1/jobs`.
        mask: the mask picture's bytes.
        annotations: a file, zip or folder of labels of another tool.
        format: its format; None to recognise it.
    """

    spec: Document
    mask: bytes | None = None
    annotations: Path | None = None
    format: str | None = None

    @contextmanager
    def packed(self) -> Iterator[Path | None]:
        """The annotations as one file, to be sent: a folder is packed into a zip that is gone afterwards."""
        if self.annotations is None or not self.annotations.is_dir():
            yield self.annotations
            return
        folder = self.annotations
        inside = sorted(path for path in folder.rglob("*") if path.is_file())
        files = [(path.relative_to(folder), path) for path in inside]
        shown = [(name, path) for name, path in files if not any(part.startswith(".") for part in name.parts)]
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / f"{folder.resolve().name or 'labels'}.zip"
            write_zip(target, ((name.as_posix(), path.read_bytes()) for name, path in shown))
            yield target


def request_of(args: argparse.Namespace) -> Asked:
    """The job that the arguments ask for.

    Raises:
        LabelError: `no-anchors` where no labels are given at all, `invalid-json` where a file is not JSON, which
            `detail` names, and `invalid-labels` for what else cannot be used.
        InputError: a file cannot be read.
        InvalidDocument: the file of `--labels` is no job, with a pointer to every fault.
    """
    spec: Document = {}
    annotations = args.labels if args.labels is not None and _is_foreign(args.labels, args.labels_format) else None
    if args.labels is not None and annotations is None:
        spec = _job(args.labels)
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    if given:
        spec["options"] = {**(spec.get("options") or {}), **given}
    added = [_box(text) for text in args.box]
    if args.keypoints is not None:
        added += _per_object(_read(args.keypoints), args.keypoints)
    _add_labels(spec, added)
    mask = None if args.mask is None else _bytes(args.mask)
    if mask is None and annotations is None and not (spec.get("anchors") or spec.get("annotations")):
        raise LabelError("Give labels: --mask, --box, --keypoints or --labels.", slug="no-anchors")
    return Asked(spec, mask, annotations, args.labels_format)


def _is_foreign(path: Path, format_name: str | None) -> bool:
    """Whether a file of labels is another tool's: said so, a folder, no JSON by its look, or JSON that is no job."""
    if path.is_dir():
        return True
    data = _bytes(path)
    if format_name is not None or path.suffix.lower() == ".txt":
        return True
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return data.startswith((b"\x89PNG", b"PK", b"<", b"\xef\xbb\xbf<"))
    try:
        return format_of_json(json.loads(data)) is not None
    except (ValueError, RecursionError):
        return False  # the job's own check says what is wrong


def _job(path: Path) -> Document:
    try:
        return parse_job(_bytes(path)).model_dump(mode="json", exclude_unset=True)
    except InvalidDocument as error:
        if error.slug != "invalid-json":
            raise
        raise LabelError(f"{path}: {error.detail}", slug=error.slug) from None


def _add_labels(spec: Document, labels: list[Document]) -> None:
    """Joins labels to the spec's anchor on its first frame, object by object."""
    if not labels:
        return
    start = (spec.get("options") or {}).get("start") or 0
    anchors = spec.setdefault("anchors", [])
    anchor = next((given for given in anchors if given["frame"] == start), None)
    if anchor is None:
        anchor = {"frame": start, "labels": []}
        anchors.insert(0, anchor)
    for label in labels:
        same = next((known for known in anchor["labels"] if known["object"] == label["object"]), None)
        if same is None or set(same) & set(label) != {"object"}:
            anchor["labels"].append(label)
        else:
            same.update(label)


def _box(text: str) -> Document:
    try:
        object_id, numbers = text.split(":", 1)
        x, y, width, height = (float(number) for number in numbers.split(","))
        return {"object": int(object_id), "box": [x, y, width, height]}
    except ValueError:
        raise LabelError(f"--box {text}: write it as ID:x,y,width,height, for example 1:100,80,60,40.") from None


def _per_object(document: Any, path: Path) -> list[Document]:
    if isinstance(document, dict):
        document = [document]
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document) or not document:
        raise LabelError(f"{path} must hold a JSON list of points, or of objects with their keypoints.")
    if all("keypoints" in entry for entry in document):
        return [{"object": 1, **entry} for entry in document]
    return [{"object": 1, "keypoints": document}]


def _read(path: Path) -> Any:
    try:
        return json.loads(_bytes(path))
    except ValueError as error:
        raise LabelError(f"{path} is not JSON: {error}", slug="invalid-json") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
