from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import cli
from app.client import Client
from model.labels import indexed_png
from model.rendered import RenderedClip


def test_from_a_video_and_a_mask_to_files(
    server: str,
    playing_worker: None,
    clip: RenderedClip,
    clip_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "mask.png").write_bytes(indexed_png.encode(clip.mask(0)))
    out = tmp_path / "out"
    status = cli.main(
        ["submit", str(clip_file), "--mask", str(tmp_path / "mask.png"), "--url", server, "--out", str(out)]
    )
    assert status == 0
    names = {path.name for path in out.iterdir()}
    assert names == {f"{frame:05d}.png" for frame in range(12)} | {"coco.json", "overlay.mp4"}
    assert np.array_equal(np.asarray(Image.open(out / "00009.png")), clip.mask(9))
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 12
    printed = capsys.readouterr()
    assert "12/12" in printed.err
    assert str(out / "overlay.mp4") in printed.out


def test_faulty_labels_leave_no_video_behind(
    server: str, clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    status = cli.main(
        ["submit", str(clip_file), "--box", "1:0,0,500,500", "--url", server, "--out", str(tmp_path / "o")]
    )
    assert status == 1
    assert "/anchors/0/labels/0/box" in capsys.readouterr().err
    with Client(server) as client:
        assert client._json("GET", "/v1/videos")["videos"] == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--url", "http://127.0.0.1:1"], "does not answer"),
        (["--formats", "yolo"], "There is no format"),
    ],
)
def test_errors_are_said_before_anything_is_sent(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, argv: list[str], text: str
) -> None:
    assert cli.main(["submit", str(clip_file), "--box", "1:0,0,5,5", "--out", str(tmp_path / "o"), *argv]) != 0
    assert text in capsys.readouterr().err


def test_a_file_that_is_not_there(server: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    argv = ["submit", str(tmp_path / "nope.mp4"), "--box", "1:0,0,5,5", "--out", str(tmp_path / "o"), "--url", server]
    assert cli.main(argv) == 1
    assert "nope.mp4: No such file" in capsys.readouterr().err


def test_labels_of_another_tool_and_options_of_exports(
    server: str, playing_worker: None, clip: RenderedClip, clip_file: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for frame in (0, 6):
        (labels / f"{frame:05d}.png").write_bytes(indexed_png.encode(clip.mask(frame)))
    argv = ["submit", str(clip_file), "--labels", str(labels), "--url", server, "--out", str(tmp_path / "out")]
    argv += ["--formats", "yolo-seg,csv,davis", "--format-options", "tolerance=1"]
    assert cli.main(argv) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"yolo-seg.zip", "results.csv"} | {f"{frame:05d}.png" for frame in range(12)}
    with Client(server) as client:
        (job,) = client._json("GET", "/v1/jobs")["jobs"]
        assert [object_["id"] for object_ in job["objects"]] == [1, 2]
        exact = client.export(job["id"], "yolo-seg", tmp_path / "exact.zip", options={"tolerance": 0})
    assert exact.stat().st_size > (tmp_path / "out" / "yolo-seg.zip").stat().st_size


def test_an_option_that_no_format_has(clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    argv = ["submit", str(clip_file), "--box", "1:0,0,5,5", "--out", str(tmp_path / "o"), "--formats", "davis,yolo-seg"]
    assert cli.main([*argv, "--format-options", "opacity=1"]) == 2
    assert "opacity: none of the formats has it; they have: tolerance" in capsys.readouterr().err
    assert cli.main([*argv, "--format-options", "tolerance=x"]) == 2
    assert "must be a number" in capsys.readouterr().err
