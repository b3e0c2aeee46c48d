from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.settings import Settings
from model.labels.jsonio import result_from_json
from model.rendered import RenderedClip


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Results in chunks of four frames."""
    return settings.model_copy(update={"chunk_frames": 4})


def test_results_are_read_page_by_page(client: TestClient, submit: Callable, work: Callable, truth: Callable) -> None:
    job_id = submit()["id"]
    work(job_id)
    got, start = [], 0
    while start is not None:
        page = client.get(f"/v1/jobs/{job_id}/frames", params={"start": start, "limit": 5}).json()
        assert page["status"] == "succeeded"
        got += page["frames"]
        start = page["next_start"]
    assert [result_from_json(document) for document in got] == [truth(frame) for frame in range(12)]


def test_a_range_keeps_its_true_indices(client: TestClient, submit: Callable, work: Callable) -> None:
    job_id = submit(options={"start": 1, "end": 10, "stride": 3})["id"]
    work(job_id)
    page = client.get(f"/v1/jobs/{job_id}/frames?start=2").json()
    assert [(result["frame"], result["time_ms"]) for result in page["frames"]] == [(4, 160), (7, 280)]
    assert page["next_start"] is None


def test_what_exists_is_read_while_the_job_runs(client: TestClient, submit: Callable, work: Callable) -> None:
    job_id = submit()["id"]
    empty = client.get(f"/v1/jobs/{job_id}/frames").json()
    assert (empty["frames"], empty["next_start"], empty["status"]) == ([], 0, "queued")
    work(job_id, chunks=2, status=None)
    page = client.get(f"/v1/jobs/{job_id}/frames").json()
    assert [result["frame"] for result in page["frames"]] == list(range(8))
    assert (page["next_start"], page["status"], page["progress"]["frames_done"]) == (8, "running", 8)


def test_a_mask_is_an_indexed_png(client: TestClient, submit: Callable, work: Callable, clip: RenderedClip) -> None:
    job_id = submit()["id"]
    work(job_id)
    answer = client.get(f"/v1/jobs/{job_id}/frames/6/mask.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), clip.mask(6))
    again = client.get(f"/v1/jobs/{job_id}/frames/6/mask.png", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_frame_without_any_mask_is_all_background(client: TestClient, submit: Callable, service, truth) -> None:  # type: ignore[no-untyped-def]
    from app.results import open_results
    from model.labels import FrameResult

    job_id = submit()["id"]
    results = open_results(service.store, service.jobs.get("local", job_id))
    results.write_chunk("f", 0, [FrameResult(0, 0, ())])
    image = np.asarray(Image.open(io.BytesIO(client.get(f"/v1/jobs/{job_id}/frames/0/mask.png").content)))
    assert image.shape == (64, 96)
    assert not image.any()


@pytest.mark.parametrize("status", [None, "cancelled"])
def test_a_frame_beyond_what_is_done_is_not_ready(
    client: TestClient, submit: Callable, work: Callable, status: str | None
) -> None:
    job_id = submit()["id"]
    work(job_id, chunks=1, status=status)
    assert client.get(f"/v1/jobs/{job_id}/frames/3/mask.png").status_code == 200
    answer = client.get(f"/v1/jobs/{job_id}/frames/4/mask.png")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-ready")
    assert answer.json()["progress"]["frames_done"] == 4
    assert ("retry-after" in answer.headers) is (status is None)


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("frames/12/mask.png", 404, "frame-not-found"),
        ("frames/-1/mask.png", 404, "frame-not-found"),
        ("frames/99999999999999999999/mask.png", 404, "frame-not-found"),
        ("frames/x/mask.png", 422, "invalid-request"),
        ("frames?start=-1", 422, "invalid-request"),
        ("frames?start=99999999999999999999", 422, "invalid-request"),
        ("frames?limit=0", 422, "invalid-request"),
        ("frames?limit=100000", 422, "invalid-request"),
        ("frames/1", 404, "not-found"),
    ],
)
def test_addresses_that_mean_nothing(client: TestClient, submit: Callable, path: str, status: int, slug: str) -> None:
    answer = client.get(f"/v1/jobs/{submit()['id']}/{path}")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


def test_a_job_that_is_not_there(client: TestClient) -> None:
    for path in ("frames", "frames/0/mask.png"):
        assert client.get(f"/v1/jobs/j_nope/{path}").json()["type"] == "/problems/job-not-found"
