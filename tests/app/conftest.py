"""Fixtures for the API's tests: the real application on a real Redis, and small real videos."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from app.connection import connect
from app.files import JobFiles, VideoFiles
from app.formats import ExportInput, find_variant, variant_filename
from app.jobspec import JobSpec, build_labels
from app.main import create_app
from app.records import keys
from app.records.exports import Exports
from app.records.jobs import JobRecord, Jobs
from app.records.leases import Leases
from app.records.workers import WorkerRecord, Workers
from app.results import open_results
from app.settings import Settings
from app.storage import LocalStore
from model.labels import FrameResult, KeypointResult, ObjectResult
from model.labels.raster import tight_box
from model.rendered import RenderedClip, render_clip
from model.video import encode_video, open_video

FRAMES = 12


@pytest.fixture(scope="session")
def clip() -> RenderedClip:
    """A small rendered clip: 96 x 64 pixels, 12 frames, two objects."""
    return render_clip(width=96, height=64, frame_count=FRAMES)


@pytest.fixture(scope="session")
def clip_file(clip: RenderedClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as an MP4."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    encode_video(path, clip.frames(), fps=Fraction(25))
    return path


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the real application; a server error fails the test."""
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def upload(client: TestClient, clip_file: Path) -> Callable[..., dict]:
    """Uploads the clip, or a given file, and returns the answer's document."""

    def do(path: Path = clip_file) -> dict:
        answer = client.post("/v1/videos", content=path.read_bytes(), headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return do


@pytest.fixture
def server(settings: Settings) -> Iterator[str]:
    """The real application behind a real socket; its address."""
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_level="warning")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def playing_worker(settings: Settings, clip: RenderedClip) -> Iterator[None]:
    """Does queued jobs on the clip with its true labels, and builds exports; the real worker has its own tests."""
    client = connect(settings.redis_url)
    store, jobs, leases = LocalStore(settings.store_dir), Jobs(client), Leases(client)
    exports, workers = Exports(client), Workers(client)
    stop = threading.Event()

    def build(job: JobRecord, name: str) -> None:
        lease = exports.claim("local", job.id, 0, name)
        if lease is None:
            return
        format_, options = find_variant(name)
        media = store.local_path(VideoFiles(store, "local", job.video_id).media)
        with open_video(media) as source:
            objects, _ = build_labels(JobSpec.model_validate_json(store.read(JobFiles(store, "local", job.id).spec)))
            results = open_results(store, job)
            given = ExportInput(
                source.info,
                source.table,
                objects,
                results.iter,
                source.frames,
                video_name=job.video_id,
                job_id=job.id,
                options=options,
            )
            with store.open_write(JobFiles(store, "local", job.id).export(variant_filename(format_, options))) as file:
                path = settings.home / "export"
                format_.write_file(given, path)
                file.write(path.read_bytes())
        exports.done(lease)

    def run() -> None:
        while not stop.is_set():
            workers.beat(WorkerRecord(node="test@x", queues=["gpu", "cpu"], pid=1))
            for job in jobs.list("local")[0]:
                lease = leases.claim("local", job.id, "test/1")
                if lease is not None:
                    results = open_results(store, job)
                    for chunk in range(results.chunk_count):
                        results.write_chunk(
                            "f", chunk, [true_result(clip, frame) for frame in results.frames_of(chunk)]
                        )
                    leases.progress(lease, results.count())
                    leases.finish(lease, "succeeded")
                for key in client.scan_iter(keys.export("local", job.id, 0, "*")):
                    build(job, str(key).rsplit(":", 1)[-1])
            time.sleep(0.02)

    workers.beat(WorkerRecord(node="test@x", queues=["gpu", "cpu"], pid=1))
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(timeout=10)
    client.close()


def true_result(clip: RenderedClip, frame: int) -> FrameResult:
    """The clip's true labels of a frame, as a result."""
    objects = tuple(
        ObjectResult(
            object=label.object,
            visible=True,
            confidence=0.875,
            mask=label.mask,
            box=None if label.mask is None else tight_box(label.mask),
            keypoints=tuple(
                KeypointResult(point.name, round(point.x, 2), round(point.y, 2), point.visible, 0.5)
                for point in label.keypoints
            ),
            source="anchor" if frame == 0 else "propagated",
        )
        for label in clip.anchor(frame).labels
    )
    return FrameResult(frame, frame * 40, objects)


@pytest.fixture(scope="session")
def truth(clip: RenderedClip) -> Callable[[int], FrameResult]:
    """The clip's true labels of a frame, as a result."""
    return lambda frame: true_result(clip, frame)
