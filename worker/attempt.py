"""One attempt at a job: claim it, work under its lease, end it in a state that the records know.

However an attempt ends, the job goes on: it is final, or it is queued with its message sent, or the reaper finds it.
Only the holder of the lease writes; whoever has lost it stops and says nothing.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from app.files import JobFiles, VideoFiles
from app.problems import Problem, problem_document
from app.records.jobs import JobRecord
from app.records.leases import Lease, Signal
from app.results import ResultStore, open_results
from model.errors import InputError
from worker.interrupted import Interrupted
from worker.lease_keeper import LeaseKeeper
from worker.resources import Resources

log = logging.getLogger(__name__)


class Stop(Interrupted):
    """The job must end here; let it through.

    Attributes:
        signal: why: cancelled, the worker drains, or the lease is lost.
    """

    def __init__(self, signal: Signal) -> None:
        # Only a job that ends here and now may keep part of a chunk: another worker may be at it otherwise.
        super().__init__(signal.value, keep=signal is Signal.CANCEL)
        self.signal = signal


@dataclass(frozen=True)
class Attempt:
    """What the work on a job gets.

    Attributes:
        job: the record at the time of the claim.
        files: where the job's files lie.
        video: where the video's files lie.
        results: where its results go.
        keeper: the lease.
    """

    job: JobRecord
    files: JobFiles
    video: VideoFiles
    results: ResultStore
    keeper: LeaseKeeper

    def progress(self, steps_done: int, steps_total: int, frames_done: int) -> None:
        """To be called after every frame; raises Stop."""
        _heed(self.keeper.progress(steps_done, steps_total, frames_done))

    def checkpointed(self) -> None:
        """To be called after every new checkpoint; raises Stop."""
        _heed(self.keeper.checkpointed())


def attempt(resources: Resources, owner: str, job_id: str, worker: str, work: Callable[[Attempt], None]) -> None:
    """Runs `work` on a job if this process gets its lease, and records how it ended.

    Args:
        resources: what to work with.
        owner: whose job.
        job_id: which job.
        worker: this process, as `node/pid`.
        work: does the job, and calls `Attempt.progress` after every frame. InputError ends the job `failed` with its
            own slug; any other exception ends the attempt, and the job is tried again while it has attempts left.
    """
    lease = resources.leases.claim(owner, job_id, worker)
    if lease is None:
        log.info("job %s is not ours to run: final, gone, or another worker has it", job_id)
        return
    job = resources.jobs.get(owner, job_id)
    if job is None:
        return
    files = JobFiles(resources.store, owner, job_id, job.revision)
    video = VideoFiles(resources.store, owner, job.video_id)
    log.info("job %s: attempt %d", job_id, lease.attempt)
    try:
        with LeaseKeeper(resources.leases, lease, stall_timeout_s=resources.settings.stall_timeout_s) as keeper:
            _heed(resources.leases.look(lease))
            work(Attempt(job, files, video, open_results(resources.store, job), keeper))
    except Stop as stop:
        _stopped(resources, lease, files, stop.signal)
    except InputError as error:
        log.warning("job %s cannot be done: %s (%s)", job_id, error.detail, error.slug)
        if resources.leases.finish(lease, "failed", Problem.of(error).document()):
            files.clear_scratch()
    except Exception as error:
        log.exception("job %s: the attempt failed", job_id)
        _broken(resources, lease, _reason(error))
    else:
        if resources.leases.finish(lease, "succeeded"):
            files.clear_scratch()
            log.info("job %s: done", job_id)
        else:
            _lost(resources, lease, files)


def exhausted(reason: str) -> dict[str, object]:
    """The problem document of a job whose attempts are used up."""
    detail = f"The job was tried several times and got no further. The last attempt ended because {reason}."
    return problem_document("attempts-exhausted", detail)


def settle(resources: Resources, owner: str, job_id: str) -> None:
    """Tidies up after a job that was ended from outside: its progress is what is stored, its scratch files go."""
    job = resources.jobs.get(owner, job_id)
    if job is not None and job.final:
        resources.leases.settle(owner, job_id, open_results(resources.store, job).count())
        JobFiles(resources.store, owner, job_id, job.revision).clear_scratch()


def _heed(signal: Signal) -> None:
    if signal is not Signal.CONTINUE:
        raise Stop(signal)


def _stopped(resources: Resources, lease: Lease, files: JobFiles, signal: Signal) -> None:
    if signal is Signal.CANCEL:
        if resources.leases.finish(lease, "cancelled"):
            files.clear_scratch()
    elif signal is Signal.DRAIN:
        if resources.leases.release(lease) == "queued":
            resources.queue.propagate(lease.owner, lease.job_id)
            log.info("job %s: let go, this worker shuts down", lease.job_id)
    else:
        _lost(resources, lease, files)


def _lost(resources: Resources, lease: Lease, files: JobFiles) -> None:
    log.warning("job %s: the lease is lost", lease.job_id)
    if resources.jobs.get(lease.owner, lease.job_id) is None:
        # It was deleted while this process still wrote: what came after the deletion goes too.
        files.store.delete_tree(files.job_prefix)


def _broken(resources: Resources, lease: Lease, reason: str) -> None:
    status = resources.leases.give_up(lease, reason, exhausted(reason))
    if status == "queued":
        resources.queue.propagate(lease.owner, lease.job_id)
    elif status is not None:
        settle(resources, lease.owner, lease.job_id)


def _reason(error: Exception) -> str:
    """An unexpected exception for the caller's eyes, without our paths or values: its kind and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"of an unexpected {type(error).__name__} in {frames[-1].name} (the worker's log has more)"
