"""A job of the service, run: from the attempt's records and files to `worker.run`."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

from app.jobspec import JobSpec
from app.settings import Settings
from model.video import FrameTable, open_video
from worker.attempt import Attempt
from worker.models import WarmModels, use_threads
from worker.run import Progress, run_job

log = logging.getLogger(__name__)


def run(running: Attempt, settings: Settings) -> None:
    """Does the job as its `spec.json` pins it, and continues where an earlier attempt got to.

    Raises:
        InputError: the video or the model cannot be used any more; it ends the job.
    """
    store = running.files.store
    spec = JobSpec.model_validate_json(store.read(running.files.spec))
    extractor = _models(settings.home, settings.device, settings.threads).get(
        spec.options.model, spec.options.model_sha256
    )
    table = FrameTable.load(store.local_path(running.video.table))
    media = store.local_path(running.video.media)
    with open_video(media, table=table, limits=settings.limits) as source:
        run_job(
            spec,
            source,
            running.results,
            running.files,
            extractor,
            on_frame=lambda progress: _tell(running, progress),
            on_checkpoint=running.checkpointed,
        )


def _tell(running: Attempt, progress: Progress) -> None:
    running.progress(progress.steps_done, progress.steps_total, progress.frames_done)


@lru_cache(maxsize=1)
def _models(home: Path, device: str, threads: int) -> WarmModels:
    use_threads(threads)
    return WarmModels(home, device)
