"""The whole service as its users meet it: real processes, a real Redis, a real model, over REST."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.cli import main
from app.client import Client, ServiceError
from app.connection import connect
from app.files import JobFiles
from app.processes import is_alive
from app.records.workers import Workers
from app.settings import Settings
from app.storage import LocalStore
from app.supervisor import Service
from model.evaluation.metrics import jaccard
from model.labels import indexed_png
from model.rendered import RenderedClip, render_clip, write_clip

FRAMES = 160


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), port=0, lease_ttl_s=2.0, heartbeat_s=0.3, resend_after_s=1.0
    )
    with Service(settings=settings, logs=tmp_path_factory.mktemp("logs")) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(width=192, height=128, frame_count=FRAMES)


@pytest.fixture(scope="module")
def clip_path(clip: RenderedClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(clip, path)
    return path


@pytest.fixture(scope="module")
def video_id(service: Service, clip_path: Path) -> str:
    with Client(service.url) as client:
        return str(client.upload(clip_path)["id"])


@pytest.fixture
def keypoints(clip: RenderedClip) -> list[dict[str, Any]]:
    return [{"name": p.name, "x": p.x, "y": p.y, "visible": p.visible} for p in clip.keypoints(0)]


@pytest.fixture
def submit(client: Client, clip: RenderedClip, video_id: str, keypoints: Any) -> Callable[..., dict[str, Any]]:
    """A job with both masks and the keypoints of frame 0."""

    def create(anchors: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
        given = [{"frame": 0, "labels": [{"object": 2, "keypoints": keypoints}]}, *(anchors or [])]
        mask = indexed_png.encode(clip.mask(0))
        return client.create_job(video_id, anchors=given, options=options, mask=mask)

    return create


@pytest.fixture
def result_files(service: Service) -> Callable[[dict[str, Any]], dict[str, bytes]]:
    """A job's canonical results, as bytes by file name."""

    def read(job: dict[str, Any]) -> dict[str, bytes]:
        files = JobFiles(LocalStore(service.settings.store_dir), "local", job["id"])
        prefix = f"{files.prefix}/results"
        return {key.rsplit("/", 1)[1]: files.store.read(key) for key in files.store.list(prefix)}

    return read


@pytest.fixture
def scratch_files(service: Service) -> Callable[[dict[str, Any]], list[str]]:
    """What a running job's backward pass has left for the forward pass."""

    def read(job: dict[str, Any]) -> list[str]:
        files = JobFiles(LocalStore(service.settings.store_dir), "local", job["id"])
        return files.store.list(files.scratch)

    return read


@pytest.fixture
def gpu_worker(service: Service, wait_for: Any) -> Callable[[], int]:
    """The process id of the live worker that propagates."""

    def find() -> int:
        with connect(service.settings.redis_url) as redis:
            records = Workers(redis)
            return int(wait_for(lambda: [r.pid for r in records.live() if "gpu" in r.queues and is_alive(r.pid)])[0])

    return find


def test_labels_are_carried_over_rest_and_every_export_agrees(
    service: Service, client: Client, clip: RenderedClip, submit: Any, tmp_path: Path
) -> None:
    job = client.wait(submit(end=40)["id"], timeout_s=120)
    assert job["status"] == "succeeded"
    assert job["progress"]["frames_done"] == job["progress"]["frames_total"] == 40
    results = list(client.frames(job["id"]))
    assert [result["frame"] for result in results] == list(range(40))
    assert [result["time_ms"] for result in results] == [40 * i for i in range(40)]
    assert {entry["source"] for entry in results[0]["objects"]} == {"anchor"}
    archive = client.export(job["id"], "davis", tmp_path / "davis.zip", timeout_s=60)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, tmp_path / "davis"], check=True)
    size = (clip.width, clip.height)
    maps = [
        indexed_png.decode((tmp_path / "davis" / f"{i:05d}.png").read_bytes(), size=size, max_pixels=1 << 20)
        for i in range(40)
    ]
    assert np.array_equal(maps[0], clip.mask(0))
    assert np.mean([jaccard(maps[i] == 1, clip.mask(i) == 1) for i in range(10)]) > 0.6
    one = httpx.get(f"{service.url}/v1/jobs/{job['id']}/frames/17/mask.png", trust_env=False)
    assert np.array_equal(indexed_png.decode(one.content, size=size, max_pixels=1 << 20), maps[17])
    coco = client.export(job["id"], "coco", tmp_path / "coco.json", timeout_s=60).read_text()
    assert '"track_id"' in coco
    assert client.export(job["id"], "overlay", tmp_path / "o.mp4", timeout_s=60).read_bytes()[4:8] == b"ftyp"


