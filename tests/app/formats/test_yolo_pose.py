from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.formats import yolo_pose
from model.errors import InputError
from model.labels import FrameResult, KeypointResult, LabelObject, ObjectResult, Skeleton
from model.rendered import RenderedClip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_points_ids_and_names_survive_the_round_trip(scene: Callable, reread: Callable, data: st.DataObject) -> None:
    results = scene(data, kinds=("mask", "keypoints"))
    expected = {
        (result.frame, found.object): sorted((p.name, p.visible, p.x, p.y) for p in found.keypoints)
        for result in results.results()
        for found in result.objects
        if found.keypoints
    }
    if not expected:
        return
    imported, labels = reread("yolo-pose", results)
    assert set(labels) == set(expected)
    for key, points in expected.items():
        read = sorted((p.name, p.visible, p.x, p.y) for p in labels[key].keypoints)
        assert [point[:2] for point in read] == [point[:2] for point in points]
        assert np.allclose([point[2:] for point in read], [point[2:] for point in points], atol=0.011)
    names = {object_.id: object_.name for object_ in results.objects}
    assert all(object_["name"] == names[object_["id"]] for object_ in imported.objects)


def test_classes_are_padded_to_one_number_of_points(export_input: Callable, tmp_path: Path) -> None:
    objects = (
        LabelObject(1, "face", (0, 0, 0), Skeleton(("nose", "ear", "eye"))),
        LabelObject(2, "arm", (0, 0, 0), Skeleton(("hand",))),
        LabelObject(3, "rock", (0, 0, 0)),
    )
    face = ObjectResult(
        1, True, 1.0, None, (8.0, 16.0, 32.0, 16.0), (KeypointResult("ear", 48.0, 32.0, False, 1.0),), "anchor"
    )
    arm = ObjectResult(2, True, 1.0, None, None, (KeypointResult("hand", 24.0, 16.0, True, 1.0),), "anchor")
    rock = ObjectResult(3, True, 1.0, None, (1.0, 1.0, 5.0, 5.0), (), "anchor")
    yolo_pose.write(export_input([FrameResult(0, 0, (face, arm, rock))], objects=objects), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        described = yaml.safe_load(archive.read("data.yaml"))
        rows = archive.read("labels/00000.txt").decode().splitlines()
    assert (described["names"], described["kpt_shape"]) == ({0: "face", 1: "arm"}, [3, 3])
    assert described["kpt_names"][1] == ["hand", "unused-1", "unused-2"]
    # The frame is 96 x 64 pixels.
    assert rows[0] == "0 0.25 0.375 0.3333333 0.25 0 0 0 0.5 0.5 1 0 0 0"
    assert rows[1] == "1 0.2552083 0.2578125 0.0104167 0.015625 0.25 0.25 2 0 0 0 0 0 0"


def test_supervision_accepts_the_data_set(export_input: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import supervision

    yolo_pose.write(export_input(), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "images").mkdir()
    Image.fromarray(clip.frame(0)).save(tmp_path / "images" / "00000.png")
    read = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    assert [found.class_id.tolist() for _, _, found in read] == [[0]]


def test_the_rows_of_the_documentation(read_file: Callable) -> None:
    """docs.ultralytics.com/datasets/pose: `kpt_shape` says how many points there are and whether a flag follows."""
    files = {"data.yaml": "names: [x]\nkpt_shape: [2, 3]", "1.txt": "0 .5 .5 .5 .5 .5 .5 2 0 0 0"}
    three = read_file("yolo-pose", files)
    assert three.objects[0]["skeleton"]["points"] == ["point-0", "point-1"]
    assert three.anchors[0]["labels"][0]["keypoints"] == [{"name": "point-0", "x": 4.0, "y": 3.0, "visible": True}]
    two = read_file("yolo-pose", {"data.yaml": "names: [x]\nkpt_shape: [2, 2]", "1.txt": "0 .5 .5 .5 .5 0 0 .25 .5"})
    assert two.anchors[0]["labels"][0]["keypoints"] == [{"name": "point-1", "x": 2.0, "y": 3.0, "visible": True}]
    unsaid = read_file("yolo-pose", {"1.txt": "0 .5 .5 .5 .5 .5 .5 1"})
    assert unsaid.anchors[0]["labels"][0]["keypoints"][0]["visible"] is False


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"1.txt": "0 .5 .5 .5 .5"}, "not a box and x, y, v for each keypoint"),
        ({"data.yaml": "names: [x]\nkpt_shape: [2, 3]", "1.txt": "0 .5 .5 .5 .5 .5 .5 2"}, "2 keypoints of 3 numbers"),
        ({"1.txt": "0 .5 .5 .5 .5 5 .5 2"}, "5 is not from 0 to 1"),
        (
            {"data.yaml": "names: [x]\nkpt_shape: [1, 3]\nkpt_names: {0: [a, b]}", "1.txt": "0 .5 .5 .5 .5 .5 .5 2"},
            "`kpt_names` of class 0 must be 1 names",
        ),
    ],
)
def test_rows_that_do_not_fit(read_file: Callable, files: dict, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_file("yolo-pose", files)
    assert caught.value.slug == "bad-annotations"
