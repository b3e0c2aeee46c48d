from __future__ import annotations

from collections.abc import Callable

import pytest

from app.records.jobs import JobRecord, Jobs
from app.records.paging import BadCursorError
from app.records.videos import VideoRecord, Videos


def test_comes_back_as_it_was_stored(videos: Videos, make_video: Callable[..., VideoRecord]) -> None:
    record = make_video()
    assert videos.get("local", record.id) == record


def test_another_owner_sees_nothing(videos: Videos, make_video: Callable[..., VideoRecord]) -> None:
    record = make_video("alice")
    assert videos.get("bob", record.id) is None
    assert videos.list("bob") == ([], None)
    videos.delete("bob", record.id)
    assert videos.get("alice", record.id) == record


def test_list_is_newest_first_and_pages_do_not_shift(videos: Videos, make_video: Callable[..., VideoRecord]) -> None:
    made = [make_video().id for _ in range(5)]
    first, cursor = videos.list("local", limit=2)
    make_video()
    second, cursor = videos.list("local", cursor, limit=2)
    third, end = videos.list("local", cursor, limit=2)
    assert [record.id for record in [*first, *second, *third]] == made[::-1]
    assert end is None


@pytest.mark.parametrize("cursor", ["", "-1", "+inf", "(3", "1e9", "x", "٣", "9" * 40])
def test_a_made_up_cursor_is_refused(videos: Videos, cursor: str) -> None:
    with pytest.raises(BadCursorError):
        videos.list("local", cursor)


def test_is_kept_while_a_job_is_active(
    videos: Videos, jobs: Jobs, make_video: Callable[..., VideoRecord], make_job: Callable[..., JobRecord]
) -> None:
    video = make_video()
    job = make_job(video)
    assert videos.delete("local", video.id) == [job.id]
    assert videos.get("local", video.id) is not None
    jobs.request_cancel("local", job.id)
    assert videos.delete("local", video.id) == []
    assert videos.get("local", video.id) is None
    assert videos.list("local") == ([], None)


def test_force_removes_it_although_a_job_is_active(
    videos: Videos, make_video: Callable[..., VideoRecord], make_job: Callable[..., JobRecord]
) -> None:
    video = make_video()
    make_job(video)
    assert videos.delete("local", video.id, force=True) == []
    assert videos.get("local", video.id) is None


def test_no_job_starts_on_a_video_that_is_gone(
    videos: Videos, jobs: Jobs, make_video: Callable[..., VideoRecord], make_job: Callable[..., JobRecord]
) -> None:
    video = make_video()
    record = make_job(video).model_copy(update={"id": "j_other"})
    videos.delete("local", video.id, force=True)
    assert not jobs.create(record)
    assert jobs.get("local", "j_other") is None
