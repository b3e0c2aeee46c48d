from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from app.schemas.jobs import JOB_EXAMPLE, MAX_METADATA, JobIn, JobOut


def parse(**document: object) -> JobIn:
    return JobIn.model_validate_json(json.dumps(document))


def test_everything_has_a_default() -> None:
    job = parse()
    assert (job.video_id, job.objects, job.anchors, job.metadata) == (None, None, [], {})
    assert job.options.model_dump() == {
        "model": "uvc-r18", "preset": "plain", "start": 0, "end": None, "stride": 1, "direction": "both",
        "working_size": None,
    }  # fmt: skip


def test_the_example_survives() -> None:
    assert JobIn.model_validate_json(JobIn.model_validate_json(json.dumps(JOB_EXAMPLE)).model_dump_json())


@pytest.mark.parametrize(
    "document",
    [
        {"metadata": {"a": "x" * MAX_METADATA}},
        {"objects": [{"id": i, "skeleton": {"points": [f"p{k}" for k in range(256)]}} for i in range(1, 40)]},
        {"anchors": [{"frame": 0, "labels": [{"object": 1, "polygon": [[0.0] * 20_002]}]}]},
        {"anchors": [{"frame": 0, "labels": [{"object": 1, "polygon": [[]] * 1001}]}]},
        {"anchors": [{"frame": 0, "labels": [{"object": 1, "mask": {"size": [0, 4], "counts": []}}]}]},
        {"objects": [{"id": i} for i in range(1, 255)] + [{"id": 1}]},
    ],
)
def test_what_records_and_memory_hold_is_bounded(document: dict) -> None:
    with pytest.raises(ValidationError):
        parse(**document)


def test_the_answers_own_example_is_valid() -> None:
    example = JobOut.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index,call-overload]
    assert JobOut.model_validate_json(json.dumps(example)).status == "running"
