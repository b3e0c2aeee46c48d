from __future__ import annotations

import errno

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nope", 404, "not-found"),
        ("GET", "/v1/", 404, "not-found"),
        ("GET", "/v1/jobs/a/b/c/d", 404, "not-found"),
        ("PUT", "/v1/videos", 405, "method-not-allowed"),
        ("POST", "/v1/models", 405, "method-not-allowed"),
        ("GET", "/v1/videos?limit=x", 422, "invalid-request"),
        ("GET", "/v1/videos/%FF%FE", 404, "video-not-found"),
        ("GET", "/v1/jobs/%00", 404, "job-not-found"),
        ("DELETE", "/v1/jobs/x?force=perhaps", 422, "invalid-request"),
    ],
)
def test_every_refusal_is_a_problem(client: TestClient, method: str, path: str, status: int, slug: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    document = answer.json()
    assert (document["type"], document["status"]) == (f"/problems/{slug}", status)
    assert client.get(document["type"]).status_code == 200
    if status == 405:
        assert answer.headers["allow"] in document["detail"]


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (RuntimeError("secret /etc/path"), 500, "internal-error"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "storage-full"),
        (PermissionError(errno.EACCES, "secret /etc/path"), 500, "internal-error"),
    ],
)
def test_a_fault_of_the_service_tells_nothing_of_its_inside(
    settings: Settings, error: Exception, status: int, slug: str
) -> None:
    app = create_app(settings)

    @app.get("/broken")
    def broken() -> None:
        raise error

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == f"/problems/{slug}"
    assert "secret" not in answer.text
