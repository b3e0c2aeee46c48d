from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from app.connection import connect
from app.records.jobs import JobRecord, Jobs
from app.records.leases import Lease, Leases, Signal
from app.records.workers import Workers

WORKER = "gpu@here/1"
OTHER = "gpu@there/2"
EXHAUSTED = {"type": "/problems/attempts-exhausted", "detail": "the reason"}


def _claimed(leases: Leases, job: JobRecord, worker: str = WORKER) -> Lease:
    lease = leases.claim(job.owner, job.id, worker)
    assert lease is not None
    return lease


def _record(jobs: Jobs, job: JobRecord) -> JobRecord:
    found = jobs.get(job.owner, job.id)
    assert found is not None
    return found


def _expire(leases: Leases, client: redis.Redis, job: JobRecord) -> None:
    """The lease runs out now."""
    client.zadd("lp:leases", {f"{job.owner}/{job.id}": 1})


def test_claim_starts_the_job(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    found = _record(jobs, job)
    assert (found.status, found.attempts, found.stalled) == ("running", 1, 1)
    assert found.started_at is not None
    assert lease.node == "gpu@here"
    assert [record.id for record in jobs.list("local", status="running")[0]] == [job.id]


def test_a_second_claim_is_refused_while_the_lease_holds(leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    _claimed(leases, job)
    assert leases.claim(job.owner, job.id, OTHER) is None
    assert leases.claim(job.owner, job.id, WORKER) is None


def test_of_many_claims_at_once_exactly_one_wins(redis_url: str, make_job: Callable[..., JobRecord]) -> None:
    for job in [make_job() for _ in range(5)]:
        gate, won = threading.Barrier(8), []

        def claim(number: int, job: JobRecord = job, gate: threading.Barrier = gate, won: list = won) -> None:  # type: ignore[type-arg]
            with connect(redis_url) as client:
                rival = Leases(client)
                gate.wait()
                won.append(rival.claim(job.owner, job.id, f"gpu@n{number}/1"))

        threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert sum(lease is not None for lease in won) == 1


def test_a_holder_that_lost_its_lease_can_write_nothing(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord], redis_client: redis.Redis
) -> None:
    job = make_job()
    old = _claimed(leases, job)
    _expire(leases, redis_client, job)
    new = _claimed(leases, job, OTHER)
    assert new.token > old.token
    before = _record(jobs, job)
    assert not leases.renew(old)
    assert leases.progress(old, 39) is Signal.LOST
    assert leases.look(old) is Signal.LOST
    assert not leases.checkpointed(old)
    assert not leases.finish(old, "succeeded")
    assert leases.release(old) is None
    assert leases.give_up(old, "late", EXHAUSTED) is None
    assert _record(jobs, job) == before
    assert leases.progress(new, 5) is Signal.CONTINUE


def test_a_lease_that_ran_out_but_went_to_nobody_can_be_renewed(
    leases: Leases, make_job: Callable[..., JobRecord], redis_client: redis.Redis
) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    _expire(leases, redis_client, job)
    assert leases.expired() == [(job.owner, job.id)]
    assert leases.renew(lease)
    assert leases.expired() == []
    assert leases.reap(job.owner, job.id, "silent", EXHAUSTED) is None


def test_deadlines_pass_in_real_time(redis_client: redis.Redis, make_job: Callable[..., JobRecord]) -> None:
    leases = Leases(redis_client, ttl_s=0.2)
    job = make_job()
    _claimed(leases, job)
    assert leases.expired() == []
    time.sleep(0.25)
    assert leases.expired() == [(job.owner, job.id)]


def test_looking_moves_no_deadline(
    leases: Leases, make_job: Callable[..., JobRecord], redis_client: redis.Redis
) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    _expire(leases, redis_client, job)
    assert leases.look(lease) is Signal.CONTINUE
    assert leases.expired() == [(job.owner, job.id)]


def test_progress_is_recorded(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    assert leases.progress(lease, 7, 5.25, 6.3) is Signal.CONTINUE
    progress = _record(jobs, job).progress
    assert (progress.frames_done, progress.fps, progress.eta_seconds) == (7, 5.25, 6.3)


def test_cancel_and_drain_reach_the_holder(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord], redis_client: redis.Redis
) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    workers = Workers(redis_client)
    workers.drain("gpu@there")
    assert leases.progress(lease, 1) is Signal.CONTINUE
    workers.drain("gpu@here")
    assert leases.progress(lease, 2) is Signal.DRAIN
    jobs.request_cancel(job.owner, job.id)
    assert leases.look(lease) is Signal.CANCEL


def test_success_counts_every_frame_as_done(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    assert leases.finish(lease, "succeeded")
    found = _record(jobs, job)
    assert (found.status, found.progress.frames_done, found.progress.eta_seconds) == ("succeeded", 40, None)
    assert jobs.active_on_video(job.owner, job.video_id) == []
    assert leases.claim(job.owner, job.id, OTHER) is None
    assert not leases.finish(lease, "failed", {"type": "x"})


def test_failure_keeps_its_problem(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    leases.progress(lease, 3)
    assert leases.finish(lease, "failed", {"type": "/problems/frame-unreadable", "detail": "frame 4"})
    found = _record(jobs, job)
    assert found.error == {"type": "/problems/frame-unreadable", "detail": "frame 4"}
    assert found.progress.frames_done == 3


def test_a_cancel_that_was_accepted_holds_although_the_last_frame_was_done(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]
) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    assert jobs.request_cancel(job.owner, job.id) == "running"
    assert leases.finish(lease, "succeeded")
    assert _record(jobs, job).status == "cancelled"


def test_a_released_job_is_queued_and_its_attempt_does_not_count(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]
) -> None:
    job = make_job()
    for _ in range(10):
        assert leases.release(_claimed(leases, job)) == "queued"
    found = _record(jobs, job)
    assert (found.status, found.attempts, found.stalled) == ("queued", 10, 0)


def test_releasing_after_a_checkpoint_saves_up_no_attempts(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]
) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    leases.checkpointed(lease)
    leases.release(lease)
    assert _record(jobs, job).stalled == 0


