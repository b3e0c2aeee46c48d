"""Fixtures for the endpoints' tests: jobs, and results written as a worker writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.api.context import Context
from app.files import VideoFiles
from app.ids import new_id
from app.records.leases import Leases
from app.records.videos import VideoRecord
from app.results import ResultStore, open_results
from model.labels import FrameResult
from model.video import FrameTable, VideoInfo, probe


@pytest.fixture
def service(client: TestClient) -> Context:
    """What the endpoints work with, to play the worker."""
    return client.app.state.context  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def probed(clip_file: Path) -> tuple[VideoInfo, FrameTable]:
    """What the check on acceptance says of the clip."""
    return probe(clip_file)


@pytest.fixture
def stored_video(
    service: Context, clip_file: Path, probed: tuple[VideoInfo, FrameTable], tmp_path: Path
) -> Callable[[], str]:
    """Stores the clip as an upload does, without checking it anew each time; returns its id."""

    def do() -> str:
        info, table = probed
        record = VideoRecord(id=new_id("v_"), sha256="0" * 64, **info.to_json())
        files = VideoFiles(service.store, "local", record.id)
        service.store.write_atomic(files.media, clip_file.read_bytes())
        table.save(tmp_path / "table.npz")
        service.store.write_atomic(files.table, (tmp_path / "table.npz").read_bytes())
        service.videos.create(record)
        return record.id

    return do


@pytest.fixture
def submit(client: TestClient, stored_video: Callable[[], str]) -> Callable[..., dict]:
    """Stores the clip and submits a job on it; returns the job's document."""

    def do(**spec: Any) -> dict:
        labels = [{"object": 1, "box": [4, 4, 20, 20]}, {"object": 2, "box": [40, 4, 20, 20]}]
        spec.setdefault("anchors", [{"frame": spec.get("options", {}).get("start", 0), "labels": labels}])
        answer = client.post("/v1/jobs", json={"video_id": stored_video(), **spec})
        assert answer.status_code == 202, answer.text
        return answer.json()

    return do


@pytest.fixture
def work(service: Context, truth: Callable[[int], FrameResult]) -> Callable[..., ResultStore]:
    """Plays the worker on a job: claims it, writes true results of some chunks and, when asked, ends it."""

    def do(job_id: str, *, chunks: int | None = None, status: Any = "succeeded") -> ResultStore:
        record = service.jobs.get("local", job_id)
        assert record is not None
        leases = Leases(service.redis)
        lease = leases.claim("local", job_id, "test/1")
        assert lease is not None
        results = open_results(service.store, record)
        for chunk in range(results.chunk_count if chunks is None else chunks):
            results.write_chunk("f", chunk, [truth(frame) for frame in results.frames_of(chunk)])
        leases.progress(lease, results.count(), fps=5.0, eta_seconds=1.0)
        if status is not None:
            assert leases.finish(lease, status)
        return results

    return do
