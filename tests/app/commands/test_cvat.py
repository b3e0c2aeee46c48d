from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cvat_sdk import masks as reference

from app import cli
from app.client import Client
from app.formats import cvat_rle
from model.rendered import RenderedClip


@pytest.fixture
def drawn(cvat: Callable[..., Any], clip: RenderedClip) -> Any:
    """A task whose first frame has the flower's mask and two points of the puppet."""
    server = cvat()
    server.draw_shape(100, type="mask", label_id=1, frame=0, points=cvat_rle.encode(clip.mask(0) == 1))
    points = {point.name: point for point in clip.keypoints(0)}
    server.draw_shape(
        100, type="skeleton", label_id=5, frame=0, points=[],
        elements=[
            {"type": "points", "label_id": id_, "frame": 0, "points": [points[name].x, points[name].y],
             "outside": False, "occluded": False, "z_order": 0, "rotation": 0.0, "attributes": []}
            for id_, name in ((51, "head"), (52, "left_hand"))
        ],
    )  # fmt: skip
    return server


@pytest.fixture
def run(drawn: Any, server: str, tmp_path: Path) -> Callable[..., int]:
    """Runs one step on that task."""

    def do(step: str, *argv: str) -> int:
        to = ["--url", server] if step == "propagate" else []
        return cli.main(
            ["cvat", step, "--task", "7", "--dir", str(tmp_path / "d"), "--server-host", drawn.url, *to, *argv]
        )

    return do


def seen(server: Any) -> tuple[list[dict], list[dict]]:
    """What stands in the task beside what was drawn."""
    data = server.annotations[100]
    return [[entry for entry in data[kind] if entry["group"]] for kind in ("shapes", "tracks")]  # type: ignore[return-value]


