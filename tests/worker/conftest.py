"""Real workers on the session's real Redis, with a job whose frames are cheap and whose faults can be chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.ids import new_id
from app.queue import Queue
from app.records.jobs import JobRecord, Jobs, PinnedModel, Progress
from app.records.videos import VideoRecord, Videos
from app.records.workers import Workers
from app.settings import Settings
from worker.resources import Resources

ROOT = Path(__file__).parents[2]


class Worker:
    """A real `celery worker` with one child, whose jobs run `tests/worker/scripted_jobs.py`."""

    def __init__(self, settings: Settings, name: str, queue: str, log: Path) -> None:
        environment = {
            **os.environ,
            **settings.environment(),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        }
        command = [sys.executable, "-m", "celery", "-A", "scripted_jobs", "worker", "-Q", queue, "-n", f"{name}@test"]
        command += ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.node = f"{name}@test"
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )

    def stop(self) -> None:
        """Ends it at once, and what it left."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def resources(settings: Settings) -> Iterator[Resources]:
    """What a worker has, for this test's Redis and home."""
    resources = Resources.of(settings)
    yield resources
    resources.queue.close()
    resources.redis.close()


@pytest.fixture
def start_worker(
    settings: Settings, tmp_path: Path, redis_client: redis.Redis, wait_for: Callable[..., Any]
) -> Iterator[Callable[..., Worker]]:
    """Starts workers; each is returned once it takes messages, and ended after the test."""
    started: list[Worker] = []

    def start(name: str = "gpu", queue: str = "gpu") -> Worker:
        worker = Worker(settings, name, queue, tmp_path / f"{name}.log")
        started.append(worker)
        records = Workers(redis_client)
        wait_for(lambda: any(record.pid == worker.process.pid for record in records.live()), 30)
        return worker

    yield start
    for worker in started:
        worker.stop()
    for log in sorted(tmp_path.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text()}")


@pytest.fixture
def create_job() -> Callable[..., JobRecord]:
    """Stores a queued job on a video of its own; `metadata` tells the scripted job what to do."""

    def create(client: redis.Redis, *, frames: int = 40, **script: Any) -> JobRecord:
        video = VideoRecord(
            id=new_id("v_"), sha256="0" * 64, bytes=1, container="mp4", codec="h264", width=8, height=8,
            frame_count=frames, duration_ms=frames * 40,
        )  # fmt: skip
        Videos(client).create(video)
        record = JobRecord(
            id=new_id("j_"),
            video_id=video.id,
            progress=Progress(frames_total=frames),
            model=PinnedModel(name="none", sha256="0" * 64),
            options={"start": 0, "end": frames, "stride": 1},
            objects=[],
            metadata=script,
            chunk_frames=4,
        )
        assert Jobs(client).create(record)
        return record

    return create


@pytest.fixture
def submit(
    redis_client: redis.Redis, settings: Settings, create_job: Callable[..., JobRecord]
) -> Iterator[Callable[..., JobRecord]]:
    """Accepts a job as the API does: its record first, then its message."""
    queue = Queue(str(settings.redis_url))

    def accept(*, send: bool = True, **script: Any) -> JobRecord:
        record = create_job(redis_client, **script)
        if send:
            queue.propagate(record.owner, record.id)
        return record

    yield accept
    queue.close()


@pytest.fixture
def job_now(redis_client: redis.Redis) -> Callable[[JobRecord], JobRecord]:
    """The record as it is now."""

    def get(job: JobRecord) -> JobRecord:
        found = Jobs(redis_client).get(job.owner, job.id)
        assert found is not None
        return found

    return get
