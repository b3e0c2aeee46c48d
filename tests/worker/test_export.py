"""Exports, built by a real worker from a job that has ended."""

from __future__ import annotations

import io
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.files import JobFiles, VideoFiles
from app.formats import FORMATS
from app.ids import new_id
from app.jobspec import parse_job, resolve
from app.records.jobs import JobRecord, PinnedModel, Progress
from app.records.videos import VideoRecord
from app.results import open_results
from model.labels import FrameResult, ObjectResult
from model.video import encode_video, probe
from worker.bench import Bench
from worker.exporting import build

FRAMES, HEIGHT, WIDTH = 6, 48, 64


@pytest.fixture
def ended(bench: Bench, tmp_path: Path) -> JobRecord:
    """A job that has succeeded, with its video."""
    clip = tmp_path / "clip.mp4"
    pictures = [np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8) for i in range(FRAMES)]
    encode_video(clip, pictures, fps=Fraction(25))
    info, table = probe(clip)
    video = VideoRecord(id=new_id("v_"), sha256="0" * 64, name="clip.mp4", **info.to_json())
    at = VideoFiles(bench.store, "local", video.id)
    table.save(tmp_path / "table.npz")
    bench.store.adopt(tmp_path / "table.npz", at.table)
    bench.store.adopt(clip, at.media)
    bench.videos.create(video)
    request = {"anchors": [{"frame": 0, "labels": [{"object": 1, "box": [4, 4, 20, 20]}]}], "video_id": video.id}
    spec = resolve(parse_job(json.dumps(request)), info)
    job = JobRecord(
        id=new_id("j_"),
        video_id=video.id,
        progress=Progress(frames_total=FRAMES),
        model=PinnedModel(name=spec.options.model, sha256=spec.options.model_sha256),
        options=spec.options.model_dump(),
        objects=[],
        chunk_frames=4,
    )
    files = JobFiles(bench.store, "local", job.id)
    bench.store.write_atomic(files.spec, spec.model_dump_json().encode())
    bench.store.write_atomic(files.video_info, json.dumps(info.to_json()).encode())
    bench.store.write_atomic(files.table, bench.store.read(at.table))
    assert bench.jobs.create(job)
    lease = bench.leases.claim("local", job.id, "gpu@test/1")
    assert lease is not None
    results = open_results(bench.store, job)
    for chunk in range(results.chunk_count):
        results.write_chunk("f", chunk, [_result(frame) for frame in results.frames_of(chunk)])
    bench.leases.finish(lease, "succeeded")
    return job


def _result(frame: int) -> FrameResult:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:24, 4 + frame : 24 + frame] = True
    found = ObjectResult(object=1, visible=True, confidence=1.0, mask=mask, box=None, keypoints=(), source="propagated")
    return FrameResult(frame=frame, time_ms=40 * frame, objects=(found,))


def _key(bench: Bench, job: JobRecord, name: str) -> str:
    return JobFiles(bench.store, "local", job.id).export(FORMATS[name].filename)


def _ask(bench: Bench, job: JobRecord, name: str) -> str:
    """What the API does at each poll."""
    if bench.store.exists(_key(bench, job, name)):
        return "built"
    state = bench.exports.request("local", job.id, 0, name)
    if state.send:
        bench.queue.export("local", job.id, name)
    return state.state


def test_every_format_is_built_on_the_cpu_queue(
    bench: Bench, ended: JobRecord, start_worker: Any, wait_for: Callable[..., Any]
) -> None:
    start_worker("cpu", "cpu")
    for name in FORMATS:
        wait_for(lambda name=name: _ask(bench, ended, name) == "built")
    assert set(bench.store.list(JobFiles(bench.store, "local", ended.id).exports)) == {
        _key(bench, ended, name) for name in FORMATS
    }
    with zipfile.ZipFile(io.BytesIO(bench.store.read(_key(bench, ended, "davis")))) as davis:
        assert len(davis.namelist()) >= FRAMES
    assert len(json.loads(bench.store.read(_key(bench, ended, "coco")))["annotations"]) == FRAMES
    info, _ = probe(bench.store.local_path(_key(bench, ended, "overlay")))
    assert info.frame_count == FRAMES


