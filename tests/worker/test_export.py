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
from app.formats import EXPORTS, find_variant, variant_filename
from app.ids import new_id
from app.jobspec import parse_job, resolve
from app.records.jobs import JobRecord, PinnedModel, Progress
from app.records.videos import VideoRecord
from app.results import open_results
from model.labels import FrameResult, ObjectResult
from model.video import encode_video, open_video, probe
from worker.exporting import build
from worker.resources import Resources

FRAMES, HEIGHT, WIDTH = 6, 48, 64


@pytest.fixture
def ended(resources: Resources, tmp_path: Path) -> JobRecord:
    """A job that has succeeded, with its video."""
    clip = tmp_path / "clip.mp4"
    pictures = [np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8) for i in range(FRAMES)]
    encode_video(clip, pictures, fps=Fraction(25))
    info, table = probe(clip)
    video = VideoRecord(id=new_id("v_"), sha256="0" * 64, name="clip.mp4", **info.to_json())
    at = VideoFiles(resources.store, "local", video.id)
    table.save(tmp_path / "table.npz")
    resources.store.adopt(tmp_path / "table.npz", at.table)
    resources.store.adopt(clip, at.media)
    resources.videos.create(video)
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
    files = JobFiles(resources.store, "local", job.id)
    resources.store.write_atomic(files.spec, spec.model_dump_json().encode())
    resources.store.write_atomic(files.video_info, json.dumps(info.to_json()).encode())
    resources.store.write_atomic(files.table, resources.store.read(at.table))
    assert resources.jobs.create(job)
    lease = resources.leases.claim("local", job.id, "gpu@test/1")
    assert lease is not None
    results = open_results(resources.store, job)
    for chunk in range(results.chunk_count):
        results.write_chunk("f", chunk, [_result(frame) for frame in results.frames_of(chunk)])
    resources.leases.finish(lease, "succeeded")
    return job


def _result(frame: int) -> FrameResult:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:24, 4 + frame : 24 + frame] = True
    found = ObjectResult(object=1, visible=True, confidence=1.0, mask=mask, box=None, keypoints=(), source="propagated")
    return FrameResult(frame=frame, time_ms=40 * frame, objects=(found,))


def _key(resources: Resources, job: JobRecord, name: str) -> str:
    return JobFiles(resources.store, "local", job.id).export(EXPORTS[name].filename)


def _ask(resources: Resources, job: JobRecord, name: str) -> str:
    """What the API does at each poll."""
    if resources.store.exists(_key(resources, job, name)):
        return "built"
    state = resources.exports.request("local", job.id, 0, name)
    if state.send:
        resources.queue.export("local", job.id, name)
    return state.state


def test_every_format_is_built_on_the_cpu_queue(
    resources: Resources, ended: JobRecord, start_worker: Any, wait_for: Callable[..., Any]
) -> None:
    start_worker("cpu", "cpu")
    for name in EXPORTS:
        wait_for(lambda name=name: _ask(resources, ended, name) == "built")
    assert set(resources.store.list(JobFiles(resources.store, "local", ended.id).exports)) == {
        _key(resources, ended, name) for name in EXPORTS
    }
    with zipfile.ZipFile(io.BytesIO(resources.store.read(_key(resources, ended, "davis")))) as davis:
        assert len(davis.namelist()) >= FRAMES
    assert len(json.loads(resources.store.read(_key(resources, ended, "coco")))["annotations"]) == FRAMES
    info, _ = probe(resources.store.local_path(_key(resources, ended, "overlay")))
    assert info.frame_count == FRAMES


def test_an_export_with_options_is_built_beside_the_plain_one(resources: Resources, ended: JobRecord) -> None:
    pictures = []
    for name in ("overlay", "overlay;outline=false;opacity=0;names=false"):
        assert resources.exports.request("local", ended.id, 0, name).send
        build(resources, "local", ended.id, name, node="cpu@test")
        key = JobFiles(resources.store, "local", ended.id).export(variant_filename(*find_variant(name)))
        with open_video(resources.store.local_path(key)) as film:
            pictures.append(film.frame(0).image.astype(int))
    assert pictures[0][18:22, 8:20].mean() > 20
    assert pictures[1].mean() < 2, "nothing is drawn on the black frame"


