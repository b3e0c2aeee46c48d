# ruff: noqa: E501
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.api.context import Context
from app.celery_config import GPU_QUEUE
from app.jobspec import JobSpec, build_labels
from app.main import create_app
from app.queue import waiting_jobs
from app.settings import Settings
from model.labels import indexed_png
from model.rendered import RenderedClip

BOX = {"object": 1, "box": [4, 4, 20, 20]}


def spec_of(settings: Settings, job_id: str) -> JobSpec:
    path = settings.store_dir / "jobs" / "local" / job_id / "0" / "spec.json"
    return JobSpec.model_validate_json(path.read_bytes())


def problem(answer, status: int, slug: str) -> dict:  # type: ignore[no-untyped-def]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["type"] == f"/problems/{slug}"
    return answer.json()


# Accepting


def test_a_job_is_accepted_durable_and_sent(
    client: TestClient, upload: Callable, settings: Settings, service: Context
) -> None:
    video = upload()
    body = {"video_id": video["id"], "anchors": [{"frame": 2, "labels": [BOX]}], "metadata": {"task": [1, "ä"]}}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert client.get(answer.headers["location"]).json() == job
    assert (job["status"], job["video_id"], job["metadata"]) == ("queued", video["id"], {"task": [1, "ä"]})
    assert job["progress"] == {"frames_done": 0, "frames_total": 12, "fps": None, "eta_seconds": None}
    assert job["options"]["end"] == 12
    assert len(job["options"]["model_sha256"]) == 64
    assert waiting_jobs(service.redis) == {("local", job["id"])}
    spec = spec_of(settings, job["id"])
    assert build_labels(spec)[1][0].labels[0].box == (4, 4, 20, 20)
    assert spec.metadata == body["metadata"]


def test_one_call_takes_the_video_and_its_first_mask(
    client: TestClient, clip: RenderedClip, clip_file: Path, settings: Settings
) -> None:
    files = {"video": ("clip.mp4", clip_file.read_bytes()), "mask": ("00000.png", indexed_png.encode(clip.mask(0)))}
    answer = client.post("/v1/jobs", files=files)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert [object_["name"] for object_ in job["objects"]] == ["object-1", "object-2"]
    assert client.get(f"/v1/videos/{job['video_id']}").json()["frame_count"] == 12
    _, anchors = build_labels(spec_of(settings, job["id"]))
    assert [np.array_equal(label.mask, clip.mask(0) == label.object) for label in anchors[0].labels] == [True, True]


def test_one_call_takes_a_spec_beside_the_mask_in_any_order(
    client: TestClient, clip: RenderedClip, clip_file: Path, settings: Settings
) -> None:
    points = [{"name": "head", "x": 50, "y": 20}]
    spec = {
        "objects": [{"id": 1, "name": "flower"}, {"id": 2, "name": "puppet", "skeleton": {"points": ["head"]}}],
        "anchors": [{"frame": 3, "labels": [{"object": 2, "keypoints": points}]}],
        "options": {"start": 3, "stride": 2},
    }
    files = [
        ("spec", (None, json.dumps(spec), "application/json")),
        ("mask", ("m.png", indexed_png.encode(clip.mask(3)))),
        ("video", ("clip.mp4", clip_file.read_bytes())),
    ]
    job = client.post("/v1/jobs", files=files).json()
    assert job["progress"]["frames_total"] == 5
    objects, anchors = build_labels(spec_of(settings, job["id"]))
    assert [object_.name for object_ in objects] == ["flower", "puppet"]
    assert [anchor.frame for anchor in anchors] == [3]
    puppet = next(label for label in anchors[0].labels if label.object == 2)
    assert puppet.keypoints[0].name == "head"
    assert np.array_equal(puppet.mask, clip.mask(3) == 2)


def test_a_mask_may_go_to_a_video_that_is_there(client: TestClient, clip: RenderedClip, stored_video: Callable) -> None:
    video_id = stored_video()
    files = {"mask": indexed_png.encode(clip.mask(0)), "spec": (None, json.dumps({"video_id": video_id}))}
    answer = client.post("/v1/jobs", files=files)
    assert (answer.status_code, answer.json()["video_id"]) == (202, video_id)


# Refusing: everything stored stays as it was


@pytest.fixture
def nothing_changes(client: TestClient, settings: Settings, stored_video: Callable) -> Iterator[str]:
    """The id of a stored video; afterwards nothing else was stored and no job exists."""
    video_id = stored_video()
    uploads = settings.home / "uploads"
    uploads.mkdir()
    before = sorted(settings.home.rglob("*"))
    yield video_id
    assert sorted(settings.home.rglob("*")) == before
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert [found["id"] for found in client.get("/v1/videos").json()["videos"]] == [video_id]
    assert client.app.state.context.redis.llen(GPU_QUEUE) == 0  # type: ignore[attr-defined]


