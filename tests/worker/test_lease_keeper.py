from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from app.connection import connect
from app.records.jobs import JobRecord, Jobs
from app.records.leases import Lease, Leases, Signal
from app.redis_server import RedisServer
from worker.lease_keeper import LeaseKeeper, Pace


@pytest.fixture
def leases(redis_client: redis.Redis) -> Leases:
    return Leases(redis_client, ttl_s=0.4)


@pytest.fixture
def lease(leases: Leases, submit: Callable[..., JobRecord]) -> Lease:
    lease = leases.claim("local", submit(send=False).id, "gpu@test/1")
    assert lease is not None
    return lease


def test_renews_while_a_frame_takes_long(leases: Leases, lease: Lease) -> None:
    with LeaseKeeper(leases, lease, stall_timeout_s=60) as keeper:
        time.sleep(1.0)
        assert leases.expired() == []
        assert keeper.progress(1, 10, 1) is Signal.CONTINUE
    time.sleep(0.5)
    assert leases.expired() == [(lease.owner, lease.job_id)]


def test_writes_progress_now_and_then_and_at_the_end(leases: Leases, lease: Lease, redis_client: redis.Redis) -> None:
    def written() -> int:
        record = Jobs(redis_client).get(lease.owner, lease.job_id)
        assert record is not None
        return record.progress.frames_done

    with LeaseKeeper(leases, lease, stall_timeout_s=60) as keeper:
        for done in range(1, 20):
            keeper.progress(done, 40, done)
        assert written() == 1
        time.sleep(0.3)
        keeper.progress(20, 40, 20)
        assert written() == 20
        keeper.progress(21, 40, 21)
    assert written() == 21


def test_learns_of_a_cancel_at_the_next_frame_although_it_writes_rarely(
    leases: Leases, lease: Lease, redis_client: redis.Redis
) -> None:
    with LeaseKeeper(leases, lease, stall_timeout_s=60) as keeper:
        assert keeper.progress(1, 40, 1) is Signal.CONTINUE
        Jobs(redis_client).request_cancel(lease.owner, lease.job_id)
        assert keeper.progress(2, 40, 2) is Signal.CANCEL


def test_a_lease_that_went_to_another_is_lost_for_good(leases: Leases, lease: Lease, redis_client: redis.Redis) -> None:
    with LeaseKeeper(leases, lease, stall_timeout_s=60) as keeper:
        redis_client.zadd("lp:leases", {f"{lease.owner}/{lease.job_id}": 1})
        other = leases.claim(lease.owner, lease.job_id, "gpu@other/2")
        assert other is not None
        assert keeper.progress(1, 40, 7) is Signal.LOST
        assert keeper.checkpointed() is Signal.LOST
    record = Jobs(redis_client).get(lease.owner, lease.job_id)
    assert record is not None
    assert record.progress.frames_done == 0


def test_a_short_silence_of_redis_is_ridden_out_and_a_long_one_ends_the_attempt(
    tmp_path: Path, create_job: Callable[..., JobRecord]
) -> None:
    with RedisServer(tmp_path / "redis") as server, connect(server.url) as client:
        job = create_job(client)
        leases = Leases(client, ttl_s=1.5)
        lease = leases.claim("local", job.id, "gpu@test/1")
        assert lease is not None
        with LeaseKeeper(leases, lease, stall_timeout_s=60) as keeper:
            assert keeper.progress(1, 40, 1) is Signal.CONTINUE
            server.process.kill()  # type: ignore[union-attr]
            silent_since = time.monotonic()
            assert keeper.progress(2, 40, 2) is Signal.CONTINUE
            while keeper.progress(3, 40, 3) is not Signal.LOST:
                assert time.monotonic() - silent_since < 10
            assert time.monotonic() - silent_since > 0.5


def test_a_stall_is_noticed(leases: Leases, lease: Lease) -> None:
    stalled = threading.Event()
    with LeaseKeeper(leases, lease, stall_timeout_s=0.5, on_stall=stalled.set) as keeper:
        for done in range(8):
            keeper.progress(done, 40, done)
            time.sleep(0.1)
        assert not stalled.is_set()
        assert stalled.wait(2)


def test_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.step(0.0, 0, 100) == (None, None)
    assert pace.step(2.0, 10, 100) == (5.0, 18.0)
    for second in range(3, 30):
        found = pace.step(second, 10 + second, 100)
    assert found[0] == pytest.approx(1.0)


def test_pace_counts_from_where_a_resumed_job_began() -> None:
    pace = Pace()
    pace.step(0.0, 60, 100)
    assert pace.step(4.0, 64, 100) == (1.0, 36.0)
