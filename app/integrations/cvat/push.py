"""Results into a task: what an earlier run left is replaced, what a person drew or changed is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.integrations.cvat.marks import is_edited, is_ours, object_of
from app.integrations.cvat.sdk import Server
from app.integrations.cvat.task import Segment, Task
from app.integrations.cvat.tracks import Annotations, build
from model.labels import FrameResult

_NUMBERS = 400_000
"""How many coordinates and run lengths go into one request: a few megabytes."""


@dataclass
class JobPush:
    """What is to be done in one CVAT job.

    Attributes:
        job: its id.
        create: annotations that are missing.
        delete: annotations of an earlier run that are not what the results say now.
        same: objects that stand there already as they should.
        edited: objects that a person has changed since; they stay as they are.
        sources: drawn annotations that the results were made of and that are still there as they were read.
        replace: whether these are taken out.
    """

    job: int
    create: Annotations = field(default_factory=lambda: {"shapes": [], "tracks": []})
    delete: Annotations = field(default_factory=lambda: {"shapes": [], "tracks": []})
    same: list[int] = field(default_factory=list)
    edited: list[int] = field(default_factory=list)
    sources: Annotations = field(default_factory=lambda: {"shapes": [], "tracks": []})
    replace: bool = False

    def requests(self) -> list[tuple[str, Annotations]]:
        """What is sent, in order: what was ours goes first, what people drew last."""
        found = [("delete", self.delete)] if _count(self.delete) else []
        found += [("create", part) for part in portions(self.create)]
        return found + ([("delete", self.sources)] if self.replace and _count(self.sources) else [])


def plan(
    server: Server,
    task: Task,
    objects: Mapping[int, Mapping[str, Any]],
    results: Callable[[], Iterable[FrameResult]],
    *,
    sources: Mapping[int, Annotations],
    replace: bool = False,
    overwrite_edited: bool = False,
    on_job: Callable[[], None] = lambda: None,
) -> Iterator[JobPush]:
    """What each job of the task needs; nothing is changed.

    Args:
        server: CVAT.
        task: the task.
        objects: how each object goes back.
        results: starts a pass over the results.
        sources: what people had drawn when the task was pulled, by job.
        replace: take that out, except where it was changed since.
        overwrite_edited: replace also what a person has changed of ours.
        on_job: called after each job.
    """
    for segment in task.segments:
        present = server.get(f"/jobs/{segment.job}/annotations/")
        push = _plan_job(task, segment, objects, results(), present, overwrite_edited)
        push.replace = replace
        for kind in ("shapes", "tracks"):
            # CVAT gives an annotation that is edited a new id.
            ids = {entry["id"] for entry in sources.get(segment.job, {}).get(kind, ())}
            push.sources[kind] = [entry for entry in present[kind] if entry["id"] in ids and not is_ours(entry)]
        yield push
        on_job()


def apply(server: Server, push: JobPush, *, on_request: Callable[[], None] = lambda: None) -> None:
    """Does it: at no moment does anything of ours stand there twice.

    A run that is cut off leaves a part of the new annotations; the next run knows them again and replaces them.
    """
    for action, part in push.requests():
        server.patch_annotations(push.job, action, dict(part))
        on_request()


def portions(annotations: Annotations) -> Iterator[Annotations]:
    """Annotations in parts of a size that a request may have; a track is never torn apart."""
    part: Annotations = {"shapes": [], "tracks": []}
    numbers = 0
    for kind in ("shapes", "tracks"):
        for entry in annotations[kind]:
            size = sum(len(shape["points"]) + 8 for shape in _shapes(entry))
            if numbers and numbers + size > _NUMBERS:
                yield part
                part, numbers = {"shapes": [], "tracks": []}, 0
            part[kind].append(entry)
            numbers += size
    if numbers:
        yield part


def _plan_job(
    task: Task,
    segment: Segment,
    objects: Mapping[int, Mapping[str, Any]],
    results: Iterable[FrameResult],
    present: Mapping[str, list[dict[str, Any]]],
    overwrite_edited: bool,
) -> JobPush:
    push = JobPush(segment.job)
    ours: dict[int, Annotations] = {}
    for kind in ("shapes", "tracks"):
        for entry in filter(is_ours, present[kind]):
            object_id = object_of(entry["group"])
            assert object_id is not None
            ours.setdefault(object_id, {"shapes": [], "tracks": []})[kind].append(entry)
    wanted = build(task, segment, objects, results)
    for object_id in sorted({*ours, *wanted}):
        old = ours.get(object_id, {"shapes": [], "tracks": []})
        new = wanted.get(object_id, {"shapes": [], "tracks": []})
        if not overwrite_edited and any(is_edited(entry) for kind in old.values() for entry in kind):
            push.edited.append(object_id)
        elif _plain(old) == _plain(new):
            push.same.append(object_id)
        else:
            for kind in ("shapes", "tracks"):
                push.delete[kind] += old[kind]
                push.create[kind] += new[kind]
    return push


def _plain(annotations: Annotations) -> list[Any]:
    """What annotations say, without what the server adds, to be compared."""
    said = []
    for kind in ("shapes", "tracks"):
        for entry in annotations[kind]:
            elements = sorted(
                (element["label_id"], [_said(shape) for shape in element.get("shapes", [])])
                for element in entry.get("elements") or ()
            )
            said.append((kind, entry["label_id"], entry["frame"], [_said(shape) for shape in _shapes(entry)], elements))
    return sorted(said, key=repr)


def _said(shape: Mapping[str, Any]) -> tuple[Any, ...]:
    points = [round(float(value), 2) for value in shape.get("points") or ()]
    return str(shape["type"]), shape["frame"], bool(shape.get("outside")), bool(shape.get("occluded")), points


def _shapes(entry: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if "shapes" not in entry:
        return [entry]
    return [*entry["shapes"], *(shape for element in entry.get("elements") or () for shape in element["shapes"])]


def _count(annotations: Annotations) -> int:
    return sum(map(len, annotations.values()))
