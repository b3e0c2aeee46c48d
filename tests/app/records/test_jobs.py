from __future__ import annotations

from collections.abc import Callable

from app.records.jobs import JobRecord, Jobs
from app.records.leases import Leases
from app.records.videos import VideoRecord


def test_comes_back_as_it_was_stored(jobs: Jobs, make_job: Callable[..., JobRecord]) -> None:
    record = make_job()
    assert jobs.get("local", record.id) == record


def test_another_owner_sees_nothing(jobs: Jobs, make_job: Callable[..., JobRecord]) -> None:
    record = make_job(owner="alice")
    assert jobs.get("bob", record.id) is None
    assert jobs.list("bob") == ([], None)
    assert jobs.request_cancel("bob", record.id) is None
    assert jobs.delete("bob", record.id, force=True) is None
    assert jobs.get("alice", record.id) == record


def test_lists_by_status_and_by_page(jobs: Jobs, make_job: Callable[..., JobRecord]) -> None:
    made = [make_job().id for _ in range(4)]
    jobs.request_cancel("local", made[1])
    page, cursor = jobs.list("local", limit=3)
    assert [record.id for record in page] == [made[3], made[2], made[1]]
    rest, end = jobs.list("local", cursor, limit=3)
    assert ([record.id for record in rest], end) == ([made[0]], None)
    assert [record.id for record in jobs.list("local", status="cancelled")[0]] == [made[1]]
    assert [record.id for record in jobs.list("local", status="queued")[0]] == [made[3], made[2], made[0]]


def test_a_queued_job_is_cancelled_at_once(jobs: Jobs, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    assert jobs.request_cancel("local", job.id) == "queued"
    found = jobs.get("local", job.id)
    assert found is not None
    assert found.status == "cancelled"
    assert found.finished_at is not None
    assert jobs.active_on_video("local", job.video_id) == []


def test_cancelling_a_final_job_says_so_and_changes_nothing(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]
) -> None:
    job = make_job()
    lease = leases.claim("local", job.id, "gpu@here/1")
    assert lease is not None
    assert leases.finish(lease, "succeeded")
    before = jobs.get("local", job.id)
    assert jobs.request_cancel("local", job.id) == "succeeded"
    assert jobs.get("local", job.id) == before


def test_a_running_job_is_only_asked(jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord]) -> None:
    job = make_job()
    leases.claim("local", job.id, "gpu@here/1")
    assert jobs.request_cancel("local", job.id) == "running"
    found = jobs.get("local", job.id)
    assert found is not None
    assert (found.status, found.cancel_requested) == ("running", True)


def test_delete_spares_active_jobs_unless_forced(
    jobs: Jobs, make_job: Callable[..., JobRecord], make_video: Callable[..., VideoRecord]
) -> None:
    video = make_video()
    job = make_job(video)
    assert jobs.delete("local", job.id) == "queued"
    assert jobs.get("local", job.id) is not None
    assert jobs.delete("local", job.id, force=True) == "queued"
    assert jobs.get("local", job.id) is None
    assert jobs.active_on_video("local", video.id) == []
    assert jobs.list("local") == ([], None)
    assert jobs.list("local", status="queued") == ([], None)
    assert jobs.delete("local", job.id) is None


def test_a_deleted_job_leaves_no_key_behind(
    jobs: Jobs, leases: Leases, make_job: Callable[..., JobRecord], redis_client: object
) -> None:
    job = make_job()
    leases.claim("local", job.id, "gpu@here/1")
    jobs.delete("local", job.id, force=True)
    left = [key for key in redis_client.scan_iter() if "job" in key or "lease" in key or "queued" in key]  # type: ignore[attr-defined]
    assert left == []