def test_faults_come_with_pointers_into_the_body(client: TestClient, nothing_changes: str) -> None:
    body = {"video_id": nothing_changes, "anchors": [{"frame": 12, "labels": [{"object": 1, "box": [90, 0, 20, 20]}]}]}
    document = problem(client.post("/v1/jobs", json=body), 422, "invalid-request")
    assert [fault["pointer"] for fault in document["errors"]] == ["/anchors/0/frame", "/anchors/0/labels/0/box"]


def test_a_single_kind_of_fault_is_the_problem(client: TestClient, nothing_changes: str) -> None:
    body = {"video_id": nothing_changes, "anchors": [{"frame": 12, "labels": [BOX]}]}
    problem(client.post("/v1/jobs", json=body), 422, "anchor-outside-video")


@pytest.mark.parametrize("video_id", ["v_nope", "../../x", "a:b", "\0", "v_" + "0" * 90])
def test_an_unknown_video(client: TestClient, nothing_changes: str, video_id: str) -> None:
    body = {"video_id": video_id, "anchors": [{"frame": 0, "labels": [BOX]}]}
    problem(client.post("/v1/jobs", json=body), 404, "video-not-found")


def test_no_video(client: TestClient, nothing_changes: str) -> None:
    document = problem(
        client.post("/v1/jobs", json={"anchors": [{"frame": 0, "labels": [BOX]}]}), 422, "invalid-request"
    )
    assert document["errors"][0]["pointer"] == "/video_id"


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "invalid-json"),
        (b"{", 400, "invalid-json"),
        (b"\xff\xfe", 400, "invalid-json"),
        (b'{"video_id": "\\ud800"}', 400, "invalid-json"),
        (b"[" * 50_000, 400, "invalid-json"),
        (b"null", 422, "invalid-request"),
        (b"[]", 422, "invalid-request"),
        (b'{"video_id": 7}', 422, "invalid-request"),
        (b'{"video_id": "v", "surprise": 1}', 422, "invalid-request"),
        (b'{"anchors": [{"frame": 0, "labels": [{"object": 1, "box": [NaN, 0, 1, 1]}]}]}', 422, "invalid-request"),
        (b'{"anchors": [{"frame": 1e999, "labels": []}]}', 422, "invalid-request"),
        (b'{"metadata": {"n": ' + b"9" * 5000 + b"}}", 400, "invalid-json"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_job(client: TestClient, nothing_changes: str, body: bytes, status: int, slug: str) -> None:
    headers = {"Content-Type": "application/json"}
    document = problem(client.post("/v1/jobs", content=body, headers=headers), status, slug)
    assert "Traceback" not in json.dumps(document)


@pytest.mark.parametrize("kind", ["text/plain", "", "video/mp4"])
def test_other_content_types(client: TestClient, nothing_changes: str, kind: str) -> None:
    problem(client.post("/v1/jobs", content=b"x", headers={"Content-Type": kind}), 415, "unsupported-media-type")


def test_a_body_above_the_cap(client: TestClient, nothing_changes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.jobs.MAX_JSON", 100)
    body = {"video_id": nothing_changes, "anchors": [{"frame": 0, "labels": [BOX] * 10}]}
    problem(client.post("/v1/jobs", json=body), 413, "request-too-large")
    files = {"spec": (None, json.dumps(body))}
    problem(client.post("/v1/jobs", files=files), 413, "request-too-large")


@pytest.mark.parametrize(
    ("parts", "slug", "pointer"),
    [
        ({"mask": b"no png"}, "bad-mask", "/mask"),
        ({"mask": indexed_png.encode(np.ones((5, 7), np.uint8))}, "mask-size-mismatch", "/mask"),
        ({"mask": indexed_png.encode(np.zeros((64, 96), np.uint8))}, "empty-mask", "/mask"),
        ({"mask": indexed_png.encode(np.full((64, 96), 7, np.uint8)), "spec": b'{"objects": [{"id": 1}]}'}, "unknown-object", "/mask"),
        ({"spec": b'{"anchors": [{"frame": 50, "labels": [{"object": 1, "box": [0, 0, 9, 9]}]}]}'}, "anchor-outside-video", "/spec/anchors/0/frame"),
        ({"spec": b'{"video_id": "v_1", "anchors": []}'}, "invalid-request", "/spec/video_id"),
        ({"spec": b'{"options": {"presett": 1}}'}, "invalid-request", "/spec/options/presett"),
        ({"spec": b"{}"}, "no-anchors", "/spec/anchors"),
        ({}, "invalid-request", "/mask"),
    ],
)  # fmt: skip
def test_forms_with_faulty_labels_keep_no_video(
    client: TestClient, nothing_changes: str, clip_file: Path, parts: dict, slug: str, pointer: str
) -> None:
    files = {"video": ("clip.mp4", clip_file.read_bytes()), **{name: (name, data) for name, data in parts.items()}}
    document = problem(client.post("/v1/jobs", files=files), 422, slug)
    assert document["errors"][0]["pointer"] == pointer


def test_forms_with_faulty_parts(client: TestClient, nothing_changes: str, clip_file: Path) -> None:
    data = clip_file.read_bytes()
    mask = indexed_png.encode(np.ones((64, 96), np.uint8))
    problem(client.post("/v1/jobs", files={"video": b"hello", "mask": mask}), 422, "not-a-video")
    problem(client.post("/v1/jobs", files={"video": data, "masks": mask}), 400, "invalid-multipart")
    problem(client.post("/v1/jobs", files=[("mask", mask), ("mask", mask)]), 400, "invalid-multipart")
    problem(client.post("/v1/jobs", files={"mask": mask, "spec": b"{"}), 400, "invalid-json")
    problem(client.post("/v1/jobs", files={"mask": mask}), 422, "invalid-request")


def test_a_png_bomb_is_refused_by_its_header(client: TestClient, nothing_changes: str) -> None:
    huge = bytearray(indexed_png.encode(np.zeros((8, 8), np.uint8)))
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    files = {"mask": bytes(huge), "spec": (None, json.dumps({"video_id": nothing_changes}))}
    problem(client.post("/v1/jobs", files=files), 422, "mask-size-mismatch")


def test_without_redis_the_answer_is_503_and_nothing_is_stored(settings: Settings) -> None:
    lost = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(lost)) as client:
        body = {"video_id": "v_1", "anchors": [{"frame": 0, "labels": [BOX]}]}
        for answer in (client.post("/v1/jobs", json=body), client.get("/v1/jobs/j_1"), client.get("/v1/videos")):
            problem(answer, 503, "service-unavailable")
            assert answer.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200


# Watching and ending


def test_the_etag_changes_when_the_job_does(client: TestClient, submit: Callable, work: Callable) -> None:
    address = f"/v1/jobs/{submit()['id']}"
    queued = client.get(address)
    same = client.get(address, headers={"If-None-Match": f'"x", W/{queued.headers["etag"]}'})
    assert (same.status_code, same.content, same.headers["retry-after"]) == (304, b"", "1")
    work(queued.json()["id"])
    done = client.get(address, headers={"If-None-Match": queued.headers["etag"]})
    assert (done.status_code, done.json()["status"]) == (200, "succeeded")
    assert "retry-after" not in done.headers


def test_lists_are_paged_and_filtered(client: TestClient, submit: Callable, work: Callable) -> None:
    ids = [submit()["id"] for _ in range(3)]
    work(ids[1])
    first = client.get("/v1/jobs?limit=2").json()
    second = client.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]
    assert [job["id"] for job in client.get("/v1/jobs?status=succeeded").json()["jobs"]] == [ids[1]]
    assert [job["id"] for job in client.get("/v1/jobs?status=queued").json()["jobs"]] == [ids[2], ids[0]]
    for query in ("limit=0", "limit=1000", "cursor=x", "status=done", "cursor=" + "9" * 99):
        problem(client.get(f"/v1/jobs?{query}"), 422, "invalid-request")


