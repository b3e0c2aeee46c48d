# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from app.api.context import Context
from app.celery_config import CPU_QUEUE
from app.files import JobFiles
from app.formats import EXPORTS, find_variant, variant_filename, variant_name
from app.problems import problem_document


def build(service: Context, job_id: str, name: str, data: bytes) -> None:
    """Plays the worker that builds an export."""
    lease = service.exports.claim("local", job_id, 0, name)
    assert lease is not None
    service.store.write_atomic(JobFiles(service.store, "local", job_id).export(EXPORTS[name].filename), data)
    service.exports.done(lease)


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_an_export_is_built_once_and_then_served(
    client: TestClient, submit: Callable, work: Callable, service: Context, name: str
) -> None:
    job_id = submit()["id"]
    work(job_id)
    address = f"/v1/jobs/{job_id}/exports/{name}"
    for _ in range(3):
        answer = client.get(address)
        assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
        assert answer.json() == {"name": name, "state": "queued"}
    assert service.redis.llen(CPU_QUEUE) == 1, "one message, however often it is asked for"
    build(service, job_id, name, bytes(range(200)))
    answer = client.get(address)
    assert (answer.status_code, answer.content) == (200, bytes(range(200)))
    assert answer.headers["content-type"].split(";")[0] == EXPORTS[name].media_type
    assert answer.headers["content-disposition"] == f'attachment; filename="{job_id}-{EXPORTS[name].filename}"'
    etag = answer.headers["etag"]
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    head = client.head(address)
    assert (head.status_code, head.content, dict(head.headers)) == (200, b"", dict(answer.headers))
    part = client.get(address, headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/200"
    whole = client.get(address, headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (whole.status_code, len(whole.content)) == (200, 200)


@pytest.mark.parametrize(
    ("header", "status"),
    [("bytes=500-", 416), ("bytes=0-0,300-", 416), ("lines=1-2", 200), ("bytes", 200), ("bytes=-5", 206), ("bytes=x-y", 200), ("bytes=5-2", 200)],
)  # fmt: skip
def test_odd_ranges(
    client: TestClient, submit: Callable, work: Callable, service: Context, header: str, status: int
) -> None:
    job_id = submit()["id"]
    work(job_id)
    client.get(f"/v1/jobs/{job_id}/exports/coco")
    build(service, job_id, "coco", bytes(200))
    answer = client.get(f"/v1/jobs/{job_id}/exports/coco", headers={"Range": header})
    assert answer.status_code == status
    if status == 416:
        assert answer.json()["type"] == "/problems/range-not-satisfiable"
        assert answer.headers["content-range"] == "bytes */200"


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_what_a_stopped_job_has_done_can_be_exported(
    client: TestClient, submit: Callable, work: Callable, status: str
) -> None:
    job_id = submit()["id"]
    work(job_id, chunks=1, status=status)
    assert client.get(f"/v1/jobs/{job_id}/exports/davis").status_code == 202


def test_a_job_at_work_has_no_export_yet(
    client: TestClient, submit: Callable, work: Callable, service: Context
) -> None:
    job_id = submit()["id"]
    for _ in range(2):
        answer = client.get(f"/v1/jobs/{job_id}/exports/davis")
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-ready")
        assert answer.json()["progress"]["frames_total"] == 12
        if client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued":
            work(job_id, chunks=1, status=None)
    assert service.redis.llen(CPU_QUEUE) == 0


def test_a_job_that_did_nothing_has_nothing_to_export(client: TestClient, submit: Callable) -> None:
    job_id = submit()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    answer = client.get(f"/v1/jobs/{job_id}/exports/davis")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-ready")


def test_an_unknown_format_names_those_there_are(client: TestClient, submit: Callable) -> None:
    for name in ("yolo", "davis%00", "..%5c", "x" * 3000):
        answer = client.get(f"/v1/jobs/{submit()['id']}/exports/{name}")
        assert answer.status_code == 404
    answer = client.get(f"/v1/jobs/{submit()['id']}/exports/yolo")
    assert answer.json()["type"] == "/problems/unknown-format"
    assert "davis, youtube-vos, coco, " in answer.json()["detail"]


def test_without_its_video_an_overlay_cannot_be_drawn(client: TestClient, submit: Callable, work: Callable) -> None:
    job = submit()
    work(job["id"])
    client.delete(f"/v1/videos/{job['video_id']}")
    answer = client.get(f"/v1/jobs/{job['id']}/exports/overlay")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/video-not-found")


def test_a_build_that_failed_says_why(client: TestClient, submit: Callable, work: Callable, service: Context) -> None:
    job_id = submit()["id"]
    work(job_id)
    client.get(f"/v1/jobs/{job_id}/exports/overlay")
    lease = service.exports.claim("local", job_id, 0, "overlay")
    assert lease is not None
    service.exports.failed(lease, problem_document("frame-unreadable", "Frame 7 does not decode."))
    answer = client.get(f"/v1/jobs/{job_id}/exports/overlay")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"] == "Frame 7 does not decode."


def test_an_export_with_options_is_another_export(
    client: TestClient, submit: Callable, work: Callable, service: Context
) -> None:
    job_id = submit()["id"]
    work(job_id)
    address = f"/v1/jobs/{job_id}/exports/overlay"
    assert client.get(address).status_code == 202
    assert client.get(f"{address}?opacity=0.5&names=false").status_code == 202
    assert client.get(f"{address}?names=0&opacity=0.50").status_code == 202
    assert service.redis.llen(CPU_QUEUE) == 2, "two exports, one of them asked for in two ways"
    build(service, job_id, "overlay", b"plain")
    assert client.get(f"{address}?opacity=0.38&outline=true").content == b"plain", "the defaults, said aloud"
    answer = client.get(f"{address}?opacity=0.5&names=false")
    assert answer.status_code == 202, "the plain one is never taken for it"
    format_, options = find_variant("overlay;opacity=0.5;names=false")
    lease = service.exports.claim("local", job_id, 0, variant_name(format_, options))
    assert lease is not None
    key = JobFiles(service.store, "local", job_id).export(variant_filename(format_, options))
    service.store.write_atomic(key, b"other")
    service.exports.done(lease)
    answer = client.get(f"{address}?opacity=0.5&names=false")
    assert (answer.content, client.get(address).content) == (b"other", b"plain")
    assert answer.headers["content-disposition"] == f'attachment; filename="{job_id}-overlay.mp4"'
    assert answer.headers["etag"] != client.get(address).headers["etag"]
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not list(service.redis.scan_iter("lp:export*"))


@pytest.mark.parametrize(
    ("name", "query", "pointer"),
    [
        ("overlay", "opacity=2", "/query/opacity"),
        ("overlay", "opacity=nan", "/query/opacity"),
        ("overlay", "names=perhaps", "/query/names"),
        ("overlay", "tolerance=1", "/query/tolerance"),
        ("davis", "outline=false", "/query/outline"),
        ("yolo-seg", "tolerance=-1", "/query/tolerance"),
    ],
)
def test_options_that_a_format_does_not_have(
    client: TestClient, submit: Callable, name: str, query: str, pointer: str
) -> None:
    answer = client.get(f"/v1/jobs/{submit()['id']}/exports/{name}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
