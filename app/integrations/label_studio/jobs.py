"""Jobs on behalf of Label Studio: submitted once for the same labels, waited for a while, read as regions."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.accept import Desk, Submission, accept_job
from app.files import VideoFiles
from app.integrations.label_studio.prompts import Prompt
from app.problems import KINDS, Problem
from app.records.jobs import JobRecord
from app.records.label_studio import LabelStudioRecords
from app.records.videos import VideoRecord
from model.video import FrameTable, VideoInfo

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Clip:
    """A stored video as the formats take it."""

    record: VideoRecord
    info: VideoInfo
    table: FrameTable


def open_clip(service: Desk, owner: str, record: VideoRecord) -> Clip:
    """The facts and the frame table of a stored video.

    Raises:
        Problem: `video-not-found`: it was deleted just now.
    """
    info = VideoInfo.from_json(record.model_dump())
    try:
        table = FrameTable.load(service.store.local_path(VideoFiles(service.store, owner, record.id).table))
    except FileNotFoundError:
        raise Problem("video-not-found", "The video was deleted.") from None
    return Clip(record, info, table)


def submit(
    service: Desk,
    records: LabelStudioRecords,
    owner: str,
    prompt: Prompt,
    video_id: str,
    *,
    options: dict[str, Any],
    metadata: dict[str, Any],
) -> JobRecord:
    """The job on these labels: the one that is there already, unless it failed or was cancelled, or else a new one.

    Raises:
        Problem: the labels or options cannot be used.
    """
    digest = prompt.digest(video_id, options)
    with records.alone(f"job-{digest}"):
        known = records.job(digest)
        job = None if known is None else service.jobs.get(owner, known)
        if job is not None and job.status not in ("failed", "cancelled"):
            return job
        spec = {
            "video_id": video_id,
            "objects": prompt.objects,
            "anchors": prompt.anchors,
            "options": options,
            "metadata": metadata,
        }
        job = accept_job(service, owner, Submission(spec=json.dumps(spec).encode()))
        records.set_job(digest, job.id)
        _log.info("task %s: job %s", metadata.get("task"), job.id)
        return job


def wait_for(service: Desk, owner: str, job_ids: Iterable[str], deadline: float) -> dict[str, JobRecord]:
    """The jobs as they stand once all have ended, or at the deadline (of `time.monotonic`); deleted ones lack."""
    found: dict[str, JobRecord] = {}
    left = list(dict.fromkeys(job_ids))
    while True:
        for job_id in left:
            record = service.jobs.get(owner, job_id)
            found.pop(job_id, None)
            if record is not None:
                found[job_id] = record
        left = [job_id for job_id in left if job_id in found and not found[job_id].final]
        if not left or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK_EVERY_S)


def problem_of(job: JobRecord | None) -> Problem | None:
    """Why a job gives no results; None where it does, or will."""
    if job is None:
        return Problem("job-not-found", "The job was deleted.")
    if job.status == "cancelled":
        return Problem("job-final", f"The job {job.id} was cancelled. Ask again for a new one.", job_status=job.status)
    if job.status != "failed":
        return None
    error = job.error or {}
    slug = str(error.get("type", "")).rsplit("/", 1)[-1]
    detail = f"The job {job.id} failed: {error.get('detail', 'its log says why')}"
    return Problem(slug if slug in KINDS else "internal-error", detail)
