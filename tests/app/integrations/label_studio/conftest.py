"""A stand-in for Label Studio's server that checks every request, and our real application connected to it."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.settings import Settings
from model.labels.raster import tight_box
from model.rendered import RenderedClip

TOKEN = "0123456789abcdef"
CONFIG = """<View>
  <Labels name="videoLabels" toName="video"><Label value="flower"/><Label value="puppet"/></Labels>
  <Video name="video" value="$video" framerate="25"/>
  <VideoRectangle name="box" toName="video"/>
</View>"""


def jwt(**claims: Any) -> str:
    """An unsigned token of that form."""
    parts = ({"alg": "none"}, claims, {"signature": True})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


class StandIn:
    """Label Studio's server as far as we call it. What it does not know is answered with 404, as the real one does.

    Attributes:
        files: contents by path; paths under /data/ need the token.
        redirects: where a path leads.
        seen: method, path and `Authorization` of every request.
        project: the project's document.
        tasks: the tasks' documents by id.
        refresh: the personal access token that is exchanged, where that is the kind in use.
        delay_s: how long a file takes.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.project: dict[str, Any] = {"id": 1, "label_config": CONFIG}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.refresh: str | None = None
        self.access = jwt(exp=time.time() + 300)
        self.delay_s = 0.0
        self._numbers = iter(range(1000, 9999))
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            do_POST = do_DELETE = do_GET  # noqa: N815  (the names of the standard library)

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                given = self.headers.get("Authorization")
                stand_in.seen.append((self.command, self.path, given))
                path = urlsplit(self.path).path
                if path in stand_in.redirects:
                    self._send(302, b"", {"Location": stand_in.redirects[path]})
                elif path in stand_in.files:
                    if path.startswith("/data/") and not stand_in.allows(given):
                        self._send(404, b"Not Found")
                    else:
                        time.sleep(stand_in.delay_s)
                        self._send(200, stand_in.files[path], {"Content-Type": "video/mp4"})
                else:
                    status, document = stand_in.api(
                        self.command, path, parse_qs(urlsplit(self.path).query), body, given
                    )
                    self._send(status, json.dumps(document).encode() if document is not None else b"")

            def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def allows(self, given: str | None) -> bool:
        """Whether an `Authorization` is right."""
        return given == (f"Token {TOKEN}" if self.refresh is None else f"Bearer {self.access}")

    def api(self, method: str, path: str, query: dict, body: Any, given: str | None) -> tuple[int, Any]:
        """Status and document of one call."""
        if path == "/api/token/refresh" and method == "POST":
            return (200, {"access": self.access}) if body == {"refresh": self.refresh} else (401, {"detail": "expired"})
        if not self.allows(given):
            return 401, {"detail": "Authentication credentials were not provided."}
        if (method, path) == ("GET", f"/api/projects/{self.project['id']}/"):
            return 200, self.project
        if (method, path) == ("GET", "/api/tasks"):
            assert query["project"] == [str(self.project["id"])]
            page, size = int(query["page"][0]), int(query["page_size"][0])
            found_tasks = [self.tasks[id_] for id_ in sorted(self.tasks)][(page - 1) * size : page * size]
            if page > 1 and not found_tasks:
                return 404, {"detail": "Invalid page."}
            return 200, {"total": len(self.tasks), "tasks": found_tasks}
        if (method, path) == ("GET", "/api/predictions/"):
            task = self.tasks.get(int(query["task"][0]))
            return (400, {"detail": "Validation error"}) if task is None else (200, task["predictions"])
        if (method, path) == ("POST", "/api/predictions/"):
            # What its serializer takes: a task of the project, a list of results with these fields, a score.
            assert body.keys() == {"task", "project", "model_version", "score", "result"}
            assert body["project"] == self.project["id"]
            assert 0 <= body["score"] <= 1
            for result in body["result"]:
                assert {"id", "type", "from_name", "to_name", "value"} <= result.keys()
            prediction = {"id": next(self._numbers), **body}
            self.tasks[body["task"]]["predictions"].append(prediction)
            return 201, prediction
        if (found := re.fullmatch(r"/api/predictions/([0-9]+)/", path)) and method == "DELETE":
            for task in self.tasks.values():
                task["predictions"] = [entry for entry in task["predictions"] if entry["id"] != int(found[1])]
            return 204, None
        return 404, {"detail": "Not found."}


@pytest.fixture
def label_studio(clip_file: Path) -> Iterator[StandIn]:
    """A server with one project and the clip's file."""
    stand_in = StandIn()
    stand_in.files["/data/upload/1/0a1b2c3d-clip.mp4"] = clip_file.read_bytes()
    yield stand_in
    stand_in.close()


@pytest.fixture
def settings(settings: Settings, label_studio: StandIn) -> Settings:
    """Settings that name it."""
    changes = {"label_studio_url": label_studio.url, "label_studio_token": TOKEN, "label_studio_wait_s": 20.0}
    return Settings(**{**settings.model_dump(), **changes})


@pytest.fixture
def region(clip: RenderedClip) -> Callable[..., dict[str, Any]]:
    """A region around an object of the clip, drawn on one of the page's frames."""

    def do(object_id: int, number: int = 1, **changes: Any) -> dict[str, Any]:
        box = tight_box(clip.mask(number - 1) == object_id)
        assert box is not None
        sides = (clip.width, clip.height, clip.width, clip.height)
        place = dict(
            zip(("x", "y", "width", "height"), (100 * v / s for v, s in zip(box, sides, strict=True)), strict=True)
        )
        keyframe = {"frame": number, "time": number / 25, "enabled": True, "rotation": 0, **place, **changes}
        return {
            "id": f"r{object_id}",
            "type": "videorectangle",
            "from_name": "box",
            "to_name": "video",
            "value": {"sequence": [keyframe], "labels": [clip.objects[object_id - 1].name]},
        }

    return do


@pytest.fixture
def task(region: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A task on the clip on which both objects were drawn."""

    def do(*results: dict[str, Any], **fields: Any) -> dict[str, Any]:
        drawn = list(results) or [region(1), region(2)]
        document = {
            "id": 7,
            "data": {"video": "/data/upload/1/0a1b2c3d-clip.mp4"},
            "annotations": [{"id": 3, "result": drawn, "was_cancelled": False}],
            "predictions": [],
        }
        return {**document, **fields}

    return do


@pytest.fixture
def predict(client: Any) -> Callable[..., dict[str, Any]]:
    """Asks the backend as Label Studio's server does."""

    def do(*tasks: dict[str, Any], status: int = 200, config: str = CONFIG, **context: Any) -> dict[str, Any]:
        body = {
            "tasks": list(tasks),
            "project": "1.1700000000",
            "label_config": config,
            "params": {"login": None, "password": None, "context": context or None},
        }
        answer = client.post("/integrations/label-studio/predict", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    return do
