from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.integrations.label_studio.media import Fetching, Media
from app.integrations.label_studio.remote import LabelStudio
from app.problems import Problem
from app.records.label_studio import LabelStudioRecords
from app.records.videos import VideoRecord

FILE = "/data/upload/1/0a1b2c3d-clip.mp4"
TOKEN = "0123456789abcdef"
Get = Callable[..., VideoRecord | Fetching]


@pytest.fixture
def service(client: TestClient) -> Any:
    return client.app.state.context  # type: ignore[attr-defined]


@pytest.fixture
def media(service: Any, label_studio: Any) -> Iterator[Media]:
    found = Media(service, LabelStudio(label_studio.url, TOKEN))
    yield found
    found.close()


@pytest.fixture
def get(service: Any, media: Media) -> Get:
    records = LabelStudioRecords(service.redis, "local")

    def do(value: str = FILE, *, wait_s: float = 30.0, of: Media = media) -> VideoRecord | Fetching:
        return of.video(records, "local", value, 7, wait_s=wait_s)

    return do


def test_a_file_is_fetched_once_and_kept_as_a_video(get: Get, service: Any, label_studio: Any, clip: Any) -> None:
    video = get()
    assert isinstance(video, VideoRecord)
    assert (video.width, video.height, video.frame_count) == (clip.width, clip.height, clip.frame_count)
    assert get() == video
    assert len(label_studio.seen) == 1
    assert not list((service.settings.home / "uploads").iterdir())


def test_one_content_under_two_names_is_one_video(get: Get, label_studio: Any) -> None:
    label_studio.files["/data/upload/2/copy.mp4"] = label_studio.files[FILE]
    assert get() == get("/data/upload/2/copy.mp4")


def test_many_requests_at_once_fetch_once(get: Get, label_studio: Any) -> None:
    label_studio.delay_s = 0.5
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(get())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({video.id for video in found}) == 1
    assert len(label_studio.seen) == 1


def test_who_does_not_wait_is_told_that_it_is_on_its_way(get: Get, label_studio: Any, wait_for: Any) -> None:
    label_studio.delay_s = 0.5
    begun = time.monotonic()
    assert get(wait_s=0.0) == Fetching(0)
    assert time.monotonic() - begun < 0.4
    wait_for(lambda: isinstance(get(wait_s=0.0), VideoRecord), 20)
    assert len(label_studio.seen) == 1


def test_a_process_that_died_while_fetching_does_not_stop_the_next(
    get: Get, service: Any, label_studio: Any, media: Media
) -> None:
    import hashlib

    source = hashlib.sha256(f"{label_studio.url}\n{FILE}".encode()).hexdigest()
    records = LabelStudioRecords(service.redis, "local")
    assert records.begin_fetch(source, "another", 300)
    assert isinstance(get(wait_s=0.05), Fetching)
    assert isinstance(get(), VideoRecord)


def test_a_video_that_was_deleted_is_fetched_anew(get: Get, service: Any, label_studio: Any) -> None:
    first = get()
    assert isinstance(first, VideoRecord)
    service.videos.delete("local", first.id)
    second = get()
    assert isinstance(second, VideoRecord)
    assert second.id != first.id
    assert len(label_studio.seen) == 2


def test_a_failure_is_said_again_without_trying_anew(get: Get, label_studio: Any) -> None:
    for _ in range(3):
        with pytest.raises(Problem, match="answers 404"):
            get("/data/none.mp4")
    assert len(label_studio.seen) == 1


def test_a_file_above_the_cap_is_broken_off(get: Get, service: Any, label_studio: Any) -> None:
    service.settings.__dict__["max_upload_bytes"] = 1000
    with pytest.raises(Problem) as refused:
        get()
    assert refused.value.kind.slug == "file-too-large"
    assert not list((service.settings.home / "uploads").iterdir())


def test_another_owner_has_videos_of_his_own(get: Get, service: Any, media: Media) -> None:
    ours = get()
    theirs = media.video(LabelStudioRecords(service.redis, "other"), "other", FILE, 7, wait_s=30)
    assert isinstance(ours, VideoRecord)
    assert isinstance(theirs, VideoRecord)
    assert theirs.id != ours.id
    assert service.videos.get("local", theirs.id) is None
