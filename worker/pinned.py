"""The work on one job as its `spec.json` pins it: between the lease above it and the model below."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.jobspec import JobSpec
from app.records.leases import Signal
from app.settings import Settings
from model.catalogue import find_model
from model.errors import MediaError, ModelError
from model.video import FrameTable, VideoInfo, open_video
from worker.attempt import Attempt, Stop
from worker.bench import Bench

if TYPE_CHECKING:
    from model.features import FeatureExtractor


def run_pinned(at: Bench, running: Attempt) -> None:
    """Does the job as its `spec.json` pins it.

    Raises:
        InputError: the job cannot be done: a frame does not decode, the model's file is another, the video is gone.
        Stop: somebody asked for it.
    """
    # Torch comes in here, in the child, at the first job; the model stays warm for the next.
    from worker.run import Interrupted, Progress, run_job

    def on_frame(progress: Progress) -> None:
        try:
            running.progress(progress.steps_done, progress.steps_total, progress.frames_done)
        except Stop as stop:
            # Only a job that ends here and now may keep part of a chunk: another worker may be at it otherwise.
            raise Interrupted(stop.signal.value, keep=stop.signal is Signal.CANCEL) from stop

    spec = JobSpec.model_validate_json(at.store.read(running.files.spec))
    extractor = _extractor(spec, at.settings)
    info = _keep_facts(at, running)
    table = FrameTable.load(at.store.local_path(running.files.table))
    media = at.store.local_path(running.video.media)
    try:
        with open_video(media, table=table, limits=at.settings.limits, fps=info.fps) as source:
            run_job(
                spec,
                source,
                running.results,
                running.files,
                extractor,
                on_frame=on_frame,
                on_checkpoint=running.checkpointed,
            )
    except Interrupted as ending:
        raise (ending.__cause__ or ending) from None


def _keep_facts(at: Bench, running: Attempt) -> VideoInfo:
    """The video's facts; they are copied beside the results, which then need the video no more."""
    files, video = running.files, running.video
    record = at.videos.get(running.job.owner, running.job.video_id)
    if record is None or not at.store.exists(video.media):
        raise MediaError("The video was deleted while the job was waiting.", slug="video-not-found")
    info = VideoInfo.from_json(record.model_dump(mode="json"))
    if not at.store.exists(files.table):
        at.store.write_atomic(files.table, at.store.read(video.table))
    at.store.write_atomic(files.video_info, json.dumps(info.to_json()).encode())
    return info


def _extractor(spec: JobSpec, settings: Settings) -> FeatureExtractor:
    found = find_model(spec.options.model, settings.home)
    if found.sha256 != spec.options.model_sha256:
        raise ModelError(
            f"The file of model {found.name!r} was replaced since the job was accepted. Submit the job again.",
            slug="model-changed",
        )
    return _warm(found.path, found.sha256, settings.device, settings.threads)


@lru_cache(maxsize=1)
def _warm(path: Path, sha256: str, device: str, threads: int) -> FeatureExtractor:
    # The hash is part of the key, so that a replaced file is loaded anew.
    import torch

    from model.checkpoint import load_checkpoint
    from model.features import FeatureExtractor

    if threads:
        torch.set_num_threads(threads)
    return FeatureExtractor(load_checkpoint(path), device=device)
