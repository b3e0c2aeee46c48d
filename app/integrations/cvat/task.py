"""A task as CVAT has it: its frames, labels and jobs, and how its frame numbers go with a video's."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from app.integrations.cvat.sdk import Server
from model.errors import InputError


@dataclass(frozen=True)
class FrameMap:
    """CVAT's frame numbers and a video's.

    A task's frame n is frame `start + n * step` of the video that it was made of. Annotations speak of task frames.
    Deleted frames keep their numbers, and are neither shown nor labelled.

    Attributes:
        size: how many frames the task has, deleted ones included.
        start: the video's frame that the task begins with.
        step: of the task's frame filter.
        deleted: task frames that were deleted.
        whole: whether the video is the one that the task was made of. Otherwise it is the pictures of the task's
            frames, without the deleted ones, one after the other.
    """

    size: int
    start: int = 0
    step: int = 1
    deleted: tuple[int, ...] = ()
    whole: bool = False

    @cached_property
    def kept(self) -> list[int]:
        """The task's frames that are not deleted."""
        gone = set(self.deleted)
        return [number for number in range(self.size) if number not in gone]

    @cached_property
    def _videos(self) -> dict[int, int]:
        if self.whole:
            return {number: self.start + number * self.step for number in self.kept}
        return {number: index for index, number in enumerate(self.kept)}

    @cached_property
    def _tasks(self) -> dict[int, int]:
        return {index: number for number, index in self._videos.items()}

    def to_video(self, number: int) -> int | None:
        """The video's frame of a task's frame; None for one that is deleted or that the task does not have."""
        return self._videos.get(number)

    def to_task(self, index: int) -> int | None:
        """The task's frame of a video's frame; None for one that is not in the task."""
        return self._tasks.get(index)

    @property
    def options(self) -> dict[str, int]:
        """The range of a job of ours on the video."""
        if not self.whole:
            return {}
        return {"start": self.start, "end": self.start + (self.size - 1) * self.step + 1, "stride": self.step}

    @property
    def frame_count(self) -> int:
        """How many frames the video must have at the least."""
        return self.start + (self.size - 1) * self.step + 1 if self.whole else len(self.kept)


@dataclass(frozen=True)
class Segment:
    """One of the task's jobs: the task's frames `start` to `stop`, both included."""

    job: int
    start: int
    stop: int


@dataclass(frozen=True)
class Task:
    """What the connector needs of a task.

    Attributes:
        id: its id.
        server: the server's address.
        name: what it is called.
        width: of its frames, in pixels.
        height: of its frames.
        frames: its frames.
        segments: its annotation jobs in the order of their frames, without ground truth and replicas.
        labels: as the API has them, with their sublabels.
        chunk_size: how many frames lie in a chunk of pictures; 0 where chunks are videos.
    """

    id: int
    server: str
    name: str
    width: int
    height: int
    frames: FrameMap
    segments: tuple[Segment, ...]
    labels: tuple[dict[str, Any], ...]
    chunk_size: int

    @classmethod
    def read(cls, server: Server, task_id: int, *, whole: bool) -> Task:
        """The task as it is now.

        Raises:
            InputError: it has no frames, frames of several sizes, or is not of flat pictures.
        """
        task = server.get(f"/tasks/{task_id}")
        if task.get("dimension", "2d") != "2d":
            raise InputError(f"Task {task_id} is three-dimensional; only pictures and videos can be carried.")
        meta = server.get(f"/tasks/{task_id}/data/meta")
        sizes = {(frame["width"], frame["height"]) for frame in meta["frames"] or ()}
        if not meta.get("size") or not sizes:
            raise InputError(f"Task {task_id} has no frames yet. Wait until CVAT has prepared them.")
        if len(sizes) > 1:
            raise InputError(f"The pictures of task {task_id} have {len(sizes)} sizes; a video has one.")
        ((width, height),) = sizes
        jobs = [job for job in server.pages("/jobs", task_id=task_id) if job.get("type", "annotation") == "annotation"]
        return cls(
            id=task_id,
            server=server.address,
            name=task["name"],
            width=width,
            height=height,
            frames=FrameMap(
                size=meta["size"],
                start=meta.get("start_frame") or 0,
                step=frame_step(meta.get("frame_filter") or ""),
                deleted=tuple(meta["deleted_frames"]),
                whole=whole,
            ),
            segments=tuple(
                Segment(job["id"], job["start_frame"], job["stop_frame"])
                for job in sorted(jobs, key=lambda job: (job["start_frame"], job["id"]))
            ),
            labels=tuple(_label(label) for label in server.pages("/labels", task_id=task_id)),
            chunk_size=task.get("data_chunk_size") or 0 if task.get("data_original_chunk_type") == "imageset" else 0,
        )

    def label(self, label_id: int) -> dict[str, Any]:
        """The label of that id.

        Raises:
            InputError: the task has none of it (any more).
        """
        for label in self.labels:
            if label["id"] == label_id:
                return label
        raise InputError(f"Task {self.id} has no label {label_id} any more. Pull it again.")

    def to_json(self) -> dict[str, Any]:
        """A document; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Task:
        """The task that `to_json` wrote."""
        frames = {**document["frames"], "deleted": tuple(document["frames"]["deleted"])}
        segments = tuple(Segment(**segment) for segment in document["segments"])
        return cls(
            **{**document, "frames": FrameMap(**frames), "segments": segments, "labels": tuple(document["labels"])}
        )


def frame_step(frame_filter: str) -> int:
    """The step of CVAT's frame filter, such as `step=5`; 1 without one."""
    match = re.search(r"step\s*=\s*(\d{1,9})", frame_filter)
    return max(1, int(match[1])) if match else 1


def _label(label: dict[str, Any]) -> dict[str, Any]:
    kept = {name: label.get(name) for name in ("id", "name", "type", "svg")}
    sublabels = [{"id": sub["id"], "name": sub["name"]} for sub in label.get("sublabels") or ()]
    return {**kept, "type": kept["type"] or "any", "svg": kept["svg"] or "", "sublabels": sublabels}
