from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from app.problems import KINDS
from app.schemas.jobs import JobIn

OPERATIONS = {
    "upload_video": ("post", "/v1/videos"),
    "list_videos": ("get", "/v1/videos"),
    "get_video": ("get", "/v1/videos/{video_id}"),
    "get_video_frame": ("get", "/v1/videos/{video_id}/frames/{n}.jpg"),
    "delete_video": ("delete", "/v1/videos/{video_id}"),
    "create_job": ("post", "/v1/jobs"),
    "list_jobs": ("get", "/v1/jobs"),
    "get_job": ("get", "/v1/jobs/{job_id}"),
    "cancel_job": ("post", "/v1/jobs/{job_id}/cancel"),
    "delete_job": ("delete", "/v1/jobs/{job_id}"),
    "list_results": ("get", "/v1/jobs/{job_id}/frames"),
    "get_result_mask": ("get", "/v1/jobs/{job_id}/frames/{n}/mask.png"),
    "get_export": ("get", "/v1/jobs/{job_id}/exports/{name}"),
    "list_formats": ("get", "/v1/formats"),
    "list_models": ("get", "/v1/models"),
    "get_liveness": ("get", "/healthz"),
    "get_readiness": ("get", "/readyz"),
    "list_problems": ("get", "/problems"),
    "get_problem": ("get", "/problems/{slug}"),
}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    """The OpenAPI document as it is served."""
    return client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, op) for path, item in document["paths"].items() for method, op in item.items()]


def test_operation_ids_are_stable(document: dict[str, Any]) -> None:
    assert {op["operationId"]: (method, path) for method, path, op in operations(document)} == OPERATIONS


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert names
    assert names <= set(document["components"]["schemas"])


def test_every_operation_and_parameter_is_described(document: dict[str, Any]) -> None:
    for _, path, op in operations(document):
        assert op["summary"], path
        assert op["description"], path


def test_errors_are_problems_everywhere(document: dict[str, Any]) -> None:
    for _, path, op in operations(document):
        for status, answer in op["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
                for slug, example in answer["content"]["application/problem+json"]["examples"].items():
                    assert example["value"]["status"] == KINDS[slug].status == int(status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_schema_has_an_example_or_is_a_list_of_those_that_have(document: dict[str, Any]) -> None:
    without = {
        name
        for name, schema in document["components"]["schemas"].items()
        if schema.get("type") == "object" and "examples" not in schema
    }
    assert without <= {
        "JobList",
        "VideoList",
        "ResultList",
        "ModelList",
        "FormatList",
        "FaultOut",
        "RleOut",
        "SkeletonOut",
    }


def test_the_examples_of_what_is_sent_are_valid() -> None:
    schema = JobIn.model_json_schema()
    checked = 0
    for name, definition in [("JobIn", schema), *schema["$defs"].items()]:
        for example in definition.get("examples", ()):
            model = JobIn if name == "JobIn" else _model(name)

            TypeAdapter(model).validate_json(json.dumps(example))
            checked += 1
    assert checked >= 7


def _model(name: str) -> type:
    from app.schemas import jobs, labels

    return getattr(labels, name, None) or getattr(jobs, name)
