"""Footage and short runs for the commands that train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.cli import main
from app.settings import settings
from model.rendered import render_clip, write_clip

# Small enough for a step in a twentieth of a second.
TINY = [
    "--device", "cpu", "--threads", "1", "--log-every", "1", "--set", "crop=64", "--set", "whole=64",
    "--set", "clips=2", "--set", "photographs=1", "--set", "layers=0",
]  # fmt: skip
Command = Callable[..., int]


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three rendered clips."""
    folder = tmp_path_factory.mktemp("footage")
    for seed in range(3):
        write_clip(render_clip(width=128, height=96, frame_count=12, seed=seed), folder / f"clip-{seed}.mp4")
    return folder


@pytest.fixture
def installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home that the settings name."""
    monkeypatch.setenv("LABELPROP_HOME", str(home))
    settings.cache_clear()
    yield home
    settings.cache_clear()


@pytest.fixture
def train(tmp_path: Path, videos: Path, installed: Path, one_thread: None) -> Command:
    """`labelprop train` of something tiny into `out`; options that come later win."""

    def run(*arguments: object, out: str = "out", footage: object = videos, budget: tuple[str, ...] = ("--steps", "4")):
        given = [] if footage is None else ["--videos", str(footage)]
        return main(["train", *given, "--out", str(tmp_path / out), *budget, *TINY, *map(str, arguments)])

    return run


@pytest.fixture
def adapt(videos: Path, installed: Path, one_thread: None) -> Command:
    """`labelprop adapt` by a few tiny steps."""

    def run(*arguments: object, footage: object = videos, name: str = "ours"):
        return main(["adapt", "--videos", str(footage), "--name", name, "--steps", "4", *TINY, *map(str, arguments)])

    return run
