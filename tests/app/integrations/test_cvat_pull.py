from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.integrations.cvat import sdk
from app.integrations.cvat.marks import group_of
from app.integrations.cvat.pull import Pulled, download_frames, pull, read_annotations, read_sources
from app.integrations.cvat.task import Task
from model.errors import InputError
from model.labels import rle
from model.rendered import RenderedClip
from model.video import open_video


@pytest.fixture
def connect(stand_in: Any) -> Callable[..., Any]:
    def do(server: Any) -> Any:
        names = ("server_port", "auth", "organization", "profile")
        return sdk.connect(SimpleNamespace(server_host=server.url, insecure=False, **dict.fromkeys(names)))  # type: ignore[arg-type]

    return do


@pytest.fixture
def pulled(connect: Callable[..., Any]) -> Callable[..., Pulled]:
    def do(server: Any, *, whole: bool = False) -> Pulled:
        with connect(server) as connected:
            task = Task.read(connected, 7, whole=whole)
            return pull(task, read_annotations(connected, task))

    return do


def tracked(frame: int, points: list[float], kind: str = "rectangle", **more: Any) -> dict[str, Any]:
    given = {"occluded": False, "outside": False, "z_order": 0, "rotation": 0.0, "attributes": []}
    return {"type": kind, "frame": frame, "points": points, **given, **more}


def test_shapes_and_tracks_become_anchors(cvat: Callable[..., Any], pulled: Callable[..., Pulled]) -> None:
    server = cvat(segments=[(0, 5), (6, 11)])
    server.draw_shape(100, type="polygon", label_id=1, frame=1, points=[1.0, 1.0, 9.0, 1.0, 9.0, 9.0])
    server.draw_shape(101, type="mask", label_id=1, frame=7, points=[0, 4, 3, 3, 4, 4])
    shapes = [tracked(2, [1.0, 2.0, 5.0, 8.0]), tracked(4, [2.0, 2.0, 6.0, 8.0], outside=True)]
    server.draw_track(100, label_id=3, frame=2, shapes=shapes)
    server.draw_shape(100, type="points", label_id=4, frame=0, points=[4.0, 5.0], occluded=True)
    found = pulled(server)
    objects = {o["name"]: o["id"] for o in found.imported.objects}
    assert set(objects) == {"flower", "box", "dot"}
    labels = {(a["frame"], label["object"]): label for a in found.imported.anchors for label in a["labels"]}
    assert labels[1, objects["flower"]]["polygon"] == [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]
    assert rle.decode(labels[7, objects["flower"]]["mask"]).sum() == 4
    assert labels[2, objects["box"]]["box"] == [1.0, 2.0, 4.0, 6.0]
    assert labels[4, objects["box"]]["absent"]
    assert labels[0, objects["dot"]]["keypoints"] == [{"name": "dot", "x": 4.0, "y": 5.0, "visible": False}]
    assert found.objects[objects["flower"]] == {"region": {"label_id": 1, "type": "polygon"}, "points": None}
    assert found.objects[objects["box"]]["region"] == {"label_id": 3, "type": "rectangle"}
    assert found.objects[objects["dot"]] == {"region": None, "points": {"label_id": 4, "type": "points"}}


def test_a_skeleton_keeps_its_points_and_bones(cvat: Callable[..., Any], pulled: Callable[..., Pulled]) -> None:
    server = cvat()
    elements = [
        {"label_id": 51, "frame": 1, "shapes": [tracked(1, [3.0, 4.0], "points"), tracked(5, [4.0, 4.0], "points")]},
        {"label_id": 52, "frame": 1, "shapes": [tracked(1, [7.0, 4.0], "points", outside=True)]},
    ]
    server.draw_track(100, label_id=5, frame=1, shapes=[tracked(1, [], "skeleton")], elements=elements)
    found = pulled(server)
    assert found.imported.objects == [
        {"id": 1, "name": "puppet", "skeleton": {"points": ["head", "left_hand"], "edges": [[0, 1]]}}
    ]
    points = [(a["frame"], [p["name"] for p in a["labels"][0]["keypoints"]]) for a in found.imported.anchors]
    assert points == [(1, ["head"]), (5, ["head"])]