@pytest.mark.usefixtures("playing_worker")
def test_from_a_task_and_back(
    run: Callable[..., int],
    drawn: Any,
    clip: RenderedClip,
    server: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    assert run("pull") == 0
    assert "12 frames, 1 labelled; 1 flower, 2 puppet" in capsys.readouterr().out
    assert run("propagate") == 0
    printed = capsys.readouterr()
    assert "12/12" in printed.err
    assert "12 frames labelled" in printed.out

    assert run("push", "--dry-run") == 0
    assert "creates 1 tracks and 12 masks" in capsys.readouterr().out
    assert drawn.changes() == []
    assert run("push") == 0
    assert "2 drawn shapes and tracks stand beside the results" in capsys.readouterr().out
    shapes, tracks = seen(drawn)
    for shape in shapes:
        mask = reference.decode_mask(shape["points"], image_width=clip.width, image_height=clip.height)
        assert np.array_equal(mask, clip.mask(shape["frame"]) == 1)
    assert [shape["frame"] for shape in shapes] == list(range(12))
    (track,) = tracks
    assert [len(element["shapes"]) for element in track["elements"]] == [12, 12]
    head = {point.name: point for point in clip.keypoints(5)}["head"]
    assert track["elements"][0]["shapes"][5]["points"] == [round(head.x, 2), round(head.y, 2)]

    # Repeated, it finds everything in its place, and no second job runs.
    before = drawn.changes()
    assert run("propagate") == 0
    assert run("push") == 0
    assert drawn.changes() == before
    with Client(server) as client:
        assert len(client._json("GET", "/v1/jobs")["jobs"]) == 1

    # What was drawn goes where that is asked for, and is still known when the task is pulled again.
    assert run("push", "--replace") == 0
    assert [entry["group"] == 0 for entry in drawn.annotations[100]["shapes"]].count(True) == 0
    spec = json.loads((tmp_path / "d" / "job.json").read_text())
    capsys.readouterr()
    assert run("pull") == 0
    assert json.loads((tmp_path / "d" / "job.json").read_text()) == spec
    assert run("push") == 0
    assert "finds 2 objects as they should be" in capsys.readouterr().out


@pytest.mark.usefixtures("playing_worker")
def test_a_push_that_broke_off_is_finished_by_the_next(
    run: Callable[..., int], drawn: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("propagate") == 0
    monkeypatch.setattr("app.integrations.cvat.push._NUMBERS", 120)
    calls = []
    answer = drawn.answer

    def broken(method: str, *rest: Any) -> Any:
        calls.append(method)
        if method == "PATCH" and calls.count("PATCH") == 3:
            drawn.fail_next = 1
        return answer(method, *rest)

    drawn.answer = broken
    assert run("push") == 2
    assert "CVAT answered 500" in capsys.readouterr().err
    half = len(seen(drawn)[0])
    assert 0 < half < 12
    assert run("push") == 0
    assert [shape["frame"] for shape in seen(drawn)[0]] == list(range(12))
    assert len(seen(drawn)[1]) == 1


@pytest.mark.usefixtures("playing_worker")
def test_what_a_person_changed_stays(run: Callable[..., int], drawn: Any, capsys: pytest.CaptureFixture) -> None:
    assert run("propagate") == 0
    assert run("push") == 0
    shapes, tracks = seen(drawn)
    shapes[3]["source"] = "semi-auto"
    shapes[3]["points"] = [0, 4, 1, 1, 2, 2]
    tracks[0]["elements"][0]["shapes"][2]["points"] = [1.0, 1.0]
    capsys.readouterr()
    assert run("push") == 0
    said = capsys.readouterr().out
    assert "leaves objects 1, which a person has changed" in said
    assert "creates 1 tracks and 0 masks; replaces 1 tracks" in said
    assert seen(drawn)[0][3]["points"] == [0, 4, 1, 1, 2, 2]
    assert run("push", "--overwrite-edited") == 0
    assert len(seen(drawn)[0]) == 12
    assert {shape["source"] for shape in seen(drawn)[0]} == {"auto"}


@pytest.mark.usefixtures("playing_worker")
def test_results_of_other_labels_are_not_pushed(
    run: Callable[..., int], drawn: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("propagate") == 0
    drawn.draw_shape(100, type="rectangle", label_id=3, frame=2, points=[1.0, 1.0, 9.0, 9.0])
    assert run("pull") == 0
    assert run("push") == 2
    assert "pulled anew" in capsys.readouterr().err
    assert drawn.changes() == []
    other = ["--task", "8", "--dir", str(tmp_path / "d"), "--server-host", drawn.url]
    assert cli.main(["cvat", "push", *other]) == 2
    assert "holds task 7" in capsys.readouterr().err


@pytest.mark.usefixtures("playing_worker")
def test_regions_become_what_is_asked_for(run: Callable[..., int], drawn: Any) -> None:
    assert run("propagate") == 0
    assert run("push", "--as", "polygon") == 0
    assert [len(track["shapes"]) for track in seen(drawn)[1]] == [12, 12]
    assert run("push", "--as", "rectangle") == 0
    assert {track["shapes"][0]["type"] for track in seen(drawn)[1]} == {"rectangle", "skeleton"}
    assert run("push") == 0
    assert len(seen(drawn)[0]) == 12
    assert len(seen(drawn)[1]) == 1


def test_the_original_video_in_place_of_pictures(
    cvat: Callable[..., Any], server: str, playing_worker: None, clip: RenderedClip, clip_file: Path, tmp_path: Path
) -> None:
    task = cvat(range(2, 12, 3), start_frame=2, step=3, deleted=(1,))  # frames 2, 5, 8 and 11 of the video
    task.draw_shape(100, type="mask", label_id=1, frame=2, points=cvat_rle.encode(clip.mask(8) == 1))
    common = ["--task", "7", "--dir", str(tmp_path / "d"), "--server-host", task.url]
    assert cli.main(["cvat", "propagate", *common, "--url", server, "--video", str(clip_file)]) == 0
    assert not any(path == "/api/tasks/7/data/" for _, path, _ in task.requests)
    spec = json.loads((tmp_path / "d" / "job.json").read_text())
    assert spec["options"] == {"start": 2, "end": 12, "stride": 3}
    assert [anchor["frame"] for anchor in spec["anchors"]] == [8]
    assert cli.main(["cvat", "push", *common]) == 0
    found = {shape["frame"]: shape for shape in task.annotations[100]["shapes"] if shape["group"]}
    assert sorted(found) == [0, 2, 3]
    for number, shape in found.items():
        assert shape["points"] == cvat_rle.encode(clip.mask(2 + 3 * number) == 1)
    assert cli.main(["cvat", "propagate", *common, "--url", server]) == 2


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["push", "--task", "7"], "labelprop cvat pull"),
        (["pull", "--task", "8"], "no such task"),
        (["propagate", "--task", "8"], "no such task"),
    ],
)
def test_errors_say_what_to_do(
    drawn: Any, tmp_path: Path, capsys: pytest.CaptureFixture, argv: list[str], says: str
) -> None:
    assert cli.main(["cvat", *argv, "--dir", str(tmp_path / "d"), "--server-host", drawn.url]) == 2
    assert says in capsys.readouterr().err