def test_a_build_whose_worker_was_killed_is_built_by_the_next_poll(
    bench: Bench, ended: JobRecord, start_worker: Any, wait_for: Callable[..., Any]
) -> None:
    _ask(bench, ended, "coco")
    bench.redis.delete("cpu")
    assert bench.exports.claim("local", ended.id, 0, "coco") is not None
    start_worker("cpu", "cpu")
    wait_for(lambda: _ask(bench, ended, "coco") == "built")


def test_exports_without_pictures_outlive_the_video(bench: Bench, ended: JobRecord) -> None:
    bench.videos.delete("local", ended.video_id)
    bench.store.delete_tree(VideoFiles(bench.store, "local", ended.video_id).prefix)
    for name in ("coco", "davis", "overlay"):
        assert bench.exports.request("local", ended.id, 0, name).send
        build(bench, "local", ended.id, name, node="cpu@test")
    assert bench.store.exists(_key(bench, ended, "coco"))
    assert bench.store.exists(_key(bench, ended, "davis"))
    state = bench.exports.request("local", ended.id, 0, "overlay")
    assert (state.state, (state.error or {})["type"]) == ("failed", "/problems/video-not-found")


def test_a_worker_that_is_told_to_stop_lets_its_export_go(bench: Bench, ended: JobRecord) -> None:
    assert bench.exports.request("local", ended.id, 0, "coco").send
    bench.workers.drain("cpu@test")
    build(bench, "local", ended.id, "coco", node="cpu@test")
    assert not bench.store.exists(_key(bench, ended, "coco"))
    assert bench.redis.llen("cpu") == 1
    build(bench, "local", ended.id, "coco", node="cpu@other")
    assert bench.store.exists(_key(bench, ended, "coco"))


def test_an_unexpected_fault_is_told_without_our_paths(bench: Bench, ended: JobRecord) -> None:
    key = open_results(bench.store, ended).key("f", 0)
    bench.store.write_atomic(key, b"damaged")
    assert bench.exports.request("local", ended.id, 0, "coco").send
    build(bench, "local", ended.id, "coco", node="cpu@test")
    state = bench.exports.request("local", ended.id, 0, "coco")
    assert state.error is not None
    assert state.error["type"] == "/problems/export-failed"
    assert str(bench.settings.home) not in str(state.error)


def test_a_job_deleted_while_its_export_is_built_leaves_nothing(
    bench: Bench, ended: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = bench.store.adopt

    def adopt_late(path: Path, key: str) -> None:
        bench.jobs.delete("local", ended.id)
        bench.store.delete_tree(JobFiles(bench.store, "local", ended.id).job_prefix)
        adopt(path, key)

    monkeypatch.setattr(bench.store, "adopt", adopt_late)
    assert bench.exports.request("local", ended.id, 0, "coco").send
    build(bench, "local", ended.id, "coco", node="cpu@test")
    assert bench.store.list("jobs") == []


def test_a_long_job_delays_no_export(
    bench: Bench, ended: JobRecord, start_worker: Any, submit: Any, job_now: Any, wait_for: Callable[..., Any]
) -> None:
    start_worker("gpu", "gpu")
    start_worker("cpu", "cpu")
    long = submit(frames=400, seconds=0.1)
    wait_for(lambda: job_now(long).status == "running")
    wait_for(lambda: _ask(bench, ended, "coco") == "built", 5)
    assert job_now(long).status == "running"


def test_the_main_process_of_a_worker_never_loads_torch(start_worker: Any) -> None:
    worker = start_worker("gpu", "gpu")
    time.sleep(0.2)
    assert "libtorch" not in Path(f"/proc/{worker.process.pid}/maps").read_text()
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(10) == 0
