"""Labels of other tools on their way into a job: the file, its format, and what a reader made of it.

The API and the command line both go this way. A reader only proposes: what it found is checked like any other labels.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.formats import IMPORTS, Imported, ImportInput, find_reader
from app.formats.reading import bad
from app.formats.recognise import recognise
from app.jobspec import joined
from app.problems import FieldFault, InvalidDocument, Problem
from app.schemas.base import sentence_of
from app.schemas.jobs import JobIn
from app.schemas.labels import AnchorIn, ObjectIn
from model.errors import InputError

MAX_ANNOTATIONS = 64 << 20
_MAX_NAME_BYTES = 200
# How a zip and a PNG begin in base64.
_BASE64 = ("UEsD", "UEsF", "iVBORw0KGgo")


@dataclass(frozen=True)
class Annotations:
    """A file of labels as a caller sent it.

    Attributes:
        data: its bytes.
        name: what the caller calls it; formats of one file a frame look for the frame's number there.
        format: the name of its format; None to recognise it.
    """

    data: bytes
    name: str = ""
    format: str | None = None

    def save(self, folder: Path) -> Path:
        """Writes it into an empty folder, under its own name where that is a plain one."""
        name = PurePosixPath(self.name.replace("\\", "/")).name
        plain = name.isprintable() and not name.startswith(".") and 0 < len(name.encode()) <= _MAX_NAME_BYTES
        path = folder / (name if plain else "annotations")
        path.write_bytes(self.data)
        return path


def embedded(document: Any, format_name: str | None = None) -> Annotations:
    """Labels that stand in a request: a JSON document as it is, a text as text, a zip or PNG as text in base64."""
    if not isinstance(document, str):
        return Annotations(json.dumps(document).encode(), format=format_name)
    if not document.startswith(_BASE64):
        return Annotations(document.encode(), format=format_name)
    try:
        return Annotations(base64.b64decode(document, validate=True), format=format_name)
    except (binascii.Error, ValueError):
        raise bad("Send a zip or PNG in base64 without line breaks, or as a part of a multipart request.") from None


def read_annotations(given: ImportInput, format_name: str | None) -> Imported:
    """What a reader makes of a file.

    Raises:
        InputError: `bad-annotations`, or `invalid-request` for a format that is not read.
    """
    format_ = find_reader(format_name or recognise(given.path, list(IMPORTS)))
    assert format_.read is not None
    return format_.read(given)


def with_annotations(job_in: JobIn, imported: Imported) -> JobIn:
    """The request with what a reader found joined to it.

    What the request says itself comes first: an object that it declares keeps its declaration, labels on one of its
    anchors join that anchor, and two labels of one object there are found by `resolve`.

    Raises:
        InvalidDocument: `bad-annotations`, where what was found is no labels that a job can have.
    """
    objects = _checked(list[ObjectIn], imported.objects)
    anchors = _checked(list[AnchorIn], imported.anchors)
    if job_in.objects is not None:
        declared = {object_.id for object_ in job_in.objects}
        objects = [*job_in.objects, *(object_ for object_ in objects if object_.id not in declared)]
    else:
        own = {label.object for anchor in job_in.anchors for label in anchor.labels}
        objects = objects + [ObjectIn(id=id_) for id_ in sorted(own - {object_.id for object_ in objects})]
    merged = {anchor.frame: anchor for anchor in job_in.anchors}
    if len(merged) < len(job_in.anchors):
        return job_in.model_copy(update={"objects": objects, "anchors": [*job_in.anchors, *anchors]})
    for anchor in anchors:
        merged[anchor.frame] = joined(merged[anchor.frame], anchor) if anchor.frame in merged else anchor
    return job_in.model_copy(update={"objects": objects, "anchors": list(merged.values())})


def own_words(error: InputError, job_in: JobIn, merged: JobIn) -> InputError:
    """Faults of a request with annotations: those that lie in the annotations are told by frame and object.

    Their pointers speak of a document that the caller never saw.
    """
    faults: Sequence[FieldFault] = getattr(error, "errors", ()) or [FieldFault(error.pointer or "", error.detail)]
    told = [_told(fault, job_in, merged, error.slug) for fault in faults]
    return InvalidDocument(told)


def _told(fault: FieldFault, job_in: JobIn, merged: JobIn, slug: str) -> InputError:
    _, kind, *rest = [*fault.pointer.split("/"), ""]
    index = int(rest[0]) if rest and rest[0].isdecimal() else None
    if kind == "anchors" and index is not None and index >= len(job_in.anchors):
        anchor = merged.anchors[index]
        where = f"Frame {anchor.frame}"
        if len(rest) > 2 and rest[1] == "labels" and rest[2].isdecimal():
            where += f", object {anchor.labels[int(rest[2])].object}"
        return InputError(f"{where}: {fault.detail}", slug=slug, pointer="/annotations")
    if kind == "objects" and index is not None and index >= len(job_in.objects or ()):
        return InputError(fault.detail, slug=slug, pointer="/annotations")
    return InputError(fault.detail, slug=slug, pointer=fault.pointer)


def _checked(shape: Any, documents: list[dict[str, Any]]) -> Any:
    try:
        return TypeAdapter(shape).validate_json(json.dumps(documents))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
    at = found["loc"][0] if found["loc"] else None
    where = ""
    if isinstance(at, int):
        where = f"Frame {documents[at]['frame']}" if "frame" in documents[at] else f"Object {documents[at].get('id')}"
    field = "/".join(str(part) for part in found["loc"][1:])
    raise bad(f"{where} ({field}): {sentence_of(found)}")


def refused_twice(prefix: str) -> Problem:
    """The problem of annotations that come as a part and in the JSON as well."""
    detail = "Send the annotations once: as the part `annotations`, or within the JSON."
    return Problem("invalid-request", detail, errors=[FieldFault(f"{prefix}/annotations", detail)])