def test_cancel(client: TestClient, submit: Callable, work: Callable) -> None:
    queued = submit()["id"]
    answer = client.post(f"/v1/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    document = problem(client.post(f"/v1/jobs/{queued}/cancel"), 409, "job-final")
    assert document["job_status"] == "cancelled"
    running = submit()["id"]
    work(running, chunks=0, status=None)
    answer = client.post(f"/v1/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["status"], answer.json()["cancel_requested"]) == (202, "running", True)
    problem(client.post("/v1/jobs/j_nope/cancel"), 404, "job-not-found")


def test_delete(client: TestClient, submit: Callable, work: Callable, settings: Settings) -> None:
    job_id = submit()["id"]
    assert problem(client.delete(f"/v1/jobs/{job_id}"), 409, "job-running")["job_status"] == "queued"
    work(job_id)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not (settings.store_dir / "jobs").exists()
    for answer in (client.get(f"/v1/jobs/{job_id}"), client.delete(f"/v1/jobs/{job_id}")):
        problem(answer, 404, "job-not-found")
    running = submit()["id"]
    work(running, chunks=1, status=None)
    assert client.delete(f"/v1/jobs/{running}?force=true").status_code == 204
    assert not (settings.store_dir / "jobs").exists()


def test_a_failed_job_shows_its_problem(client: TestClient, submit: Callable, service: Context) -> None:
    from app.problems import problem_document
    from app.records.leases import Leases

    job_id = submit()["id"]
    leases = Leases(service.redis)
    lease = leases.claim("local", job_id, "test/1")
    assert lease is not None
    leases.finish(lease, "failed", problem_document("frame-unreadable", "Frame 7 does not decode."))
    error = client.get(f"/v1/jobs/{job_id}").json()["error"]
    assert (error["type"], error["detail"]) == ("/problems/frame-unreadable", "Frame 7 does not decode.")
