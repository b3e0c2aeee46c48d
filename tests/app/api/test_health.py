from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from app.api.context import Context
from app.records.workers import WorkerRecord


def test_alive(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"


def test_ready_once_every_queue_has_a_worker(client: TestClient, service: Context) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/service-unavailable")
    assert answer.json()["checks"] == {"redis": "ok", "store": "ok", "worker": "none is alive for cpu and gpu"}
    service.workers.beat(WorkerRecord(node="gpu@x", queues=["gpu"], pid=1))
    assert client.get("/readyz").json()["checks"]["worker"] == "none is alive for cpu"
    service.workers.beat(WorkerRecord(node="cpu@x", queues=["cpu"], pid=2))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


def test_a_store_that_cannot_be_written_is_not_ready(client: TestClient, home: Path) -> None:
    (home / "store").write_text("a file where the folder should be")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "cannot be written" in answer.json()["checks"]["store"]
