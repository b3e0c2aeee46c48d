"""What may never happen, tried with real worker processes: a job lost, run by two at once, or tried for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from app.files import JobFiles
from app.processes import is_alive
from app.queue import Queue
from app.records.jobs import JobRecord, Jobs
from app.results import open_results
from app.settings import Settings
from app.storage import LocalStore


class Ran(NamedTuple):
    pid: int
    frame: int
    at: float


@pytest.fixture
def ran(home: Path) -> Callable[[JobRecord], list[Ran]]:
    """Every frame of a job that ran, in order."""

    def read(job: JobRecord) -> list[Ran]:
        path = home / "frames.log"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [Ran(int(pid), int(frame), float(at)) for job_id, pid, frame, at in lines if job_id == job.id]

    return read


@pytest.fixture
def check_whole(settings: Settings, ran: Callable[..., list[Ran]]) -> Callable[..., None]:
    """Checks that a finished job has every result, and that no frame ran more often than its interruptions allow."""

    def check(job: JobRecord, interruptions: int) -> None:
        results = open_results(LocalStore(settings.store_dir), job)
        assert [result.frame for result in results.iter()] == list(range(job.progress.frames_total))
        repeated = len(ran(job)) - job.progress.frames_total
        assert repeated <= interruptions * job.chunk_frames

    return check


def test_a_killed_child_costs_only_the_frames_since_the_checkpoint(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, check_whole: Any, settings: Settings
) -> None:
    start_worker()
    job = submit(seconds=0.02)
    for reached in (10, 25):
        frames = wait_for(lambda reached=reached: [it for it in ran(job) if it.frame >= reached])
        os.kill(frames[-1].pid, signal.SIGKILL)
    wait_for(lambda: job_now(job).final)
    assert job_now(job).status == "succeeded"
    assert job_now(job).attempts == 3
    check_whole(job, interruptions=2)
    files = JobFiles(LocalStore(settings.store_dir), job.owner, job.id)
    assert not files.store.exists(files.checkpoint)


def test_a_killed_worker_s_job_goes_to_another(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, check_whole: Any
) -> None:
    first = start_worker("one")
    job = submit(seconds=0.05)
    wait_for(lambda: len(ran(job)) >= 10)
    second = start_worker("two")
    child = ran(job)[-1].pid
    first.process.kill()
    first.process.wait()
    # The kernel ends the child with its parent: nothing goes on behind our back.
    wait_for(lambda: not is_alive(child))
    wait_for(lambda: job_now(job).final)
    assert job_now(job).status == "succeeded"
    assert second.process.poll() is None
    check_whole(job, interruptions=1)
    pids = [it.pid for it in ran(job)]
    assert pids == sorted(pids, key=lambda pid: pid != child), "two processes ran the job at once"


class TestLongLease:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"lease_ttl_s": 600.0})

    def test_a_worker_that_starts_again_need_not_wait_for_the_lease(
        self, start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, check_whole: Any
    ) -> None:
        worker = start_worker()
        job = submit(seconds=0.05)
        wait_for(lambda: len(ran(job)) >= 10)
        worker.process.kill()
        worker.process.wait()
        start_worker()
        wait_for(lambda: job_now(job).final)
        assert job_now(job).status == "succeeded"
        check_whole(job, interruptions=1)

    def test_a_worker_reports_its_child_s_death(
        self, start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any
    ) -> None:
        start_worker()
        job = submit(seconds=0.05)
        os.kill(wait_for(lambda: ran(job))[-1].pid, signal.SIGKILL)
        wait_for(lambda: job_now(job).final)
        assert (job_now(job).status, job_now(job).attempts) == ("succeeded", 2)

    def test_a_starting_worker_leaves_the_jobs_of_others_alone(
        self, start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any
    ) -> None:
        start_worker("one")
        job = submit(seconds=0.05)
        wait_for(lambda: len(ran(job)) >= 4)
        start_worker("two")
        wait_for(lambda: job_now(job).final)
        assert (job_now(job).status, job_now(job).attempts) == ("succeeded", 1)


def test_a_job_that_kills_its_child_ends_failed(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, settings: Settings
) -> None:
    start_worker()
    poison = submit(kill_at=6)
    sound = submit()
    wait_for(lambda: job_now(poison).final and job_now(sound).final, 40)
    found = job_now(poison)
    assert found.status == "failed"
    assert found.error["type"] == "/problems/attempts-exhausted"
    assert "killed" in found.error["detail"]
    # The first attempt made a checkpoint; three more got no further.
    assert [it.frame for it in ran(poison)].count(6) == found.attempts == 1 + settings.max_attempts
    assert [result.frame for result in open_results(LocalStore(settings.store_dir), found).iter()] == [0, 1, 2, 3]
    wait_for(lambda: job_now(poison).progress.frames_done == 4)
    assert job_now(sound).status == "succeeded"
    time.sleep(2 * settings.resend_after_s)
    assert job_now(poison).attempts == found.attempts


def test_an_unexpected_exception_is_tried_again_and_told_without_our_paths(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any
) -> None:
    start_worker()
    job = submit(raise_at=2)
    wait_for(lambda: job_now(job).final)
    found = job_now(job)
    assert (found.status, found.attempts) == ("failed", 3)
    assert "RuntimeError" in found.error["detail"]
    assert "/a/path" not in str(found.error)
    assert "Traceback" not in str(found.error)


def test_an_unreadable_frame_ends_the_job_at_once_with_its_reason(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any
) -> None:
    start_worker()
    job = submit(unreadable_at=9)
    wait_for(lambda: job_now(job).final)
    found = job_now(job)
    assert (found.status, found.attempts) == ("failed", 1)
    assert found.error["type"] == "/problems/frame-unreadable"
    assert "9" in found.error["detail"]


def test_a_running_job_is_cancelled_before_its_next_frame_ends(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, redis_client: redis.Redis, settings: Settings
) -> None:
    start_worker()
    job = submit(frames=400, seconds=0.1)
    wait_for(lambda: len(ran(job)) >= 6)
    assert Jobs(redis_client).request_cancel(job.owner, job.id) == "running"
    asked = time.time()
    wait_for(lambda: job_now(job).final, 5)
    assert job_now(job).status == "cancelled"
    assert sum(it.at > asked for it in ran(job)) <= 1
    done = [result.frame for result in open_results(LocalStore(settings.store_dir), job).iter()]
    assert done[:4] == [0, 1, 2, 3]
    assert job_now(job).progress.frames_done == len(ran(job))


def test_a_worker_that_is_told_to_stop_lets_its_job_go(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, check_whole: Any
) -> None:
    first = start_worker("one")
    job = submit(frames=60, seconds=0.05)
    wait_for(lambda: len(ran(job)) >= 10)
    told = time.time()
    first.process.terminate()
    first.process.wait(10)
    found = job_now(job)
    assert (found.status, found.stalled) == ("queued", 0)
    assert sum(it.at > told for it in ran(job)) <= 3
    start_worker("two")
    wait_for(lambda: job_now(job).final)
    assert job_now(job).status == "succeeded"
    check_whole(job, interruptions=1)


def test_a_message_that_comes_many_times_runs_the_job_once(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, check_whole: Any, settings: Settings
) -> None:
    start_worker("one")
    start_worker("two")
    job = submit(seconds=0.02)
    queue = Queue(str(settings.redis_url))
    for _ in range(6):
        queue.propagate(job.owner, job.id)
    wait_for(lambda: job_now(job).final)
    time.sleep(0.5)
    queue.close()
    assert job_now(job).attempts == 1
    assert len({it.pid for it in ran(job)}) == 1
    check_whole(job, interruptions=0)


def test_a_job_whose_message_was_lost_is_found(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, check_whole: Any
) -> None:
    job = submit(send=False)
    start_worker("cpu", "cpu")
    start_worker("gpu")
    wait_for(lambda: job_now(job).final)
    assert job_now(job).status == "succeeded"
    check_whole(job, interruptions=0)


def test_a_frozen_worker_loses_its_job_and_cannot_take_it_back(
    start_worker: Any, submit: Any, job_now: Any, wait_for: Any, ran: Any, check_whole: Any
) -> None:
    start_worker("one")
    job = submit(seconds=0.05)
    wait_for(lambda: len(ran(job)) >= 10)
    frozen = ran(job)[-1].pid
    os.kill(frozen, signal.SIGSTOP)  # at once: on a busy machine the job is done before another worker stands
    start_worker("two")
    wait_for(lambda: len({it.pid for it in ran(job)}) == 2)
    os.kill(frozen, signal.SIGCONT)
    woken = time.time()
    wait_for(lambda: job_now(job).final)
    assert job_now(job).status == "succeeded"
    # It may end the frame that it was in; then it learns that the job is no longer its own.
    assert sum(it.pid == frozen and it.at > woken for it in ran(job)) <= 1
    check_whole(job, interruptions=1)


def test_a_job_deleted_while_it_runs_leaves_nothing_behind(
    start_worker: Any, submit: Any, wait_for: Any, ran: Any, redis_client: redis.Redis, settings: Settings
) -> None:
    start_worker()
    job = submit(frames=400, seconds=0.02)
    wait_for(lambda: len(ran(job)) >= 6)
    files = JobFiles(LocalStore(settings.store_dir), job.owner, job.id)
    Jobs(redis_client).delete(job.owner, job.id, force=True)
    files.store.delete_tree(files.job_prefix)
    count = -1
    while count != len(ran(job)):
        count = len(ran(job))
        time.sleep(0.3)
    assert files.store.list(files.job_prefix) == []


class TestStall:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"stall_timeout_s": 0.6, "max_attempts": 2})

    def test_a_job_that_hangs_is_ended_and_counted(
        self, start_worker: Any, submit: Any, job_now: Any, wait_for: Any
    ) -> None:
        start_worker()
        job = submit(hang_at=1)
        wait_for(lambda: job_now(job).final, 30)
        assert (job_now(job).status, job_now(job).attempts) == ("failed", 2)
