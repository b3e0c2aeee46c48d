# ruff: noqa: E501  (tables have one case a line)
from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import redis
from fastapi.testclient import TestClient
from PIL import Image

from app.main import create_app
from app.settings import Settings
from model.rendered import RenderedClip
from model.video import open_video

MP4 = {"Content-Type": "video/mp4"}


def stored(settings: Settings) -> list[Path]:
    """Every file below the home directory, whatever kind."""
    return [path for path in settings.home.rglob("*") if path.is_file()]


def refused(client: TestClient, settings: Settings, slug: str, status: int = 422, **request: object) -> dict:
    """Posts to /v1/videos and checks the refusal, and that nothing was kept."""
    before = stored(settings)
    answer = client.post("/v1/videos", **request)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert len(document["detail"]) > 20
    assert stored(settings) == before
    assert list((settings.home / "uploads").glob("*")) == []
    assert client.get("/v1/videos").json()["videos"] == []
    return document


def test_a_raw_body_is_stored_and_described(client: TestClient, settings: Settings, clip_file: Path) -> None:
    data = clip_file.read_bytes()
    answer = client.post("/v1/videos", content=data, headers=MP4)
    assert answer.status_code == 201
    video = answer.json()
    assert answer.headers["location"] == f"/v1/videos/{video['id']}"
    assert video["id"].startswith("v_")
    wanted = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "container": "mp4",
        "codec": "h264",
        "width": 96,
        "height": 64,
        "frame_count": 12,
        "duration_ms": 480,
        "fps": {"ratio": "25/1", "value": 25.0},
        "sample_aspect_ratio": "1/1",
        "rotation": 0,
    }
    assert {name: video[name] for name in wanted} == wanted
    assert client.get(answer.headers["location"]).json() == video
    kept = settings.store_dir / "videos" / "local" / video["id"]
    assert (kept / "upload").read_bytes() == data
    assert (kept / "table.npz").exists()
    assert list((settings.home / "uploads").iterdir()) == []


def test_a_form_is_stored_alike(client: TestClient, clip_file: Path) -> None:
    data = clip_file.read_bytes()
    answer = client.post("/v1/videos", files={"file": ("../../evil.m3u8", data, "application/x-mpegurl")})
    assert answer.status_code == 201
    assert answer.json()["sha256"] == hashlib.sha256(data).hexdigest()


def test_chunks_without_a_length_are_taken(client: TestClient, clip_file: Path) -> None:
    data = clip_file.read_bytes()
    chunks = (data[i : i + 100] for i in range(0, len(data), 100))
    answer = client.post("/v1/videos", content=chunks, headers=MP4)
    assert answer.json()["bytes"] == len(data)


def test_a_zip_of_images_is_a_video(client: TestClient, clip: RenderedClip) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i, frame in enumerate(clip.frames()):
            picture = io.BytesIO()
            Image.fromarray(frame).save(picture, "PNG")
            archive.writestr(f"frame{i + 7}.png", picture.getvalue())
    headers = {"Content-Type": "application/zip"}
    answer = client.post("/v1/videos?fps=30000/1001", content=out.getvalue(), headers=headers)
    assert answer.status_code == 201, answer.text
    video = answer.json()
    assert (video["container"], video["frame_count"], video["fps"]["ratio"]) == ("zip", 12, "30000/1001")


@pytest.mark.parametrize("fps", ["0", "1/0", "x", "-5", "1e9", "99999"])
def test_a_frame_rate_that_is_none(client: TestClient, settings: Settings, fps: str) -> None:
    document = refused(client, settings, "invalid-request", content=b"x", params={"fps": fps})
    assert document["errors"][0]["pointer"] == "/query/fps"


def test_a_frame_is_the_one_that_its_index_means(client: TestClient, upload: Callable, clip_file: Path) -> None:
    video = upload()
    with open_video(clip_file) as source:
        for n in (0, 5, 11):
            answer = client.get(f"/v1/videos/{video['id']}/frames/{n}.jpg")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
            got = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"), np.float32)
            distances = [np.abs(got - frame.image).mean() for frame in source.frames()]
            assert int(np.argmin(distances)) == n


