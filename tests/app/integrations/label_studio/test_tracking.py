from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from model.rendered import RenderedClip

Predict = Callable[..., dict[str, Any]]


@pytest.fixture
def event(predict: Predict) -> Callable[..., dict[str, Any]]:
    """Sends an event; returns its one message."""

    def do(name: str, *tasks: dict[str, Any], **context: Any) -> dict[str, Any]:
        (prediction,) = predict(*tasks, event=name, **context)["results"]
        (message,) = prediction["result"]
        return message

    return do


@pytest.fixture
def box(region: Callable) -> list[dict[str, Any]]:
    """A prompt: the flower's box on the page's frame 5."""
    return [{"type": "rectanglelabels", "value": region(1, 5)["value"]["sequence"][0]}]


def picture(value: dict[str, Any]) -> np.ndarray:
    head, data = value["imageDataURL"].split(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)), formats=["PNG"])
    assert image.size == (value["width"], value["height"])
    return np.asarray(image)


def test_capabilities_say_boxes(event: Callable) -> None:
    message = event("capabilities")
    assert message["type"] == "capabilities"
    assert message["value"]["prompts"] == ["box"]
    assert {"tag": "VideoRectangle", "output": "bbox", "features": ["track"]} in message["value"]["targets"]


@pytest.mark.usefixtures("playing_worker")
@pytest.mark.parametrize(
    ("direction", "frames"),
    [("forward", range(4, 10)), ("backward", range(5)), ("both", range(10)), ("sideways", range(4, 10))],
)
def test_a_session_hands_out_every_frame_once(
    event: Callable, task: Callable, box: list, clip: RenderedClip, direction: str, frames: range
) -> None:
    started = event("track", task(), frame=5, direction=direction, max_frames=5, result=box)
    assert started["type"] == "track_started"
    assert (started["from_name"], started["to_name"]) == ("box", "video")
    value = started["value"]
    assert (value["total_frames"], value["fps"], value["duration_ms"]) == (len(frames), 25, 480)
    found: list[dict[str, Any]] = []
    while True:
        progress = event("track_progress", session_id=value["session_id"])["value"]
        found += progress["frames"]
        assert progress["error"] is None
        if progress["done"]:
            break
    assert (progress["produced"], progress["total"]) == (len(frames), len(frames))
    assert sorted(entry["frame"] for entry in found) == list(frames)
    for entry in found:
        assert entry["time_ms"] == 40 * entry["frame"]
        assert np.array_equal(picture(entry) == 255, clip.mask(entry["frame"]) == 1)
    again = event("track_progress", session_id=value["session_id"])["value"]
    assert (again["frames"], again["done"]) == ([], True)


@pytest.mark.parametrize(
    ("context", "start"),
    [({"frame": 5}, 4), ({"frame": 1, "time_ms": 162}, 4), ({"time_ms": 199.9}, 4), ({"time_ms": 200}, 5), ({}, 0)],
)
def test_a_frame_goes_by_its_time(
    event: Callable, task: Callable, box: list, client: TestClient, context: dict[str, Any], start: int
) -> None:
    event("track", task(), max_duration_ms=80, result=box, **context)
    (job,) = client.get("/v1/jobs").json()["jobs"]
    assert (job["options"]["start"], job["options"]["end"], job["options"]["direction"]) == (
        start,
        start + 3,
        "forward",
    )


def test_a_session_survives_a_restart_and_can_be_cancelled(
    event: Callable, task: Callable, box: list, client: TestClient, settings: Any
) -> None:
    from app.main import create_app

    session = event("track", task(), frame=1, result=box)["value"]["session_id"]
    with TestClient(create_app(settings)) as other:
        body = {"params": {"context": {"event": "track_cancel", "session_id": session}}}
        answer = other.post("/integrations/label-studio/predict", json=body).json()
    assert answer["results"][0]["result"][0]["value"] == {"status": "cancelled"}
    assert client.get("/v1/jobs").json()["jobs"][0]["status"] == "cancelled"
    gone = event("track_progress", session_id=session)["value"]
    assert (gone["done"], gone["error"]) == (True, "session not found")


