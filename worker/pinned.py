"""The work on one job as its `spec.json` pins it: between the lease above it and the model below."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.jobspec import JobSpec
from app.records.videos import VideoRecord
from model.errors import MediaError
from model.video import FrameTable, VideoInfo, open_video
from worker.attempt import Attempt
from worker.resources import Resources

if TYPE_CHECKING:
    from worker.models import WarmModels


def run_pinned(at: Resources, running: Attempt) -> None:
    """Does the job as its `spec.json` pins it.

    Raises:
        InputError: the job cannot be done: a frame does not decode, the model's file is another, the video is gone.
        Stop: somebody asked for it.
    """
    # Torch comes in here, in the child, at the first job; the model stays warm for the next.
    from model.kept import KeptFeatures
    from worker.run import Progress, run_job

    def on_frame(progress: Progress) -> None:
        running.progress(progress.steps_done, progress.steps_total, progress.frames_done)

    options = at.settings
    spec = JobSpec.model_validate_json(at.store.read(running.files.spec))
    models = _models(options.home, options.device, options.threads)
    extractor = models.get(spec.options.model, spec.options.model_sha256)
    video, info = _keep_facts(at, running)
    table = FrameTable.load(at.store.local_path(running.files.table))
    media = at.store.local_path(running.video.media)
    kept = KeptFeatures(
        options.features_dir,
        options.kept_features_bytes,
        video_sha256=video.sha256,
        table=table,
        model_sha256=spec.options.model_sha256,
    )
    with open_video(media, table=table, limits=options.limits, fps=info.fps) as source:
        run_job(
            spec,
            source,
            running.results,
            running.files,
            extractor,
            on_frame=on_frame,
            on_checkpoint=running.checkpointed,
            kept=kept if options.kept_features_bytes else None,
        )


def _keep_facts(at: Resources, running: Attempt) -> tuple[VideoRecord, VideoInfo]:
    """The video's record and facts; they are copied beside the results, which then need the video no more."""
    files, video = running.files, running.video
    record = at.videos.get(running.job.owner, running.job.video_id)
    if record is None or not at.store.exists(video.media):
        raise MediaError("The video was deleted while the job was waiting.", slug="video-not-found")
    info = VideoInfo.from_json(record.model_dump(mode="json"))
    if not at.store.exists(files.table):
        at.store.write_atomic(files.table, at.store.read(video.table))
    at.store.write_atomic(files.video_info, json.dumps(info.to_json()).encode())
    return record, info


@lru_cache(maxsize=1)
def _models(home: Path, device: str, threads: int) -> WarmModels:
    from worker.models import WarmModels, prepare_process

    prepare_process(threads)
    return WarmModels(home, device)