def test_a_build_whose_worker_was_killed_is_built_by_the_next_poll(
    resources: Resources, ended: JobRecord, start_worker: Any, wait_for: Callable[..., Any]
) -> None:
    _ask(resources, ended, "coco")
    resources.redis.delete("cpu")
    assert resources.exports.claim("local", ended.id, 0, "coco") is not None
    start_worker("cpu", "cpu")
    wait_for(lambda: _ask(resources, ended, "coco") == "built")


def test_exports_without_pictures_outlive_the_video(resources: Resources, ended: JobRecord) -> None:
    resources.videos.delete("local", ended.video_id)
    resources.store.delete_tree(VideoFiles(resources.store, "local", ended.video_id).prefix)
    for name in ("coco", "davis", "overlay"):
        assert resources.exports.request("local", ended.id, 0, name).send
        build(resources, "local", ended.id, name, node="cpu@test")
    assert resources.store.exists(_key(resources, ended, "coco"))
    assert resources.store.exists(_key(resources, ended, "davis"))
    state = resources.exports.request("local", ended.id, 0, "overlay")
    assert (state.state, (state.error or {})["type"]) == ("failed", "/problems/video-not-found")


def test_a_worker_that_is_told_to_stop_lets_its_export_go(resources: Resources, ended: JobRecord) -> None:
    assert resources.exports.request("local", ended.id, 0, "coco").send
    resources.workers.drain("cpu@test")
    build(resources, "local", ended.id, "coco", node="cpu@test")
    assert not resources.store.exists(_key(resources, ended, "coco"))
    assert resources.redis.llen("cpu") == 1
    build(resources, "local", ended.id, "coco", node="cpu@other")
    assert resources.store.exists(_key(resources, ended, "coco"))


def test_an_unexpected_fault_is_told_without_our_paths(resources: Resources, ended: JobRecord) -> None:
    key = open_results(resources.store, ended).key("f", 0)
    resources.store.write_atomic(key, b"damaged")
    assert resources.exports.request("local", ended.id, 0, "coco").send
    build(resources, "local", ended.id, "coco", node="cpu@test")
    state = resources.exports.request("local", ended.id, 0, "coco")
    assert state.error is not None
    assert state.error["type"] == "/problems/export-failed"
    assert str(resources.settings.home) not in str(state.error)


def test_a_job_deleted_while_its_export_is_built_leaves_nothing(
    resources: Resources, ended: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = resources.store.adopt

    def adopt_late(path: Path, key: str) -> None:
        resources.jobs.delete("local", ended.id)
        resources.store.delete_tree(JobFiles(resources.store, "local", ended.id).job_prefix)
        adopt(path, key)

    monkeypatch.setattr(resources.store, "adopt", adopt_late)
    assert resources.exports.request("local", ended.id, 0, "coco").send
    build(resources, "local", ended.id, "coco", node="cpu@test")
    assert resources.store.list("jobs") == []


def test_a_long_job_delays_no_export(
    resources: Resources, ended: JobRecord, start_worker: Any, submit: Any, job_now: Any, wait_for: Callable[..., Any]
) -> None:
    start_worker("gpu", "gpu")
    start_worker("cpu", "cpu")
    long = submit(frames=400, seconds=0.1)
    wait_for(lambda: job_now(long).status == "running")
    wait_for(lambda: _ask(resources, ended, "coco") == "built", 5)
    assert job_now(long).status == "running"


def test_the_main_process_of_a_worker_never_loads_torch(start_worker: Any) -> None:
    worker = start_worker("gpu", "gpu")
    time.sleep(0.2)
    assert "libtorch" not in Path(f"/proc/{worker.process.pid}/maps").read_text()
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(10) == 0
