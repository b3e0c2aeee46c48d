from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli import main
from model.labels import indexed_png
from model.rendered import render_clip, write_clip
from worker.speed.tables import markdown, plain

QUICK = ["--timed-frames", "1", "--threads", "1", "--device", "cpu", "--no-flow"]


def test_every_combination_is_a_row(installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sizes", "96x64", "--objects", "3,1", "--lengths", "4", "--reference-frames", "1", *QUICK]
    assert main(["bench", *arguments, "--json", str(tmp_path / "speed.json")]) == 0
    said = capsys.readouterr()
    report = json.loads((tmp_path / "speed.json").read_text())
    assert [(run["width"], run["objects"], run["frames"]) for run in report["runs"]] == [(96, 1, 4), (96, 3, 4)]
    # The dense reference is done once for a size, and every run of that size is held against it.
    assert [run["dense_ms"] is None for run in report["runs"]] == [False, True]
    assert all(run["whole_vs_dense"] > 0 for run in report["runs"])
    assert report["command"].startswith("labelprop bench --sizes 96x64 --objects 3,1")
    assert said.out == plain(report) + "\n"
    assert "1 to 3" in said.out
    assert "measuring 96 x 64, labelled objects: 3, 4 frames" in said.err


def test_a_video_of_one_s_own(installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = render_clip(width=96, height=64, frame_count=4)
    write_clip(clip, tmp_path / "film.mp4")
    (tmp_path / "first.png").write_bytes(indexed_png.encode(clip.mask(0)))
    given = ["--video", str(tmp_path / "film.mp4"), "--mask", str(tmp_path / "first.png"), "--reference-frames", "0"]
    how = ["--float32", "--quiet", "--markdown", "own", "--json", str(tmp_path / "own.json")]
    assert main(["bench", *given, *QUICK, *how]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    report = json.loads((tmp_path / "own.json").read_text())
    assert said.out == markdown(report, "own") + "\n"
    (run,) = report["runs"]
    assert run["precision"] == "float32"
    assert (run["objects"], run["frames"], run["J"], run["whole_vs_dense"]) == (2, 4, None, None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--video", "film.mp4"], "--video and --mask go together"),
        (["--video", "film.mp4", "--mask", "m.png", "--sizes", "480p"], "--sizes and --objects are of rendered clips"),
        (["--video", "nowhere.mp4", "--mask", "m.png"], "There is no file or folder nowhere.mp4"),
        (["--video", ".", "--mask", "nowhere.png"], "There is no file nowhere.png"),
        (["--sizes", "huge"], "--sizes: 'huge' is no size"),
        (["--objects", "0"], "--objects: 0 is out of bounds; 1 to 254"),
        (["--lengths", "2"], "--lengths: 2 is out of bounds; 3 or more"),
        (["--preset", "best"], "There is no preset 'best'"),
        (["--model", "best"], "There is no model 'best'"),
        (["--device", "abacus"], "There is no device 'abacus'"),
        (["--reference-frames", "-1"], "--reference-frames must be 0 or more"),
        (["--timed-frames", "0"], "--timed-frames must be 1 or more"),
        (["--json", "nowhere/speed.json"], "There is no folder nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    installed: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr()
    assert reason in said.err
    assert "measuring" not in said.err