@pytest.mark.parametrize("whole", [False, True])
def test_frames_are_the_tasks_own(cvat: Callable[..., Any], pulled: Callable[..., Pulled], whole: bool) -> None:
    server = cvat(range(1, 12, 2), start_frame=1, step=2, deleted=(2,))
    for number in (1, 2, 4):
        server.draw_shape(100, type="rectangle", label_id=3, frame=number, points=[1.0, 1.0, 4.0, 4.0])
    found = pulled(server, whole=whole)
    assert [a["frame"] for a in found.imported.anchors] == ([3, 9] if whole else [1, 3])
    assert found.skipped == 1


def test_what_an_earlier_run_left_is_not_read(
    cvat: Callable[..., Any], connect: Callable[..., Any], pulled: Callable[..., Pulled]
) -> None:
    server = cvat(segments=[(0, 5), (6, 11)])
    given = {"type": "rectangle", "label_id": 3, "points": [1.0, 1.0, 4.0, 4.0]}
    server.draw_shape(100, frame=0, **given)
    for frame, source in ((1, "auto"), (2, "semi-auto"), (3, "manual")):
        server.draw_shape(100, frame=frame, group=group_of(3), source=source, **given)
    found = pulled(server)
    with connect(server) as connected:
        sources = read_sources(connected, Task.read(connected, 7, whole=False))
    assert {job: [shape["frame"] for shape in drawn["shapes"]] for job, drawn in sources.items()} == {100: [0, 3]}
    # A person's own shape that happens to be in such a group is a person's own.
    assert sorted(a["frame"] for a in found.imported.anchors) == [0, 3]


def test_faults_name_the_place(cvat: Callable[..., Any], pulled: Callable[..., Pulled]) -> None:
    server = cvat()
    with pytest.raises(InputError, match="hold no shape"):
        pulled(server)
    server.draw_shape(100, type="polyline", label_id=1, frame=3, points=[1.0, 1.0, 4.0, 4.0])
    with pytest.raises(InputError, match="Frame 3: a polyline cannot be carried"):
        pulled(server)


@pytest.mark.parametrize("chunks", [True, False])
def test_pictures_become_a_video(
    cvat: Callable[..., Any], connect: Callable[..., Any], clip: RenderedClip, tmp_path: Path, chunks: bool
) -> None:
    server = cvat(range(2, 12), deleted=(0, 5), chunks=chunks)
    path, counted = tmp_path / "frames.zip", []
    with connect(server) as connected:
        task = Task.read(connected, 7, whole=False)
        download_frames(connected, task, path, on_frame=lambda: counted.append(1))
    assert len(counted) == 8
    with open_video(path) as source:
        assert source.table.names is not None
        assert source.table.names[:2] == ("frame_000001.png", "frame_000002.png")
        for frame in source.frames(0):
            number = task.frames.to_task(frame.index)
            assert number is not None
            assert np.array_equal(frame.image, clip.frame(number + 2))


def test_other_pictures_become_png_and_what_is_none_is_said(
    cvat: Callable[..., Any], connect: Callable[..., Any], clip: RenderedClip, tmp_path: Path
) -> None:
    server = cvat(range(2))
    packed = io.BytesIO()
    Image.fromarray(clip.frame(0)).save(packed, "BMP")
    server.pictures[0] = packed.getvalue()
    with connect(server) as connected:
        task = Task.read(connected, 7, whole=False)
        download_frames(connected, task, tmp_path / "f.zip")
        with zipfile.ZipFile(tmp_path / "f.zip") as archive:
            assert archive.read("frame_000000.png").startswith(b"\x89PNG")
        server.pictures[1] = b"no picture"
        with pytest.raises(InputError, match="Frame 1 is no picture"):
            download_frames(connected, task, tmp_path / "g.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["f.zip"]
