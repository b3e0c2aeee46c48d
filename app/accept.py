"""Accepting a job: the request is checked against its video, pinned, made durable, and only then answered and sent."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import redis
from kombu.exceptions import OperationalError

from app.anchors import VideoSize
from app.files import JobFiles, VideoFiles
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
        prefix: the pointer of the JSON within the request, when it is a part of a form.
    """

    spec: bytes | None
    mask: bytes | None = None
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
    spec = _resolved(job_in, given, video, service.settings)
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
    spec = _resolved(job_in, given, info, service.settings)
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


def _resolved(job_in: JobIn, given: Submission, video: VideoSize, settings: Settings) -> JobSpec:
    if given.mask is not None:
        job_in = with_mask(job_in, given.mask, video)
    try:
        return resolve(job_in, video, home=settings.home)
    except InputError as error:
        raise _within(error, given.prefix) from None


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
