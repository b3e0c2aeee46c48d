"""The stand-in for a CVAT server, on pictures of the rendered clip."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from model.rendered import RenderedClip

LABELS: list[dict[str, Any]] = [
    {"id": 1, "name": "flower", "type": "any", "color": "#fff", "attributes": [], "sublabels": []},
    {"id": 2, "name": "outline", "type": "polygon", "color": "#fff", "attributes": [], "sublabels": []},
    {"id": 3, "name": "box", "type": "rectangle", "color": "#fff", "attributes": [], "sublabels": []},
    {"id": 4, "name": "dot", "type": "points", "color": "#fff", "attributes": [], "sublabels": []},
    {
        "id": 5, "name": "puppet", "type": "skeleton", "color": "#fff", "attributes": [],
        "svg": '<line x1="1" y1="1" x2="2" y2="2" data-type="edge" data-node-from="1" data-node-to="2"></line>'
        '<circle r="1" cx="1" cy="1" data-type="element node" data-element-id="1" data-node-id="1" data-label-id="51">'
        '</circle><circle r="1" cx="2" cy="2" data-type="element node" data-element-id="2" data-node-id="2"'
        ' data-label-id="52"></circle>',
        "sublabels": [
            {"id": 51, "name": "head", "type": "points", "color": "#fff", "attributes": []},
            {"id": 52, "name": "left_hand", "type": "points", "color": "#fff", "attributes": []},
        ],
    },
]  # fmt: skip


@pytest.fixture(scope="session")
def stand_in() -> ModuleType:
    """The module of the stand-in server."""
    path = Path(__file__).parent / "cvat_stand_in.py"
    spec = importlib.util.spec_from_file_location("cvat_stand_in", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cvat(stand_in: ModuleType, clip: RenderedClip, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts a stand-in whose task has frames of the clip: `numbers` of them, or all."""
    started = []

    def start(numbers: range | None = None, **given: Any) -> Any:
        frames = numbers if numbers is not None else range(clip.frame_count)
        pictures = {index: _png(clip, frame) for index, frame in enumerate(frames)}
        defaults = {"labels": LABELS, "size": (clip.width, clip.height), "segments": [(0, len(pictures) - 1)]}
        server = stand_in.StandIn(pictures=pictures, **{**defaults, **given})
        started.append(server)
        return server

    monkeypatch.setenv("CVAT_ACCESS_TOKEN", stand_in.TOKEN)
    yield start
    for server in started:
        server.close()


def _png(clip: RenderedClip, frame: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(clip.frame(frame)).save(file, "PNG")
    return file.getvalue()
