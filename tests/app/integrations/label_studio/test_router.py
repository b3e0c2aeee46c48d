from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings

AT = "/integrations/label-studio"
CONFIG = '<View><Video name="video" value="$video"/><VideoRectangle name="box" toName="video"/></View>'


@pytest.fixture
def guarded(settings: Settings) -> Iterator[TestClient]:
    """The application with a name and a password set."""
    changes = {"label_studio_user": "labeller", "label_studio_password": "geheim-ß"}
    with TestClient(create_app(Settings(**{**settings.model_dump(), **changes}))) as client:
        yield client


def setup(client: TestClient, status: int = 200, **body: Any) -> dict[str, Any]:
    given = {
        "project": "1.1700000000",
        "schema": CONFIG,
        "hostname": "http://localhost:8080",
        "access_token": "not ours to keep",
        "extra_params": None,
    }
    answer = client.post(f"{AT}/setup", json={**given, **body})
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize("path", ["", "/", "/health"])
def test_health_is_as_label_studio_expects(client: TestClient, path: str) -> None:
    assert client.get(AT + path).json() == {"status": "UP", "model_class": "Labelprop"}


def test_versions_and_metrics(client: TestClient) -> None:
    assert client.get(f"{AT}/versions").json() == {"versions": ["labelprop uvc-r18"]}
    assert client.get(f"{AT}/metrics").json() == {}


@pytest.mark.parametrize("auth", [None, ("labeller", "wrong"), ("other", "geheim-ß"), ("", "")])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook")]
)
def test_a_name_and_a_password_are_asked_for(guarded: TestClient, auth: Any, method: str, path: str) -> None:
    answer = guarded.request(method, AT + path, auth=auth)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="labelprop"'
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/unauthorized"


def test_the_right_ones_are_let_in(guarded: TestClient) -> None:
    for encoding in ("utf-8", "latin-1"):
        header = {"Authorization": "Basic " + base64.b64encode("labeller:geheim-ß".encode(encoding)).decode()}
        assert guarded.get(f"{AT}/health", headers=header).status_code == 200
    for header in ("Basic", "Basic %%%", "Bearer abc", "Basic " + base64.b64encode(b"labeller").decode()):
        assert guarded.get(f"{AT}/health", headers={"Authorization": header}).status_code == 401
    assert guarded.get("/healthz").status_code == 200  # the rest of the service has no such lock


def test_a_password_beyond_latin_1_has_one_spelling(settings: Settings) -> None:
    changes = {"label_studio_user": "a", "label_studio_password": "пароль"}
    with TestClient(create_app(Settings(**{**settings.model_dump(), **changes}))) as client:
        for password, status in (("пароль", 200), ("??????", 401)):
            header = {"Authorization": "Basic " + base64.b64encode(f"a:{password}".encode()).decode()}
            assert client.get(f"{AT}/health", headers=header).status_code == status


def test_setup_says_the_models_version_and_remembers_the_project(client: TestClient, settings: Settings) -> None:
    assert setup(client, extra_params='{"preset": "plain", "working_size": 240}') == {
        "model_version": "labelprop uvc-r18"
    }
    service = client.app.state.context  # type: ignore[attr-defined]
    from app.records.label_studio import LabelStudioRecords

    record = LabelStudioRecords(service.redis, "local").project("1")
    assert record is not None
    assert record.options == {"preset": "plain", "working_size": 240}
    stored = "".join(str(service.redis.get(key)) for key in service.redis.keys("lp:label-studio:*"))
    assert "not ours to keep" not in stored
    assert LabelStudioRecords(service.redis, "other").project("1") is None


