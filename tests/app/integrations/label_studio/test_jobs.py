from __future__ import annotations

from typing import Any

import pytest

from app.integrations.label_studio.jobs import problem_of
from app.records.jobs import JobRecord, PinnedModel, Progress


def job(**fields: Any) -> JobRecord:
    given: dict[str, Any] = {"id": "j_1", "video_id": "v_1", "progress": Progress(frames_total=3)}
    return JobRecord(**given, model=PinnedModel(name="m", sha256="0"), options={}, objects=[], **fields)


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
def test_a_job_that_gives_results_has_no_problem(status: str) -> None:
    assert problem_of(job(status=status)) is None


@pytest.mark.parametrize(
    ("record", "slug", "said"),
    [
        (None, "job-not-found", "deleted"),
        (job(status="cancelled"), "job-final", "cancelled"),
        (job(status="failed"), "internal-error", "log"),
        (
            job(status="failed", error={"type": "/problems/frame-unreadable", "detail": "Frame 3."}),
            "frame-unreadable",
            "3",
        ),
        (job(status="failed", error={"type": "/problems/unheard-of", "detail": "x"}), "internal-error", "x"),
    ],
)
def test_a_job_that_gives_none_says_why(record: JobRecord | None, slug: str, said: str) -> None:
    problem = problem_of(record)
    assert problem is not None
    assert (problem.kind.slug, said in problem.detail) == (slug, True)
