"""Fixtures for the API's tests: the real application on a real Redis, and small real videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from model.rendered import RenderedClip, render_clip
from model.video import encode_video

FRAMES = 12


@pytest.fixture(scope="session")
def clip() -> RenderedClip:
    """A small rendered clip: 96 x 64 pixels, 12 frames, two objects."""
    return render_clip(width=96, height=64, frame_count=FRAMES)


@pytest.fixture(scope="session")
def clip_file(clip: RenderedClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as an MP4."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    encode_video(path, clip.frames(), fps=Fraction(25))
    return path


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the real application; a server error fails the test."""
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def upload(client: TestClient, clip_file: Path) -> Callable[..., dict]:
    """Uploads the clip, or a given file, and returns the answer's document."""

    def do(path: Path = clip_file) -> dict:
        answer = client.post("/v1/videos", content=path.read_bytes(), headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return do
