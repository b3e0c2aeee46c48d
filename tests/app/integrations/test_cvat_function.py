"""The agent's function, driven by cvat-cli's own code in this process, with the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import pytest
from cvat_cli._internal import agent as cli_agent
from cvat_cli._internal.agent_driver import set_worker_current_function
from cvat_cli._internal.agent_driver_tracking import AgentTrackingFunctionDriver
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk import Client, make_client
from cvat_sdk.masks import decode_mask, encode_mask

from app.integrations import cvat_function
from app.integrations.cvat_function import TrackerFunction
from model.features import FeatureExtractor
from model.labels import Anchor, Keypoint, Label
from model.labels.raster import box, polygon, tight_box
from model.presets import find_preset
from model.rendered import RenderedClip
from model.video import Frame

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH, HEIGHT = 96, 64


class InProcess:
    """The agent's executor without its process."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def result(self, result: Any) -> Any:
        return result


@pytest.fixture
def function(extractor: FeatureExtractor) -> TrackerFunction:
    from worker.tracking import Tracker

    return TrackerFunction(lambda: Tracker(extractor, find_preset("plain")))


@pytest.fixture
def client(cvat: Callable[..., Any], stand_in: Any, tmp_path: Path) -> Iterator[Client]:
    with make_client(cvat().url, access_token=stand_in.TOKEN) as client:
        client.config.cache_dir = tmp_path / "cache"
        yield client


@pytest.fixture
def driver(client: Client, function: TrackerFunction) -> AgentTrackingFunctionDriver:
    set_worker_current_function(function)
    numbers = iter(range(1000))
    AgentTrackingFunctionDriver.init_worker(lambda: f"state-{next(numbers)}")
    return AgentTrackingFunctionDriver(client, InProcess(), function.spec)  # type: ignore[arg-type]


def shapes_of(clip: RenderedClip, frame: int) -> list[dict[str, Any]]:
    """The flower as every type of shape, as a person would draw it."""
    mask = clip.mask(frame) == 1
    x, y, w, h = tight_box(mask) or (0, 0, 0, 0)
    ring = [x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]
    return [
        {"type": "mask", "points": encode_mask(mask)},
        {"type": "polygon", "points": ring},
        {"type": "rectangle", "points": [x, y, x + w, y + h]},
        {"type": "points", "points": [x + w / 2, y + h / 2]},
    ]


@pytest.fixture
def reference(extractor: FeatureExtractor) -> Callable[..., Any]:
    """What a forward propagation makes of a shape on the last of some frames."""
    from model.propagator import Propagator

    def run(clip: RenderedClip, given: dict[str, Any], frames: range) -> Any:
        points = given["points"]
        mask = {
            "mask": lambda: decode_mask(points, image_width=WIDTH, image_height=HEIGHT),
            "polygon": lambda: polygon([points], HEIGHT, WIDTH),
            "rectangle": lambda: box(points[0], points[1], points[2] - points[0], points[3] - points[1], HEIGHT, WIDTH),
        }.get(given["type"], lambda: None)()
        keypoints = () if mask is not None else (Keypoint("0", *points),)
        anchor = Anchor(0, (Label(1, mask, keypoints=keypoints),))
        propagator = Propagator.for_video(
            extractor, find_preset("plain"), clip.objects[:1], [anchor], width=WIDTH, height=HEIGHT
        )
        *_, last = propagator.run(Frame(frame, 0, clip.frame(frame)) for frame in frames)
        return last.objects[0]

    return run


@pytest.mark.parametrize("kind", [0, 1, 2, 3], ids=["mask", "polygon", "rectangle", "points"])
def test_the_cli_drives_it_from_frame_to_frame(
    driver: AgentTrackingFunctionDriver, clip: RenderedClip, reference: Callable[..., Any], kind: int
) -> None:
    given = shapes_of(clip, 0)[kind]
    params = {"type": "init_tracking", "task": 7, "frame": 0, "shapes": [given]}
    states = driver.calculate_result_for_ar(params, None)["states"]  # type: ignore[arg-type]
    for frame in (1, 2, 3):
        params = {"type": "track", "task": 7, "frame": frame, "states": states}
        answer = driver.calculate_result_for_ar(params, None)  # type: ignore[arg-type]
        assert answer["states"] == states
        (shape,) = answer["shapes"]
        json.dumps(shape)
        assert shape["type"] == given["type"]
    # The same as the propagation of a job that goes forward, picture for picture.
    expected = reference(clip, given, range(4))
    match given["type"]:
        case "mask":
            assert shape["points"] == encode_mask(expected.mask)
        case "polygon":
            drawn = polygon([shape["points"]], HEIGHT, WIDTH)
            assert (drawn ^ expected.mask).sum() < 0.15 * expected.mask.sum()
        case "rectangle":
            x, y, w, h = expected.box
            assert shape["points"] == [x, y, x + w, y + h]
        case _:
            assert shape["points"] == [expected.keypoints[0].x, expected.keypoints[0].y]