def test_release_ends_the_sessions_of_its_task_alone(
    event: Callable, task: Callable, region: Callable, client: TestClient
) -> None:
    for number, of in ((1, task()), (2, task(id=8))):
        shown = [{"type": "rectanglelabels", "value": region(1, number)["value"]["sequence"][0]}]
        event("track", of, frame=number, result=shown)
    assert event("release", task())["value"] == {"status": "released"}
    jobs = client.get("/v1/jobs").json()["jobs"]
    assert {job["metadata"]["task"]: job["status"] for job in jobs} == {7: "cancelled", 8: "queued"}


def test_too_many_sessions_are_told_so(event: Callable, task: Callable, region: Callable) -> None:
    for number in range(1, 6):
        shown = [{"type": "rectanglelabels", "value": region(1, number)["value"]["sequence"][0]}]
        message = event("track", task(), frame=number, result=shown)
    assert message["type"] == "track_busy"
    assert (message["value"]["resident_sessions"], message["value"]["max_sessions"]) == (4, 4)


def test_what_cannot_be_tracked_is_a_message(event: Callable, task: Callable, box: list) -> None:
    point = [{"type": "keypointlabels", "value": {"x": 5, "y": 5, "positive": True}}]
    assert "Draw one" in event("track", task(), frame=1, result=point)["value"]["error"]
    outside = [{"type": "rectanglelabels", "value": {"x": 150, "y": 0, "width": 5, "height": 5}}]
    assert "outside" in event("track", task(), frame=1, result=outside)["value"]["error"]
    gone = event("track", task(data={"video": "/data/none.mp4"}), frame=1, result=box)
    assert gone["type"] == "track_error"
    assert "404" in gone["value"]["error"]


def test_a_file_on_its_way_is_busy(
    event: Callable, task: Callable, box: list, label_studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.integrations.label_studio import tracking

    monkeypatch.setattr(tracking, "_FETCH_WAIT_S", 0.1)
    label_studio.delay_s = 1.5
    assert event("prewarm", task(), frame=0, window=10)["value"]["status"] == "fetching"
    busy = event("track", task(), frame=1, result=box)
    assert busy["type"] == "track_busy"
    assert "being fetched" in busy["value"]["error"]
    monkeypatch.setattr(tracking, "_FETCH_WAIT_S", 20)
    assert event("track", task(), frame=1, result=box)["type"] == "track_started"
    assert event("prewarm", task())["value"] == {"status": "ok", "cached": [], "pending": [], "frame_count": 12}


def test_a_box_is_shown_as_it_starts(event: Callable, predict: Predict, task: Callable) -> None:
    shown = [{"type": "rectanglelabels", "value": {"x": 25, "y": 50, "width": 50, "height": 25}}]
    message = event("predict", task(), frame=1, result=shown)
    assert message["type"] == "bitmask"
    mask = picture(message["value"]) == 255
    assert (mask.sum(), mask[32:48, 24:72].sum()) == (48 * 16, 48 * 16)
    (unnamed,) = predict(task(), frame=1, result=shown)["results"]  # older pages do not name this event
    assert unnamed["result"][0]["type"] == "bitmask"
    point = [{"type": "keypointlabels", "value": {"x": 5, "y": 5}}]
    assert predict(task(), event="predict", frame=1, result=point)["results"] == [{"result": []}]


def test_unknown_events_and_sessions(event: Callable, predict: Predict, task: Callable) -> None:
    assert event("track_progress", session_id="all")["value"]["error"] == "session not found"
    assert event("track_cancel", session_id=None)["value"] == {"status": "cancelled"}
    wrong = predict(task(), status=422, event="dance")
    assert wrong["errors"] == [{"pointer": "/params/context/event", "detail": "There is no event 'dance'."}]
    assert predict(status=422, event="track")["errors"][0]["pointer"] == "/tasks"
