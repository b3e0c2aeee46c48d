"""From a task's shapes to a request, and from its frames to a zip of pictures."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from app.formats.base import Imported
from app.formats.cvat_objects import LinkedObject, Part, assemble, link, part_of_track
from app.formats.cvat_read import skeleton_of
from app.formats.cvat_shapes import Shape
from app.integrations.cvat.marks import is_ours
from app.integrations.cvat.sdk import Server
from app.integrations.cvat.task import Task
from model.errors import InputError, LabelError

Annotations = dict[str, list[dict[str, Any]]]
_TYPES = ("rectangle", "polygon", "mask", "ellipse", "points", "skeleton")
_KINDS = {"any": None, "rectangle": "rectangle", "polygon": "polygon", "mask": "mask", "ellipse": "polygon"}
_DRAWN = {"ellipse": "polygon"}


@dataclass(frozen=True)
class Pulled:
    """A task's labels.

    Attributes:
        imported: objects and anchors, on the video's frames.
        objects: how each object goes back, by id: `{"region": {"label_id", "type"} | None, "points": the same}`.
        skipped: shapes on deleted frames, which are left out.
    """

    imported: Imported
    objects: dict[int, dict[str, Any]]
    skipped: int


def read_annotations(server: Server, task: Task) -> Annotations:
    """What people drew in the task, all jobs together: CVAT joins what it finds twice where two overlap."""
    return _drawn(server.get(f"/tasks/{task.id}/annotations/"))


def read_sources(server: Server, task: Task) -> dict[int, Annotations]:
    """The same job by job, under the ids by which it can be removed; only jobs that have any."""
    found = {segment.job: _drawn(server.get(f"/jobs/{segment.job}/annotations/")) for segment in task.segments}
    return {job: drawn for job, drawn in found.items() if any(drawn.values())}


def pull(task: Task, annotations: Annotations) -> Pulled:
    """What people drew in a task, as a request.

    Args:
        task: the task.
        annotations: `read_annotations`.

    Raises:
        LabelError: `bad-annotations`, for shapes that cannot be used; the message names the frame and the track.
    """
    reader = _Reader(task)
    for shape in annotations["shapes"]:
        reader.add_shape(shape)
    for track in annotations["tracks"]:
        reader.add_track(track)
    objects = link(reader.parts)
    skeletons = {label["name"]: found for label in task.labels if (found := _skeleton(label)) is not None}
    imported = assemble(
        objects, skeletons, width=task.width, height=task.height, frame_count=task.frames.frame_count
    )  # fmt: skip
    return Pulled(imported, {object_.id: _way_back(task, object_) for object_ in objects}, reader.skipped)


def download_frames(server: Server, task: Task, path: Path, *, on_frame: Callable[[], None] = lambda: None) -> None:
    """Writes the task's frames, without the deleted ones, as a zip of pictures named by their numbers in the task.

    Nothing half-written is left at `path`.

    Raises:
        InputError: a frame is no picture that a video may be made of.
    """
    part = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:  # pictures are packed already
            for number, data in _pictures(server, task):
                picture, ending = _accepted(data, number)
                archive.writestr(f"frame_{number:06d}{ending}", picture)
                on_frame()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _Reader:
    """Turns CVAT's JSON into parts on the video's frames."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.parts: list[Part] = []
        self.skipped = 0

    def add_shape(self, shape: dict[str, Any]) -> None:
        where = f"Frame {shape['frame']}"
        index = self._task.frames.to_video(shape["frame"])
        if index is None:
            self.skipped += 1
            return
        label = self._task.label(shape["label_id"])
        names = _names(label)
        elements = [(names.get(e["label_id"], "point"), _shape(e, where)) for e in shape.get("elements") or ()]
        read = _shape(shape, where, tuple(elements))
        if read.outside:
            return
        part = Part(label["name"], shape.get("group") or 0, {index: read}, single=True, origin=label["id"])
        self.parts.append(part)

    def add_track(self, track: dict[str, Any]) -> None:
        label = self._task.label(track["label_id"])
        where = f"Track of {label['name']!r} from frame {track['frame']}"
        names = _names(label)
        elements: dict[int, list[tuple[str, Shape]]] = {}
        for element in track.get("elements") or ():
            for shape in element["shapes"]:
                point = _shape({**shape, "type": "points"}, where)
                elements.setdefault(shape["frame"], []).append((names.get(element["label_id"], "point"), point))
        frames: dict[int, Shape] = {}
        own = {shape["frame"]: shape for shape in track["shapes"]}
        for number in sorted({*own, *elements}):
            index = self._task.frames.to_video(number)
            shape = own.get(number)
            if index is None:
                # A track may end on the frame after the last one, and on a deleted one.
                self.skipped += shape is None or not shape.get("outside")
                continue
            given = shape or {"type": "skeleton", "points": [], "outside": False}
            frames[index] = _shape(given, f"{where}, frame {number}", tuple(elements.get(number, ())))
        step = self._task.frames.step if self._task.frames.whole else 1
        part = part_of_track(label["name"], track.get("group") or 0, frames, step)
        if part is not None:
            part.origin = label["id"]
            self.parts.append(part)