def test_shapes_of_one_request_share_an_encoding(
    driver: AgentTrackingFunctionDriver, function: TrackerFunction, clip: RenderedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = function._tracker
    prepared = []
    prepare = tracker.prepare
    monkeypatch.setattr(tracker, "prepare", lambda image: prepared.append(1) or prepare(image))
    masks = [{"type": "mask", "points": encode_mask(clip.mask(0) == id_)} for id_ in (1, 2)]
    params = {"type": "init_tracking", "task": 7, "frame": 0, "shapes": masks}
    states = driver.calculate_result_for_ar(params, None)["states"]  # type: ignore[arg-type]
    params = {"type": "track", "task": 7, "frame": 1, "states": states}
    found = driver.calculate_result_for_ar(params, None)["shapes"]  # type: ignore[arg-type]
    assert len(prepared) == 2
    masks = [decode_mask(shape["points"], image_width=WIDTH, image_height=HEIGHT) for shape in found]
    assert not (masks[0] & masks[1]).any()


def test_a_shape_that_is_none_is_said_and_a_lost_one_is_none(
    driver: AgentTrackingFunctionDriver, function: TrackerFunction, clip: RenderedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shape in (
        {"type": "polygon", "points": [1.0, 1.0, 2.0, 2.0]},
        {"type": "rectangle", "points": [500.0, 1.0, 600.0, 9.0]},
        {"type": "mask", "points": [4, 0, 0, 1, 1]},
        {"type": "points", "points": [500.0, 1.0]},
    ):
        params = {"type": "init_tracking", "task": 7, "frame": 0, "shapes": [shape]}
        with pytest.raises(cvataa.BadFunctionError, match="The shape"):
            driver.calculate_result_for_ar(params, None)  # type: ignore[arg-type]
    params = {"type": "init_tracking", "task": 7, "frame": 0, "shapes": shapes_of(clip, 0)}
    states = driver.calculate_result_for_ar(params, None)["states"]  # type: ignore[arg-type]
    lost = type("Lost", (), {"mask": np.zeros((HEIGHT, WIDTH), np.bool_), "keypoints": ()})
    monkeypatch.setattr(function._tracker, "step", lambda frame, target: lost)
    params = {"type": "track", "task": 7, "frame": 1, "states": states}
    assert driver.calculate_result_for_ar(params, None)["shapes"] == [None] * 4  # type: ignore[arg-type]


def test_cvat_cli_loads_and_registers_it_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from pathlib import Path; from cvat_cli._internal.common import FunctionLoader;"
        "from cvat_cli._internal.agent import get_function_driver_class as of;"
        "f = FunctionLoader('app.integrations.cvat_function', None, {'device': 'cpu'}).load();"
        "print(of(f.spec).FUNCTION_KIND, of(f.spec).get_remote_function_fields(f.spec), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("tracker {'supported_shape_types': ['mask', 'points', 'polygon', 'rectangle']} False\n")
    path = Path(cvat_function.__file__)
    loaded = FunctionLoader(None, path, {"device": "cpu", "working_size": 64}).load()
    assert loaded.spec.supported_shape_types == {"mask", "polygon", "rectangle", "points"}


def test_the_agent_itself_serves_requests_until_none_are_left(
    client: Client,
    function: TrackerFunction,
    clip: RenderedClip,
    reference: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole agent of cvat-cli, against the addresses that it asks for; only its child process is this one."""
    cli_agent._worker_init(_Given(function), lambda: "state")  # type: ignore[arg-type]
    mask = encode_mask(clip.mask(0) == 1)
    queue = [
        {"type": "init_tracking", "task": 7, "frame": 0, "shapes": [{"type": "mask", "points": mask}]},
        {"type": "track", "task": 7, "frame": 1, "states": ["state"]},
        {"type": "track", "task": 7, "frame": 1, "states": ["unknown"]},
    ]
    said: list[tuple[str, dict[str, Any]]] = []

    def call(path: str, method: str, path_params: Any = None, body: Any = None, **_: Any) -> Any:
        if path.endswith("/functions/{function_id}"):
            fields = AgentTrackingFunctionDriver.get_remote_function_fields(function.spec)
            return None, _Answer({"id": 5, "provider": "native", "kind": "tracker", **fields})
        if path.endswith("/acquire"):
            left = body["request_category"] == "interactive" and queue
            return None, _Answer({"ar_assignment": {"ar_id": "r", "ar_params": queue.pop(0)} if left else None})
        said.append((path.rsplit("/", 1)[-1], body))
        return None, _Answer({})

    real = client.api_client.call_api
    monkeypatch.setattr(
        client.api_client, "call_api", lambda path, *a, **k: (call if "/functions" in path else real)(path, *a, **k)
    )
    agent = cli_agent._Agent(client, InProcess(), 5)  # type: ignore[arg-type]
    agent.run(burst=True)
    assert [action for action, _ in said] == ["complete", "complete", "fail"]
    assert said[0][1]["states"] == ["state"]
    shape = said[1][1]["shapes"][0]
    assert shape["points"] == encode_mask(reference(clip, {"type": "mask", "points": mask}, range(2)).mask)
    assert "not found" in said[2][1]["exc_info"]


class _Given:
    def __init__(self, function: TrackerFunction) -> None:
        self._function = function

    def load(self) -> TrackerFunction:
        return self._function


class _Answer:
    def __init__(self, document: dict[str, Any]) -> None:
        self.data = json.dumps(document).encode()
