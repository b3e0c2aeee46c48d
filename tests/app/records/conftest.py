"""Records to test with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from app.ids import new_id
from app.records.jobs import JobRecord, Jobs, PinnedModel, Progress
from app.records.leases import Leases
from app.records.videos import VideoRecord, Videos


@pytest.fixture
def videos(redis_client: redis.Redis) -> Videos:
    return Videos(redis_client)


@pytest.fixture
def jobs(redis_client: redis.Redis) -> Jobs:
    return Jobs(redis_client)


@pytest.fixture
def make_video(videos: Videos) -> Callable[..., VideoRecord]:
    """Stores a video and returns its record."""

    def make(owner: str = "local") -> VideoRecord:
        record = VideoRecord(
            id=new_id("v_"),
            owner=owner,
            sha256="0" * 64,
            bytes=1000,
            container="mp4",
            codec="h264",
            width=64,
            height=48,
            frame_count=40,
            duration_ms=1600,
            fps={"ratio": "25/1", "value": 25.0},
            rotation=0,
        )
        videos.create(record)
        return record

    return make


@pytest.fixture
def make_job(jobs: Jobs, make_video: Callable[..., VideoRecord]) -> Callable[..., JobRecord]:
    """Stores a queued job, on a new video unless one is given, and returns its record."""

    def make(video: VideoRecord | None = None, owner: str = "local") -> JobRecord:
        video = video or make_video(owner)
        record = JobRecord(
            id=new_id("j_"),
            owner=video.owner,
            video_id=video.id,
            progress=Progress(frames_total=40),
            model=PinnedModel(name="uvc-r18", sha256="1" * 64),
            options={"start": 0, "end": 40, "stride": 1},
            objects=[{"id": 1, "name": "dog"}],
            metadata={"task": [1, None, "é"]},
        )
        assert jobs.create(record)
        return record

    return make


@pytest.fixture
def leases(redis_client: redis.Redis) -> Leases:
    return Leases(redis_client)
