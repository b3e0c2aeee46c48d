"""Accepting a job: the request is checked against its video, pinned, made durable, and only then answered and sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import redis
from kombu.exceptions import OperationalError

from app.annotations import Annotations, embedded, own_words, read_annotations, refused_twice, with_annotations
from app.files import JobFiles, VideoFiles
from app.formats import ImportInput
from app.ids import new_id
from app.jobspec import JobSpec, parse_job, resolve, with_mask
from app.media import MediaDesk
from app.problems import FieldFault, Problem
from app.queue import Queue
from app.records.jobs import JobRecord, Jobs, PinnedModel, Progress
from app.records.videos import VideoRecord, Videos
from app.schemas.jobs import JobIn
from app.settings import Settings
from app.storage import Store
from app.uploads import Upload
from model.errors import InputError
from model.video import FrameTable, VideoInfo

_log = logging.getLogger(__name__)


class Desk(Protocol):
    """What accepting needs of the service; `app.api.context.Context` has it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store(self) -> Store: ...
    @property
    def desk(self) -> MediaDesk: ...
    @property
    def videos(self) -> Videos: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def queue(self) -> Queue: ...
    def video(self, owner: str, video_id: str) -> VideoRecord: ...


@dataclass(frozen=True)
class Submission:
    """What a caller sent.

    Attributes:
        spec: the JSON of a job.
        mask: a PNG of the job's first frame.
        annotations: labels of another tool, as a part of a form.
        prefix: the pointer of the JSON within the request, when it is a part of a form.
    """

    spec: bytes | None
    mask: bytes | None = None
    annotations: Annotations | None = None
    prefix: str = ""


def accept_job(service: Desk, owner: str, given: Submission) -> JobRecord:
    """A job on a video that is stored.

    Raises:
        Problem: whatever is wrong with it; nothing was stored then.
    """
    job_in = _parsed(given)
    if job_in.video_id is None:
        detail = "Name the video: upload it first, or send it in the same multipart call as the part `video`."
        raise Problem("invalid-request", detail, errors=[FieldFault(f"{given.prefix}/video_id", detail)])
    video = service.video(owner, job_in.video_id)
    info = VideoInfo.from_json(video.model_dump())
    table = VideoFiles(service.store, owner, video.id).table

    def frame_table() -> FrameTable:
        try:
            return FrameTable.load(service.store.local_path(table))
        except FileNotFoundError:
            raise Problem("video-not-found", "The video was deleted while the job was being accepted.") from None

    spec = _resolved(service, job_in, given, info, frame_table, video.name)
    return _create(service, owner, video.id, spec)


def accept_with_video(
    service: Desk, owner: str, given: Submission, upload: Upload, fps: Fraction | None = None
) -> JobRecord:
    """A job on a video that came with it. The labels are checked before the video is stored.

    Args:
        service: where it goes.
        owner: whose it is.
        given: the rest of the call.
        upload: the file, complete.
        fps: the frame rate of a zip of images.

    Raises:
        Problem: whatever is wrong with either; neither was stored then.
        MediaError: the video cannot be used.
    """
    job_in = _parsed(given)
    if job_in.video_id is not None:
        detail = "Send either the part `video` or a `video_id`, not both."
        raise Problem("invalid-request", detail, errors=[FieldFault(f"{given.prefix}/video_id", detail)])
    info = upload.check(service.desk, fps=fps)
    spec = _resolved(service, job_in, given, info, lambda: FrameTable.load(upload.table), None)
    video = upload.keep(owner, store=service.store, videos=service.videos)
    try:
        return _create(service, owner, video.id, spec)
    except BaseException:
        service.videos.delete(owner, video.id)
        service.store.delete_tree(VideoFiles(service.store, owner, video.id).prefix)
        raise


def _parsed(given: Submission) -> JobIn:
    if given.spec is None:
        return JobIn()
    try:
        return parse_job(given.spec)
    except InputError as error:
        raise _within(error, given.prefix) from None


def _resolved(
    service: Desk,
    job_in: JobIn,
    given: Submission,
    info: VideoInfo,
    table: Callable[[], FrameTable],
    video_name: str | None,
) -> JobSpec:
    if given.mask is not None:
        job_in = with_mask(job_in, given.mask, info)
    merged = job_in
    if given.annotations is not None or job_in.annotations is not None:
        if given.annotations is not None and job_in.annotations is not None:
            raise refused_twice(given.prefix)
        prefix = given.prefix if given.annotations is None else ""
        try:
            annotations = given.annotations or embedded(job_in.annotations, job_in.format)
            with service.store.scratch() as folder:
                path = annotations.save(folder)
                source = ImportInput(path, info, table(), video_name or "")
                imported = read_annotations(source, annotations.format or job_in.format)
            merged = with_annotations(job_in, imported)
        except InputError as error:
            raise _in_annotations(error, prefix) from None
    elif job_in.format is not None:
        detail = "`format` names the format of `annotations`, which are not there."
        raise Problem("invalid-request", detail, errors=[FieldFault(f"{given.prefix}/format", detail)])
    try:
        return resolve(merged, info, home=service.settings.home)
    except InputError as error:
        raise _within(error if merged is job_in else own_words(error, job_in, merged), given.prefix) from None


def _in_annotations(error: InputError, prefix: str) -> Problem:
    """A fault of a file of labels; its pointer, if it has one, leads into that file."""
    problem = Problem.of(error)
    pointer = "/format" if error.pointer == "/format" else f"/annotations{error.pointer or ''}"
    problem.errors = (FieldFault(prefix + pointer, error.detail),)
    return problem


def _within(error: InputError, prefix: str) -> Problem:
    problem = Problem.of(error)
    problem.errors = tuple(FieldFault(prefix + fault.pointer, fault.detail) for fault in problem.errors)
    return problem


def _create(service: Desk, owner: str, video_id: str, spec: JobSpec) -> JobRecord:
    record = JobRecord(
        id=new_id("j_"),
        owner=owner,
        video_id=video_id,
        progress=Progress(frames_total=len(spec.options.frames)),
        model=PinnedModel(name=spec.options.model, sha256=spec.options.model_sha256),
        options=spec.options.model_dump(),
        objects=[object_.model_dump() for object_ in spec.objects],
        metadata=spec.metadata,
        chunk_frames=service.settings.chunk_frames,
    )
    files = JobFiles(service.store, owner, record.id)
    try:
        service.store.write_atomic(files.spec, spec.model_dump_json().encode())
        if not service.jobs.create(record):
            raise Problem("video-not-found", "The video was deleted while the job was being accepted.")
    except BaseException:
        service.store.delete_tree(files.job_prefix)
        raise
    try:
        service.queue.propagate(owner, record.id)
    except (OperationalError, redis.RedisError):
        # The job is durable; the reaper finds that its message is missing and sends it.
        _log.warning("job %s is queued, but its message could not be sent; the reaper will send it", record.id)
    return record