@pytest.mark.parametrize("ending", ["gives up", "falls silent", "dies"])
def test_attempts_without_progress_end_the_job(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord], redis_client: redis.Redis, ending: str
) -> None:
    def end() -> Any:
        lease = _claimed(leases, job)
        if ending == "gives up":
            return leases.give_up(lease, "it broke", EXHAUSTED)
        if ending == "dies":
            reaped = leases.reap_dead(job.owner, job.id, WORKER, "it broke", EXHAUSTED)
        else:
            _expire(leases, redis_client, job)
            reaped = leases.reap(job.owner, job.id, "it broke", EXHAUSTED)
        assert reaped is not None
        return reaped.status

    job = make_job()
    assert [end(), end(), end()] == ["queued", "queued", "failed"]
    found = _record(jobs, job)
    assert (found.status, found.error, found.last_reason) == ("failed", EXHAUSTED, "it broke")
    assert leases.claim(job.owner, job.id, WORKER) is None


def test_a_checkpoint_buys_new_attempts(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    for _ in range(10):
        lease = _claimed(leases, job)
        assert leases.checkpointed(lease)
        assert leases.give_up(lease, "killed", EXHAUSTED) == "queued"
    assert _record(jobs, job).attempts == 10


def test_a_dead_worker_loses_only_what_it_holds_itself(leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    lease = _claimed(leases, job, OTHER)
    assert leases.reap_dead(job.owner, job.id, WORKER, "died", EXHAUSTED) is None
    assert leases.renew(lease)


def test_a_silent_job_that_was_to_be_cancelled_ends_cancelled(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord], redis_client: redis.Redis
) -> None:
    job = make_job()
    _claimed(leases, job)
    jobs.request_cancel(job.owner, job.id)
    _expire(leases, redis_client, job)
    reaped = leases.reap(job.owner, job.id, "silent", EXHAUSTED)
    assert reaped is not None
    assert reaped.status == "cancelled"
    assert _record(jobs, job).status == "cancelled"


def test_unclaimed_jobs_are_found_until_they_are_claimed_or_sent(
    leases: Leases, make_job: Callable[..., JobRecord]
) -> None:
    first = make_job()
    time.sleep(0.01)  # of two jobs of one millisecond neither waits longer
    second = make_job()
    assert leases.unclaimed(60) == []
    time.sleep(0.01)
    assert leases.unclaimed(0) == [("local", first.id), ("local", second.id)]
    _claimed(leases, first)
    assert leases.unclaimed(0) == [("local", second.id)]
    time.sleep(0.05)
    leases.sent("local", second.id)
    leases.sent("local", first.id)
    assert leases.unclaimed(0.05) == []
    time.sleep(0.01)
    assert leases.unclaimed(0) == [("local", second.id)]


def test_a_deleted_job_is_lost_to_its_holder(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    lease = _claimed(leases, job)
    jobs.delete(job.owner, job.id, force=True)
    assert leases.progress(lease, 1) is Signal.LOST
    assert leases.claim(job.owner, job.id, WORKER) is None
    assert jobs.get(job.owner, job.id) is None
