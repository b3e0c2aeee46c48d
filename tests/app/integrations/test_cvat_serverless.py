"""The serverless tracker: the function as Nuclio calls it, the tracker behind a real socket, the real model."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
import yaml
from PIL import Image

from app.integrations.cvat import serverless
from app.integrations.cvat.serverless import Sessions, create_app
from app.integrations.cvat_nuclio import main as function
from model.errors import InputError
from model.features import FeatureExtractor
from model.labels import Anchor, Label, raster
from model.presets import find_preset
from model.rendered import RenderedClip
from model.video import Frame

TOKEN = "the-secret"
Call = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def sessions(extractor: FeatureExtractor, one_thread: None) -> Sessions:
    from worker.tracking import Tracker

    return Sessions(Tracker(extractor, find_preset("plain")))


@pytest.fixture
def tracker(sessions: Sessions) -> Iterator[str]:
    """The tracker's address."""
    server = uvicorn.Server(uvicorn.Config(create_app(sessions, TOKEN), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def call(tracker: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the function as Nuclio does; its status and document."""
    monkeypatch.setenv("LABELPROP_TRACKER_URL", tracker)
    monkeypatch.setenv("LABELPROP_TRACKER_TOKEN", TOKEN)
    context = nuclio()
    function.init_context(context)

    def do(body: Any) -> tuple[int, dict[str, Any]]:
        answer = function.handler(context, SimpleNamespace(body=body))
        assert answer.content_type == "application/json"
        return answer.status_code, json.loads(answer.body)

    return do


def nuclio() -> Any:
    silent = SimpleNamespace(info=lambda text: None, error=lambda text: None)
    return SimpleNamespace(user_data=SimpleNamespace(), logger=silent, Response=SimpleNamespace)


def picture(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def box_of(clip: RenderedClip, frame: int, object_id: int) -> list[float]:
    x, y, w, h = raster.tight_box(clip.mask(frame) == object_id) or (0, 0, 0, 0)
    return [x, y, x + w, y + h]


def test_boxes_are_carried_from_frame_to_frame(call: Call, clip: RenderedClip, extractor: FeatureExtractor) -> None:
    boxes = [box_of(clip, 0, id_) for id_ in (1, 2)]
    status, answer = call({"image": picture(clip.frame(0)), "shapes": boxes, "states": []})
    assert (status, answer["shapes"]) == (200, boxes)
    assert all(len(state) == 32 for state in answer["states"])
    handles = answer["states"]
    for frame in (1, 2, 3):
        status, answer = call({"image": picture(clip.frame(frame)), "shapes": boxes, "states": handles})
        assert (status, answer["states"]) == (200, handles)
    # The same as a job of ours that goes forward.
    from model.propagator import Propagator

    labels = [
        Label(id_, raster.box(x0, y0, x1 - x0, y1 - y0, clip.height, clip.width))
        for id_, (x0, y0, x1, y1) in zip((1, 2), boxes, strict=True)
    ]
    job = Propagator.for_video(
        extractor, find_preset("plain"), clip.objects, [Anchor(0, tuple(labels))], width=clip.width, height=clip.height
    )
    *_, last = job.run(Frame(frame, 0, clip.frame(frame)) for frame in range(4))
    expected = [[x, y, x + w, y + h] for x, y, w, h in (found.box for found in last.objects if found.box)]
    assert answer["shapes"] == expected


def test_a_new_box_joins_those_that_are_tracked(call: Call, clip: RenderedClip) -> None:
    _, first = call({"image": picture(clip.frame(0)), "shapes": [box_of(clip, 0, 1)], "states": [None]})
    both = [first["shapes"][0], box_of(clip, 1, 2)]
    status, answer = call({"image": picture(clip.frame(1)), "shapes": both, "states": [first["states"][0], None]})
    assert status == 200
    assert answer["states"][0] == first["states"][0]
    assert answer["shapes"][1] == both[1]
    body = json.dumps({"image": picture(clip.frame(2)), "shapes": answer["shapes"], "states": answer["states"]})
    assert call(body.encode())[0] == 200


def test_a_box_that_is_lost_stays_where_it_was(sessions: Sessions, clip: RenderedClip) -> None:
    given = {"image": picture(clip.frame(0)), "shapes": [box_of(clip, 0, 1)], "states": []}
    answer = sessions.track(given)
    lost = SimpleNamespace(mask=np.zeros((64, 96), np.bool_), keypoints=())
    sessions._tracker.step = lambda frame, target: lost  # type: ignore[method-assign,assignment,return-value]
    assert sessions.track({**given, "states": answer["states"]})["shapes"] == given["shapes"]


def test_faults_come_with_a_reason(call: Call, tracker: str, clip: RenderedClip) -> None:
    image, box = picture(clip.frame(0)), [1, 1, 20, 20]
    for body, status, says in (
        ({"image": image, "shapes": [box], "states": ["x" * 32]}, 410, "Track it again"),
        ({"image": "no picture", "shapes": [box]}, 422, "`image` must be"),
        ({"image": None, "shapes": [box]}, 422, "`image` must be"),
        ({"image": image, "shapes": [[1, 2, 3]]}, 422, "must be a box"),
        ({"image": image, "shapes": [[1, 1, 1, 1]]}, 422, "no pixels"),
        ({"image": image, "shapes": [["a", 1, 1, 1]]}, 422, "must be a box"),
        ({"image": image, "shapes": [box], "states": [7]}, 422, "A state must be"),
        ({"image": image, "shapes": [box] * 300}, 422, "at most 254"),
        ([], 422, "must be an object"),
        (b"{", 400, "not JSON"),
    ):
        found, answer = call(body)
        assert (found, says in answer["error"]) == (status, True), (body, answer)
    _, answer = call({"image": image, "shapes": [box]})
    small = picture(np.zeros((32, 32, 3), np.uint8))
    assert call({"image": small, "shapes": [box], "states": answer["states"]})[0] == 422
    assert httpx.post(f"{tracker}/track", json={}).status_code == 401
    assert httpx.post(f"{tracker}/track", json={}, headers={"Authorization": "Bearer x"}).status_code == 401
    assert httpx.get(f"{tracker}/healthz").json() == {"status": "ok"}


def test_a_call_that_is_refused_moves_nothing(sessions: Sessions, clip: RenderedClip) -> None:
    box = box_of(clip, 0, 1)
    (state,) = sessions.track({"image": picture(clip.frame(0)), "shapes": [box]})["states"]
    with pytest.raises(InputError, match="no pixels"):
        sessions.track({"image": picture(clip.frame(1)), "shapes": [box, [1, 1, 1, 1]], "states": [state, None]})
    assert sessions._states[state][1].target._seen == 0


def test_states_go_when_they_are_old_or_too_many(
    sessions: Sessions, clip: RenderedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"image": picture(clip.frame(0)), "shapes": [box_of(clip, 0, 1)]}
    (state,) = sessions.track(given)["states"]
    sessions._max_age_s = 0.0
    time.sleep(0.01)
    with pytest.raises(InputError, match="Track it again"):
        sessions.track({**given, "states": [state]})
    sessions._max_age_s, sessions._max_states = 3600.0, 2
    for _ in range(5):
        sessions.track(given)
    assert len(sessions._states) <= 3


def test_a_body_beyond_the_limit(tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serverless, "MAX_BODY", 1000)
    answer = httpx.post(f"{tracker}/track", content=b"x" * 5000, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 413


def test_a_tracker_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELPROP_TRACKER_URL", "http://127.0.0.1:1/")
    context = nuclio()
    function.init_context(context)
    answer = function.handler(context, SimpleNamespace(body={}))
    assert answer.status_code == 503
    assert "does not answer" in json.loads(answer.body)["error"]


def test_the_function_is_described_as_cvat_and_nuclio_read_it() -> None:
    folder = Path(function.__file__).parent
    document = yaml.safe_load((folder / "function.yaml").read_text())
    assert document["metadata"]["annotations"]["type"] == "tracker"
    json.loads(document["metadata"]["annotations"]["spec"] or "[]")  # CVAT reads labels here; a tracker has none
    module, name = document["spec"]["handler"].split(":")
    assert (folder / f"{module}.py").exists()
    assert callable(getattr(function, name))
    assert float(document["spec"]["eventTimeout"].removesuffix("s")) > function.TIMEOUT_S
    trigger = document["spec"]["triggers"]["myHttpTrigger"]
    assert trigger["attributes"]["maxRequestBodySize"] <= serverless.MAX_BODY
    assert {entry["name"] for entry in document["spec"]["env"]} == {"LABELPROP_TRACKER_URL", "LABELPROP_TRACKER_TOKEN"}


def test_the_command_wants_a_token_where_others_can_reach_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from app import cli

    monkeypatch.delenv("LABELPROP_TRACKER_TOKEN", raising=False)
    assert cli.main(["cvat", "tracker", "--host", "0.0.0.0"]) == 2
    assert "LABELPROP_TRACKER_TOKEN" in capsys.readouterr().err
    served = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **given: served.append(given))
    assert cli.main(["cvat", "tracker", "--device", "cpu", "--port", "0"]) == 0
    assert served[0]["host"] == "127.0.0.1"