def test_a_frame_is_not_sent_twice(client: TestClient, upload: Callable) -> None:
    address = f"/v1/videos/{upload()['id']}/frames/3.jpg"
    etag = client.get(address).headers["etag"]
    again = client.get(address, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_frames_head_is_that_of_the_whole_answer(client: TestClient, upload: Callable) -> None:
    address = f"/v1/videos/{upload()['id']}/frames/3.jpg"
    head = client.head(address)
    assert (head.status_code, head.content, dict(head.headers)) == (200, b"", dict(client.get(address).headers))


@pytest.mark.parametrize(
    ("n", "status", "slug"),
    [("12", 404, "frame-not-found"), ("-1", 404, "frame-not-found"), ("x", 422, "invalid-request"), ("9" * 5000, 422, "invalid-request")],
)  # fmt: skip
def test_a_frame_that_is_not_there(client: TestClient, upload: Callable, n: str, status: int, slug: str) -> None:
    answer = client.get(f"/v1/videos/{upload()['id']}/frames/{n}.jpg")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


def test_lists_are_paged_newest_first(client: TestClient, stored_video: Callable) -> None:
    ids = [stored_video() for _ in range(3)]
    first = client.get("/v1/videos?limit=2").json()
    second = client.get("/v1/videos", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [video["id"] for video in first["videos"] + second["videos"]] == ids[::-1]
    assert second["next_cursor"] is None


def test_delete_removes_everything(client: TestClient, upload: Callable, settings: Settings) -> None:
    video = upload()
    assert client.delete(f"/v1/videos/{video['id']}").status_code == 204
    assert stored(settings) == []
    for answer in (client.get(f"/v1/videos/{video['id']}"), client.delete(f"/v1/videos/{video['id']}")):
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/video-not-found")


def test_a_video_with_jobs_at_work_stays_unless_forced(client: TestClient, upload: Callable) -> None:
    video = upload()
    labels = [{"object": 1, "box": [4, 4, 20, 20]}]
    spec = {"video_id": video["id"], "anchors": [{"frame": 0, "labels": labels}]}
    job = client.post("/v1/jobs", json=spec).json()
    answer = client.delete(f"/v1/videos/{video['id']}")
    assert (answer.status_code, answer.json()["type"], answer.json()["jobs"]) == (
        409,
        "/problems/video-in-use",
        [job["id"]],
    )
    assert client.delete(f"/v1/videos/{video['id']}?force=true").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"


# Refusals


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\0" * 5000, b"ffconcat version 1.0\nfile media\n", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"],
)
def test_what_is_no_video_is_refused(client: TestClient, settings: Settings, content: bytes) -> None:
    refused(client, settings, "not-a-video", content=content, headers=MP4)


def test_a_broken_zip_is_refused(client: TestClient, settings: Settings) -> None:
    refused(
        client, settings, "bad-archive", content=b"PK\3\4" + b"\0" * 300, headers={"Content-Type": "application/zip"}
    )


def test_a_cut_off_video_is_refused(client: TestClient, settings: Settings, clip_file: Path) -> None:
    data = clip_file.read_bytes()
    refused(client, settings, "damaged-video", content=data[: len(data) // 2], headers=MP4)


def test_an_empty_body_is_refused(client: TestClient, settings: Settings) -> None:
    refused(client, settings, "empty-upload", status=400, content=b"", headers=MP4)
    refused(client, settings, "empty-upload", status=400, files={"file": ("a.mp4", b"")})


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_other_content_is_refused_with_advice(client: TestClient, settings: Settings, kind: str) -> None:
    document = refused(client, settings, "unsupported-media-type", 415, content=b"x", headers={"Content-Type": kind})
    assert "video/mp4" in document["detail"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=" + "a" * 5000, b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nabc"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nabc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="video"\r\n\r\nabc\r\n--b--\r\n'),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X" * 100_000 + b"\r\n\r\nabc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n' * 2 + b"--b--\r\n"),
    ],
)  # fmt: skip
def test_a_malformed_form_is_refused(client: TestClient, settings: Settings, kind: str, body: bytes) -> None:
    refused(client, settings, "invalid-multipart", status=400, content=body, headers={"Content-Type": kind})


def test_a_form_without_the_file_is_refused(client: TestClient, settings: Settings) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(client, settings, "empty-upload", status=400, content=b"--b--\r\n", headers=headers)


@pytest.mark.parametrize("kind", ["raw", "announced", "form"])
def test_a_file_above_the_cap_is_refused(settings: Settings, clip_file: Path, kind: str) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    data = clip_file.read_bytes()
    assert len(data) > 1000
    request: dict = {
        "raw": {"content": iter([data]), "headers": MP4},
        "announced": {"content": data, "headers": MP4},
        "form": {"files": {"file": ("a.mp4", data)}},
    }[kind]
    with TestClient(create_app(small)) as client:
        document = refused(client, small, "file-too-large", status=413, **request)
    assert "1000 bytes" in document["detail"]


@pytest.mark.parametrize(
    ("limit", "slug"),
    [({"max_pixels": 100}, "frame-too-large"), ({"max_frames": 5}, "too-many-frames"), ({"max_seconds": 0.1}, "video-too-long")],
)  # fmt: skip
def test_the_caps_of_the_settings_hold(settings: Settings, clip_file: Path, limit: dict, slug: str) -> None:
    small = settings.model_copy(update=limit)
    with TestClient(create_app(small)) as client:
        refused(client, small, slug, content=clip_file.read_bytes(), headers=MP4)


def test_a_check_that_does_not_end_is_killed(settings: Settings, clip_file: Path) -> None:
    hasty = settings.model_copy(update={"probe_timeout_s": 0.01})
    with TestClient(create_app(hasty)) as client:
        refused(client, hasty, "check-timed-out", content=clip_file.read_bytes(), headers=MP4)


def test_nothing_stays_when_the_record_cannot_be_written(
    client: TestClient, settings: Settings, clip_file: Path, redis_client: redis.Redis
) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        refused_then = client.post("/v1/videos", content=clip_file.read_bytes(), headers=MP4)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert (refused_then.status_code, refused_then.json()["type"]) == (503, "/problems/service-unavailable")
    assert stored(settings) == []
