"""The backend as Label Studio meets it: real processes, a real worker and model, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from app.supervisor import Service


def test_boxes_are_carried_and_tracked(
    label_studio: Any, task: Callable, region: Callable, clip: Any, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path / "home",
        port=0,
        redis_url=None,
        label_studio_url=label_studio.url,
        label_studio_token="0123456789abcdef",
        label_studio_wait_s=80.0,
        label_studio_user="labels",
        label_studio_password="secret",
    )
    (tmp_path / "logs").mkdir()
    with Service(settings=settings, logs=tmp_path / "logs") as service:
        at = f"{service.url}/integrations/label-studio"
        with httpx.Client(base_url=at, auth=("labels", "secret"), timeout=120, trust_env=False) as http:

            def ask(*tasks: dict[str, Any], **context: Any) -> list[Any]:
                body = {"tasks": tasks, "project": "1.2", "params": {"context": context or None}}
                answer = http.post("/predict", json=body)
                assert answer.status_code == 200, answer.text
                found: list[Any] = answer.json()["results"]
                return found

            assert httpx.get(f"{at}/health", trust_env=False).status_code == 401
            schema = label_studio.project["label_config"]
            assert http.post("/setup", json={"project": "1.2", "schema": schema}).status_code == 200
            ((prediction,),) = ask(task())
            assert [found["id"] for found in prediction["result"]] == ["r1", "r2"]
            first = prediction["result"][0]["value"]["sequence"][0]
            assert first["frame"] == 1
            drawn = region(1)["value"]["sequence"][0]
            assert [first[name] for name in ("x", "y", "width", "height")] == pytest.approx(
                [drawn[name] for name in ("x", "y", "width", "height")], abs=1e-3
            )
            shown = [{"type": "rectanglelabels", "value": region(1, 6)["value"]["sequence"][0]}]
            started = ask(task(), event="track", frame=6, direction="both", max_frames=3, result=shown)[0]["result"][0]
            frames: set[int] = set()
            while True:
                context = {"event": "track_progress", "session_id": started["value"]["session_id"]}
                value = ask(**context)[0]["result"][0]["value"]
                assert value["error"] is None
                frames |= {frame["frame"] for frame in value["frames"]}
                if value["done"]:
                    break
            assert 5 in frames
            assert frames <= set(range(2, 9))
