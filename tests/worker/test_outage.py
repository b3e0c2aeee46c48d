"""A Redis that goes away and comes back, with a real worker in the middle of a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.connection import connect
from app.queue import Queue
from app.records.jobs import Jobs
from app.redis_server import RedisServer
from app.settings import Settings


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def redis_url(own_redis: RedisServer) -> str:
    return own_redis.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


def test_a_worker_rides_out_a_restart_of_redis_and_takes_messages_again(
    own_redis: RedisServer,
    start_worker: Any,
    submit: Callable[..., Any],
    job_now: Callable[..., Any],
    wait_for: Callable[..., Any],
    settings: Settings,
) -> None:
    worker = start_worker()
    first = submit(frames=80, seconds=0.05)
    wait_for(lambda: job_now(first).progress.frames_done >= 10)
    assert own_redis.process is not None
    own_redis.process.kill()
    own_redis.process.wait()
    time.sleep(settings.lease_ttl_s / 4)
    own_redis.start()
    queue = Queue(own_redis.url)
    second = submit(send=False)
    queue.propagate(second.owner, second.id)
    queue.close()
    wait_for(lambda: job_now(first).final and job_now(second).final, 40)
    assert (job_now(first).status, job_now(second).status) == ("succeeded", "succeeded")
    assert job_now(first).attempts == 1, "an outage shorter than the lease costs nothing"
    assert worker.process.poll() is None
    assert Jobs(connect(own_redis.url)).active_on_video(first.owner, first.video_id) == []
