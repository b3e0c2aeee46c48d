from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import ModelError
from model.presets import PRESETS, find_preset
from model.rendered import render_clip
from tests.datasets import write_davis
from tools.trial_preset import main, trial


@pytest.fixture(autouse=True)
def _presets() -> Iterator[None]:
    before = dict(PRESETS)
    yield
    PRESETS.clear()
    PRESETS.update(before)


def test_changes_make_a_preset_of_their_own() -> None:
    asked = "accurate,radius=8,anchor_favour=0.1,follow=false,latest_frames=none"
    expected = replace(
        find_preset("accurate"), name=asked, radius=8, anchor_favour=0.1, follow=False, latest_frames=None
    )
    assert trial(asked) == expected


def test_what_presets_do_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="no preset 'best'"):
        trial("best")
    with pytest.raises(ValueError, match="no 'speed'"):
        trial("plain,speed=3")
    with pytest.raises(ValueError, match="a number, true, false or none"):
        trial("plain,radius='far'")
    assert main(["plain,speed=3", "davis"]) == 2
    assert main(["plain", "davis", "--preset", "fast"]) == 2


def test_a_trial_is_evaluated_under_its_name(tmp_path: Path) -> None:
    write_davis(tmp_path / "davis", "clip", render_clip(width=96, height=64, frame_count=4))
    report = tmp_path / "report.json"
    asked = "plain,radius=4,top_k=5"
    assert main([asked, "davis", "--root", str(tmp_path / "davis"), "--json", str(report), "--quiet"]) == 0
    written = json.loads(report.read_text())
    assert asked in json.dumps(written["preset"])


def test_a_trial_runs_in_several_processes(tmp_path: Path) -> None:
    root, report = tmp_path / "davis", tmp_path / "report.json"
    for name in ("first", "second"):
        write_davis(root, name, render_clip(width=96, height=64, frame_count=3))
    tool = [sys.executable, "tools/trial_preset.py", "plain,radius=4", "davis", "--root", str(root)]
    done = subprocess.run([*tool, "--workers", "2", "--json", str(report), "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(report.read_text())
    assert (written["preset"]["radius"], len(written["sequences"])) == (4, 2)