def _drawn(data: dict[str, Any]) -> Annotations:
    """Without what an earlier run of ours put there."""
    return {kind: [entry for entry in data[kind] if not is_ours(entry)] for kind in ("shapes", "tracks")}


def _shape(given: dict[str, Any], where: str, elements: tuple[tuple[str, Shape], ...] = ()) -> Shape:
    kind = given["type"]
    if kind not in _TYPES:
        raise LabelError(f"{where}: a {kind} cannot be carried. Delete it in CVAT.", slug="bad-annotations")
    return Shape(
        type=kind,
        points=tuple(given.get("points") or ()),
        where=where,
        rotation=given.get("rotation") or 0.0,
        outside=bool(given.get("outside")),
        occluded=bool(given.get("occluded")),
        elements=elements,
    )


def _way_back(task: Task, object_: LinkedObject) -> dict[str, Any]:
    """Under which label and as what an object's results go back: as the label wants it, else as it was drawn."""
    back: dict[str, Any] = {"region": None, "points": None}
    for part in object_.parts:
        label = task.label(part.origin)
        kind = part.first.type
        if kind in ("points", "skeleton"):
            back["points"] = back["points"] or {"label_id": label["id"], "type": kind}
        else:
            type_ = _KINDS.get(label["type"]) or _DRAWN.get(kind, kind)
            back["region"] = back["region"] or {"label_id": label["id"], "type": type_}
    return back


def _names(label: dict[str, Any]) -> dict[int, str]:
    return {sub["id"]: sub["name"] for sub in label["sublabels"]}


def _skeleton(label: dict[str, Any]) -> dict[str, Any] | None:
    if label["type"] != "skeleton":
        return None
    names = _names(label)
    return skeleton_of(label["svg"], list(names.values()), {str(id_): name for id_, name in names.items()})


def _pictures(server: Server, task: Task) -> Iterator[tuple[int, bytes]]:
    path = f"/tasks/{task.id}/data/"
    if not task.chunk_size:
        for number in task.frames.kept:
            yield number, server.read(path, type="frame", number=number, quality="original")
        return
    chunks: dict[int, list[int]] = {}
    for number in task.frames.kept:
        chunks.setdefault(number // task.chunk_size, []).append(number)
    for chunk, numbers in chunks.items():
        data = server.read(path, type="chunk", number=chunk, quality="original")
        yield from _unpacked(data, numbers, task)


def _unpacked(data: bytes, numbers: Sequence[int], task: Task) -> Iterator[tuple[int, bytes]]:
    """The pictures of a chunk; deleted frames are in it too."""
    most = 64 * task.width * task.height + (1 << 20)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            for number in numbers:
                with archive.open(entries[number % task.chunk_size]) as file:
                    picture = file.read(most + 1)
                if len(picture) > most:
                    raise InputError(f"Frame {number} unpacks to far more than a picture of its size.")
                yield number, picture
    except (zipfile.BadZipFile, IndexError, EOFError, NotImplementedError) as error:
        raise InputError(f"A chunk of task {task.id} cannot be read ({error}). Try again.") from None


def _accepted(data: bytes, number: int) -> tuple[bytes, str]:
    """A picture as the service takes it, and how its name ends: JPEG and PNG as they are, others as PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP", "BMP", "TIFF"]) as image:
            if image.format in ("PNG", "JPEG"):
                return data, ".png" if image.format == "PNG" else ".jpg"
            packed = io.BytesIO()
            image.convert("RGB").save(packed, "PNG")
            return packed.getvalue(), ".png"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError(
            f"Frame {number} is no picture that can be read. Give the original video with --video instead."
        ) from None
