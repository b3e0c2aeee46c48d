from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

import app.media
from app.media import MediaDesk
from app.problems import Problem
from model.errors import MediaError
from model.video import FrameTable, Limits, probe


def test_a_probe_says_what_the_reader_says(clip_file: Path, tmp_path: Path) -> None:
    info = MediaDesk(Limits()).probe(clip_file, tmp_path / "table.npz")
    want, table = probe(clip_file)
    assert info == want
    assert (FrameTable.load(tmp_path / "table.npz").pts == table.pts).all()


def test_the_limits_reach_the_child(clip_file: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        MediaDesk(Limits(max_frames=3)).probe(clip_file, tmp_path / "table.npz")
    assert caught.value.slug == "too-many-frames"


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(app.media, "CHILD", "http.server")  # runs until it is killed
    monkeypatch.setattr(app.media.MediaDesk, "_run", lambda self, _: app.media._child(["0"], self.timeout_s))
    before = _children()
    start = time.monotonic()
    with pytest.raises(Problem) as caught:
        MediaDesk(Limits(), timeout_s=0.3).still(tmp_path / "x", tmp_path / "t", 0, tmp_path / "o")
    assert caught.value.kind.slug == "check-timed-out"
    assert time.monotonic() - start < 5
    assert _children() == before


@pytest.mark.parametrize("child", ["this_module_does_not_exist", "this"])
def test_a_child_that_crashes_or_babbles_is_damage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, child: str) -> None:
    monkeypatch.setattr(app.media, "CHILD", child)
    with pytest.raises(MediaError) as caught:
        MediaDesk(Limits()).probe(tmp_path / "x", tmp_path / "t")
    assert caught.value.slug == "damaged-video"


def test_callers_beyond_the_places_are_turned_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(app.media, "WAIT_S", 0.05)
    desk = MediaDesk(Limits(), at_once=1)
    assert desk._places.acquire(blocking=False)
    with pytest.raises(Problem) as caught:
        desk.probe(tmp_path / "x", tmp_path / "t")
    assert (caught.value.kind.slug, caught.value.headers) == ("busy", {"Retry-After": "5"})
    threading.Timer(0.02, desk._places.release).start()
    with pytest.raises(MediaError):
        desk.probe(tmp_path / "x", tmp_path / "t")


def test_no_secret_of_the_environment_reaches_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABELPROP_SECRET", "x")
    seen: dict = {}
    real = app.media.subprocess.Popen

    def spy(*args, **kwargs):  # type: ignore[no-untyped-def]
        seen.update(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setattr(app.media.subprocess, "Popen", spy)
    with pytest.raises(MediaError):
        MediaDesk(Limits()).probe(tmp_path / "x", tmp_path / "t")
    assert "PATH" in seen
    assert "LABELPROP_SECRET" not in seen


def _children() -> set[str]:
    """The processes whose parent is this one."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