def test_rest_and_the_command_line_give_the_same_masks(
    client: Client, clip: RenderedClip, clip_path: Path, submit: Any, tmp_path: Path
) -> None:
    job = client.wait(submit(end=30)["id"], timeout_s=120)
    archive = client.export(job["id"], "davis", tmp_path / "davis.zip", timeout_s=60)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, tmp_path / "rest"], check=True)
    (tmp_path / "mask.png").write_bytes(indexed_png.encode(clip.mask(0)))
    arguments = ["propagate", str(clip_path), "--mask", str(tmp_path / "mask.png"), "--end", "30", "--quiet"]
    assert main([*arguments, "--keep-features", "0", "--out", str(tmp_path / "command")]) == 0
    rest = {path.name: path.read_bytes() for path in (tmp_path / "rest").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "command").iterdir()} == rest
    assert len(rest) == 30


def test_killing_the_child_and_the_worker_changes_no_byte(
    client: Client,
    clip: RenderedClip,
    submit: Any,
    wait_for: Any,
    result_files: Any,
    scratch_files: Any,
    gpu_worker: Any,
) -> None:
    last = clip.mask(FRAMES - 20) == 1
    y, x = (axis.nonzero()[0] for axis in (last.any(axis=1), last.any(axis=0)))
    box = [float(x[0]), float(y[0]), float(x[-1] + 1 - x[0]), float(y[-1] + 1 - y[0])]
    anchors = [{"frame": FRAMES - 20, "labels": [{"object": 1, "box": box}]}]  # so that both directions run
    undisturbed = client.wait(submit(anchors)["id"], timeout_s=240)
    assert undisturbed["status"] == "succeeded"
    expected = result_files(undisturbed)

    job = submit(anchors)
    wait_for(lambda: scratch_files(job))
    os.kill(_child_of(gpu_worker()), signal.SIGKILL)  # in the middle of the backward pass
    wait_for(lambda: client.job(job["id"])["progress"]["frames_done"] > 60, 120)
    os.kill(gpu_worker(), signal.SIGKILL)  # in the middle of the forward pass
    done = client.wait(job["id"], timeout_s=240)
    assert done["status"] == "succeeded"
    assert done["attempts"] == 3
    assert result_files(done) == expected


def test_a_cancelled_job_keeps_what_is_done(
    client: Client, submit: Any, wait_for: Any, result_files: Any, tmp_path: Path
) -> None:
    job = submit()
    wait_for(lambda: client.job(job["id"])["progress"]["frames_done"] >= 20)
    client.cancel(job["id"])
    ended = client.wait(job["id"], timeout_s=30)
    assert ended["status"] == "cancelled"
    done = ended["progress"]["frames_done"]
    assert 20 <= done < FRAMES
    assert len(list(client.frames(job["id"]))) == done
    client.export(job["id"], "coco", tmp_path / "coco.json", timeout_s=60)
    with pytest.raises(ServiceError) as refused:
        client.cancel(job["id"])
    assert refused.value.status == 409


def test_a_video_in_use_is_kept_and_results_are_read_while_the_job_runs(
    client: Client, submit: Any, video_id: str, wait_for: Any
) -> None:
    job = submit()
    with pytest.raises(ServiceError) as refused:
        client.delete_video(video_id)
    assert refused.value.slug == "video-in-use"
    first = wait_for(lambda: list(client.frames(job["id"])))
    assert [result["frame"] for result in first] == list(range(len(first)))
    assert client.job(job["id"])["status"] == "running"
    client.delete_job(job["id"], force=True)
    with pytest.raises(ServiceError) as gone:
        client.job(job["id"])
    assert gone.value.status == 404


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