def test_a_token_that_is_refused_and_a_server_that_is_not_there(
    drawn: Any, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull = ["cvat", "pull", "--task", "7", "--dir", str(tmp_path / "d"), "--server-host"]
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", "wrong")
    assert cli.main([*pull, drawn.url]) == 2
    assert "check the token" in capsys.readouterr().err
    monkeypatch.setattr("urllib3.util.retry.Retry.DEFAULT_BACKOFF_MAX", 0)
    assert cli.main([*pull, "http://127.0.0.1:1"]) == 2
    assert "cannot be reached" in capsys.readouterr().err


def test_without_the_sdk_it_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cvat_sdk'] = None; from app import cli;"
        "sys.exit(cli.main(['cvat', 'pull', '--task', '7', '--server-host', 'http://127.0.0.1:1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'labelprop[cvat]'" in done.stderr


def test_the_command_imports_neither_torch_nor_the_sdk() -> None:
    code = (
        "import sys, app.commands.cvat, app.integrations.cvat.push;"
        "print([name for name in ('torch', 'worker', 'cvat_sdk', 'shapely', 'contourpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_stand_in_refuses_what_cvat_would(stand_in: ModuleType, drawn: Any) -> None:
    shape = {"type": "polygon", "frame": 0, "points": [1.0, 1.0, 2.0, 2.0, 3.0, 1.0], "outside": False}
    track = {"label_id": 1, "frame": 0, "shapes": [shape]}
    path, token = "/api/jobs/100/annotations/", f"Bearer {stand_in.TOKEN}"

    def patch(query: str = "?action=create", **body: Any) -> int:
        return int(drawn.answer("PATCH", path + query, json.dumps(body).encode(), token)[0])

    assert patch(tracks=[track]) == 200
    for fault in (
        {"label_id": 1, "frame": 0},
        {**track, "colour": "red"},
        {**track, "label_id": "1"},
        {**track, "label_id": 99},
        {**track, "shapes": [{**shape, "type": "blob"}]},
        {**track, "shapes": [{**shape, "points": ["1"]}]},
        {**track, "shapes": [{**shape, "type": "mask", "points": [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]}]},
        {**track, "shapes": [shape, shape]},
        {**track, "frame": 99, "shapes": [{**shape, "frame": 99}]},
        {**track, "shapes": [{**shape, "keyframe": True}]},
    ):
        assert patch(tracks=[fault]) == 400, fault
    assert patch("?action=replace", tracks=[track]) == 400
    assert patch("", tracks=[track]) == 400
    assert patch("?action=create&force=1", tracks=[track]) == 400
    assert drawn.answer("GET", "/api/nothing", b"", token)[0] == 400
    assert drawn.answer("GET", path, b"", None)[0] == 401
