"""Building one export of a job that has ended.

It is built in a scratch directory and moved into the store whole. Building twice gives the same file, so the lease
saves work rather than results; a build that dies is asked for again by whoever waits for it (`app.records.exports`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import redis

from app.files import JobFiles, VideoFiles
from app.formats import ExportInput, ExportOptions, Format, find_variant, variant_filename
from app.jobspec import JobSpec, build_labels
from app.problems import Problem, problem_document
from app.records.exports import ExportLease
from app.records.jobs import JobRecord
from app.results import open_results
from model.errors import InputError, MediaError
from model.video import Frame, FrameTable, VideoInfo, open_video
from worker.resources import Resources

log = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_EVERY_S = 0.5


def build(at: Resources, owner: str, job_id: str, name: str, *, node: str) -> None:
    """Builds one export and records how that ended.

    Args:
        at: what to work with.
        owner: whose job.
        job_id: which job.
        name: the format and its options, as `app.formats.variant_name` names them.
        node: this worker, to notice that it is told to stop.
    """
    job = at.jobs.get(owner, job_id)
    lease = None if job is None else at.exports.claim(owner, job_id, job.revision, name)
    if job is None or lease is None:
        log.info("export %s of job %s is not ours to build", name, job_id)
        return
    try:
        with _Keeper(at, lease, node) as keeper:
            _write(at, job, *find_variant(name), keeper)
        at.exports.done(lease)
        log.info("export %s of job %s: built", name, job_id)
    except _Interrupted:
        if at.workers.draining(node) and at.exports.release(lease):
            at.queue.export(owner, job_id, name)
    except InputError as error:
        at.exports.failed(lease, Problem.of(error).document())
    except Exception as error:
        log.exception("export %s of job %s failed", name, job_id)
        detail = f"Building {name!r} ended with an unexpected {type(error).__name__}; the worker's log has more."
        at.exports.failed(lease, problem_document("export-failed", detail))
    files = JobFiles(at.store, owner, job_id, job.revision)
    if at.jobs.get(owner, job_id) is None:
        # The job was deleted meanwhile: what came after the deletion goes too.
        at.store.delete_tree(files.job_prefix)


def _write(at: Resources, job: JobRecord, format_: Format, options: ExportOptions, keeper: _Keeper) -> None:
    files = JobFiles(at.store, job.owner, job.id, job.revision)
    video = VideoFiles(at.store, job.owner, job.video_id)
    spec = JobSpec.model_validate_json(at.store.read(files.spec))
    info = VideoInfo.from_json(json.loads(at.store.read(files.video_info)))
    table = FrameTable.load(at.store.local_path(files.table))
    results = open_results(at.store, job)
    record = at.videos.get(job.owner, job.video_id)
    objects, _ = build_labels(spec)

    def frames_from(first: int) -> Iterator[Frame]:
        try:
            media = at.store.local_path(video.media)
        except FileNotFoundError:
            detail = f"The video was deleted, and {format_.name!r} is drawn on its frames."
            raise MediaError(detail, slug="video-not-found") from None
        with open_video(media, table=table, limits=at.settings.limits, fps=info.fps) as source:
            yield from source.frames(first, spec.options.end, spec.options.stride)

    given = ExportInput(
        info=info,
        table=table,
        objects=objects,
        results=lambda: keeper.heeded(results.iter()),
        frames=frames_from,
        video_name=(record.name if record is not None else None) or job.video_id,
        job_id=job.id,
        options=options,
    )
    with at.store.scratch() as folder:
        path = folder / format_.filename
        format_.write_file(given, path)
        keeper.check()
        at.store.adopt(path, files.export(variant_filename(format_, options)))


class _Interrupted(Exception):  # noqa: N818  (somebody asked for it)
    """The build must end here."""


class _Keeper:
    """Renews the lease while the block runs, and notices that the build should end."""

    def __init__(self, at: Resources, lease: ExportLease, node: str) -> None:
        self._at, self._lease, self._node = at, lease, node
        self._ended = threading.Event()
        self._lost = False
        self._next_look = 0.0
        self._thread = threading.Thread(target=self._keep, name="export-keeper", daemon=True)

    def __enter__(self) -> _Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def heeded(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until the build should end."""
        for item in items:
            self.check()
            yield item

    def check(self) -> None:
        """Raises where the lease is lost or the worker is told to stop."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY_S
            if self._at.workers.draining(self._node):
                raise _Interrupted
        if self._lost:
            raise _Interrupted

    def _keep(self) -> None:
        while not self._ended.wait(self._at.settings.lease_ttl_s / 4):
            try:
                if not self._at.exports.renew(self._lease):
                    self._lost = True
                    return
            except redis.RedisError as error:
                log.warning("Redis cannot be reached: %s", error)