@pytest.mark.parametrize(
    ("body", "slug", "pointer"),
    [
        ({"schema": "<View/>"}, "bad-label-config", None),
        ({"schema": None}, "invalid-request", "/schema"),
        ({"extra_params": "{"}, "invalid-request", "/extra_params"),
        ({"extra_params": "[1]"}, "invalid-request", "/extra_params"),
        ({"extra_params": {"stride": 3}}, "invalid-request", "/extra_params"),
        ({"extra_params": {"working_size": "big"}}, "invalid-request", "/extra_params"),
        ({"extra_params": {"model": "none-such"}}, "unknown-model", None),
    ],
)
def test_a_setup_that_cannot_work_says_so(client: TestClient, body: dict, slug: str, pointer: str | None) -> None:
    problem = setup(client, 422, **body)
    assert problem["type"] == f"/problems/{slug}"
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 422, "invalid-request"),
        (b"{", 400, "invalid-json"),
        (b"[]", 422, "invalid-request"),
        (b"[" * 200_000, 400, "invalid-json"),
        (b'{"tasks": 3}', 422, "invalid-request"),
        (b'{"tasks": [3]}', 422, "invalid-request"),
        (b'{"tasks": []}', 422, "invalid-request"),
        (b'{"tasks": [{}], "params": {"context": 4}}', 422, "invalid-request"),
        (b'{"tasks": [{}]}', 422, "invalid-request"),
        (b'{"tasks": [{}], "label_config": "<View/>"}', 422, "bad-label-config"),
        (json.dumps({"tasks": [{}] * 501}).encode(), 422, "invalid-request"),
    ],
)
def test_bad_requests_for_predictions(client: TestClient, body: bytes, status: int, slug: str) -> None:
    answer = client.post(f"{AT}/predict", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


def test_a_body_that_is_too_large_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.integrations.label_studio import router

    monkeypatch.setattr(router, "MAX_BODY", 100)
    assert client.post(f"{AT}/predict", content=b"x" * 101).status_code == 413


def test_a_configuration_of_vectors_gives_no_boxes(client: TestClient) -> None:
    config = '<View><Video name="v" value="$v"/><VideoVectorLabels name="p" toName="v"/></View>'
    answer = client.post(f"{AT}/predict", json={"tasks": [{}], "label_config": config})
    assert answer.json()["type"] == "/problems/bad-label-config"


def test_a_known_project_needs_no_configuration(client: TestClient, task: Callable) -> None:
    setup(client)
    answer = client.post(f"{AT}/predict", json={"tasks": [task(annotations=[])], "project": "1.5"})
    assert answer.json()["results"] == [[]]


def test_an_annotation_starts_its_job(client: TestClient, task: Callable, region: Callable, wait_for: Any) -> None:
    setup(client, extra_params={"working_size": 64})
    given = task()
    body = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "title": "x"},
        "task": {"id": 7, "data": given["data"]},
        "annotation": given["annotations"][0],
    }
    answer = client.post(f"{AT}/webhook", json=body)
    assert (answer.status_code, answer.json()["status"]) == (201, "ok")
    (job,) = wait_for(lambda: client.get("/v1/jobs").json()["jobs"], 20)
    assert (job["options"]["working_size"], job["metadata"]["task"]) == (64, 7)
    assert client.post(f"{AT}/webhook", json=body).status_code == 201
    wrong = {**body, "annotation": {"result": [region(1, x=None)]}}
    assert client.post(f"{AT}/webhook", json=wrong).status_code == 201
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"action": "START_TRAINING", "project": {"id": 1}},
        {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]},
        {"action": "ANNOTATION_CREATED", "project": {"id": 99}, "task": {}, "annotation": {}},
        {"action": "PROJECT_UPDATED"},
    ],
)
def test_other_events_are_taken_and_ignored(client: TestClient, body: dict) -> None:
    answer = client.post(f"{AT}/webhook", json=body)
    assert (answer.status_code, answer.json()["status"]) == (201, "ignored")
    assert client.post(f"{AT}/webhook", json={"action": 3}).status_code == 422


def test_the_addresses_are_no_part_of_our_own_api(client: TestClient) -> None:
    assert not [path for path in client.get("/openapi.json").json()["paths"] if "label-studio" in path]


def test_importing_the_application_brings_in_nothing_of_it() -> None:
    code = (
        "import sys, app.main; assert not {'httpx', 'torch', 'xml.etree.ElementTree'} & set(sys.modules);"
        "assert 'app.integrations.label_studio.backend' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
