from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from app.client import Client, ServiceError
from model.labels import indexed_png
from model.rendered import RenderedClip

ANCHOR = {"frame": 0, "labels": [{"object": 1, "box": [4, 4, 20, 20]}]}


def test_a_job_from_upload_to_export(
    server: str, playing_worker: None, clip_file: Path, clip: RenderedClip, tmp_path: Path
) -> None:
    sent: list[tuple[int, int]] = []
    seen: list[str] = []
    with Client(server) as client:
        video = client.upload(clip_file, on_bytes=lambda done, size: sent.append((done, size)))
        size = clip_file.stat().st_size
        assert sent[-1] == (size, size)
        points = {"frame": 0, "labels": [{"object": 2, "keypoints": [{"name": "head", "x": 50, "y": 20}]}]}
        job = client.create_job(
            video["id"], anchors=[points], metadata={"a": 1}, mask=indexed_png.encode(clip.mask(0)), options={"end": 12}
        )
        assert [object_["id"] for object_ in job["objects"]] == [1, 2]
        done = client.wait(job["id"], on_progress=lambda job: seen.append(job["status"]), timeout_s=20)
        assert (done["status"], done["metadata"]) == ("succeeded", {"a": 1})
        assert seen[-1] == "succeeded"
        assert [result["frame"] for result in client.frames(job["id"], page=5)] == list(range(12))
        out = tmp_path / "out"
        out.mkdir()
        path = client.export(job["id"], "davis", out / "d.zip", timeout_s=20)
        assert path.read_bytes()[:2] == b"PK"
        assert [path.name for path in out.iterdir()] == ["d.zip"]
        client.delete_job(job["id"])
        client.delete_video(video["id"])
        with pytest.raises(ServiceError) as caught:
            client.job(job["id"])
    assert (caught.value.status, caught.value.slug) == (404, "job-not-found")


def test_a_refusal_can_be_read(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with Client(server) as client:
        with pytest.raises(ServiceError, match="Not a video: ") as caught:
            client.upload(tmp_path / "a.mp4")
        assert caught.value.slug == "not-a-video"
        with pytest.raises(ServiceError, match=r"(?s)The request is not valid.*\n  /surprise: There is no field"):
            client.submit({"video_id": "v_1", "surprise": 1})


def test_waiting_and_exporting_give_up_in_time(server: str, clip_file: Path, tmp_path: Path) -> None:
    with Client(server) as client:
        job = client.create_job(client.upload(clip_file)["id"], anchors=[ANCHOR])
        with pytest.raises(TimeoutError, match="still queued"):
            client.wait(job["id"], timeout_s=0)
        assert client.cancel(job["id"])["status"] == "cancelled"
        with pytest.raises(ServiceError) as caught:
            client.export(job["id"], "davis", tmp_path / "d.zip")
        assert caught.value.slug == "not-ready"


def test_no_service_is_a_clear_error() -> None:
    with Client("http://127.0.0.1:1") as client:
        assert not client.ready()
        with pytest.raises(ServiceError, match="does not answer"):
            client.job("j_1")


def test_an_answer_that_is_no_problem_is_still_readable() -> None:
    answer = httpx.MockTransport(lambda request: httpx.Response(502, text="<html>"))
    with Client("http://proxy", transport=answer) as client, pytest.raises(ServiceError, match="502 Bad Gateway"):
        client.job("j_1")


def test_ready_when_workers_live(server: str, playing_worker: None) -> None:
    with Client(server) as client:
        assert client.ready()
