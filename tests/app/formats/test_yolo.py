from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from app.formats import yolo, yolo_box, yolo_pose
from model.errors import InputError
from model.labels import FrameResult, LabelObject, ObjectResult

BOX = "0 0.5 0.5 0.25 0.5\n"


def test_the_data_set_is_laid_out_as_ultralytics_has_it(export_input: Callable, tmp_path: Path) -> None:
    yolo_box.write(export_input(), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        assert names == ["data.yaml", *(f"labels/{frame:05d}.txt" for frame in range(12)), "objects.json"]
        described = yaml.safe_load(archive.read("data.yaml"))
        assert described["names"] == {0: "flower", 1: "puppet"}
        assert {"path", "train", "val"} <= set(described)
        known = json.loads(archive.read("objects.json"))
    assert known["objects"][1] == {"id": 2, "name": "puppet", "class": 1}
    assert known["rows"]["00007"] == [1, 2]


def test_objects_of_one_name_share_a_class_and_come_back_apart(reread: Callable, export_input: Callable) -> None:
    def at(x: float, id_: int) -> ObjectResult:
        return ObjectResult(id_, True, 1.0, None, (x, 2.0, 8.0, 9.0), (), "anchor")

    objects = tuple(LabelObject(id_, "dog: 'a' \"b\" #c", (0, 0, 0)) for id_ in (4, 9))
    results = [FrameResult(0, 0, (at(1.0, 4), at(30.0, 9))), FrameResult(5, 200, (at(31.0, 9),))]
    imported, labels = reread("yolo-box", export_input(results, objects=objects))
    assert imported.objects == [{"id": 4, "name": objects[0].name}, {"id": 9, "name": objects[0].name}]
    assert {key: label.box[0] for key, label in labels.items()} == {(0, 4): 1.0, (0, 9): 30.0, (5, 9): 31.0}


@pytest.mark.parametrize(
    "text",
    [
        "names: [dog, cat]\nnc: 2\n",
        "names:\n  0: dog\n  1: cat\n",
        "# a comment\ntrain: ../train/images\nnames: ['dog', \"cat\"]\nroboflow:\n  workspace: x\n",
        "names:\n- dog\n- cat\n",
        "{names: {0: dog, 1: cat}}",
    ],
)
def test_names_of_classes_in_all_the_ways_that_are_in_use(read_file: Callable, text: str) -> None:
    files = {"data.yaml": text, "train/labels/00003.txt": BOX + "1 0.2 0.2 0.1 0.1", "README.dataset.txt": "# dogs"}
    imported = read_file("yolo-box", files)
    assert [object_["name"] for object_ in imported.objects] == ["dog", "cat"]
    assert imported.anchors[0]["frame"] == 3


def test_classes_txt_and_no_names_at_all(read_file: Callable) -> None:
    files = {"classes.txt": "dog\ncat\n", "obj/00003.txt": BOX}
    assert read_file("yolo-box", files).objects == [{"id": 1, "name": "dog"}]
    assert read_file("yolo-box", {"00003.txt": "7 0.5 0.5 0.1 0.1"}).objects == [{"id": 1, "name": "class-7"}]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"00003.txt": "0 0.5 0.5\n"}, "00003.txt, line 1: 2 numbers after the class are no box"),
        ({"00003.txt": BOX + "dog 0.1 0.1 0.1 0.1"}, "00003.txt, line 2: 'dog 0.1"),
        ({"00003.txt": "0 50 20 10 10"}, "line 1: 50 is not from 0 to 1. Divide"),
        ({"00003.txt": "0 nan 0.2 0.1 0.1"}, "line 1: nan is not from 0 to 1"),
        ({"00003.txt": "-1 0.1 0.2 0.1 0.1"}, "line 1: -1 is no class"),
        ({"00003.txt": "0 0.5 0.5 0 0"}, "line 1: the box .* has no extent"),
        ({"00003.txt": b"\xff\xfe0"}, "00003.txt is not text in UTF-8"),
        ({"00003.txt": BOX * 2, "00004.txt": BOX}, "stands 2 times on a frame"),
        ({"a/labels/00003.txt": BOX, "b/labels/3.txt": BOX}, "are both frame 3"),
        ({"00003.txt": BOX * 2000}, "more rows than a job has objects"),
        ({"00003.txt": "\n\n"}, "labels no object"),
        ({"a.png": b"", "b.png": b""}, "no .txt file"),
        ({"data.yaml": "names: [a]", "00003.txt": "3 0.5 0.5 0.1 0.1"}, "class 3 has no name in data.yaml"),
        ({"data.yaml": "names: dog", "00003.txt": BOX}, "`names` must be a list of classes"),
        ({"data.yaml": "- 1", "00003.txt": BOX}, "data.yaml, line 1: '- 1' is no `key: value`"),
        ({"data.yaml": "names: [a\nb: {", "00003.txt": BOX}, "data.yaml, line 1: a bracket is not closed"),
        ({"data.yaml": "a: &a [x]\nnames: [*a, *a]", "00003.txt": BOX}, "line 2: .* is more YAML than is read"),
        ({"data.yaml": "names: [a]\nkpt_shape: 17", "00003.txt": BOX}, "`kpt_shape` must be two numbers"),
        ({"data.yaml": "names: [a]\nkpt_shape: [0, 3]", "00003.txt": BOX}, "1 to 256 points of 2 or 3"),
        ({"objects.json": '{"rows": {"00003": [1, 2]}}', "00003.txt": BOX}, "objects.json knows 2"),
        ({"objects.json": '{"rows": 7}', "00003.txt": BOX}, "objects.json: /rows: Input should be"),
    ],
)
def test_faults_are_told_by_file_and_line(read_file: Callable, files: dict, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_file("yolo-box", files)
    assert caught.value.slug == "bad-annotations"


def test_a_box_of_points_has_extent() -> None:
    from model.labels import KeypointResult

    def found(*at: tuple[float, float, bool]) -> ObjectResult:
        points = tuple(KeypointResult(f"p{k}", x, y, seen, 1.0) for k, (x, y, seen) in enumerate(at))
        return ObjectResult(1, True, 1.0, None, None, points, "anchor")

    assert yolo.box_of(found((3, 4, True)), 96, 64) == (3, 4, 1.0, 1.0)
    assert yolo.box_of(found((3, 4, True), (9, 6, True), (90, 90, False)), 96, 64) == (3, 4, 6, 2)
    assert yolo.box_of(found((96, 64, False)), 96, 64) == (95, 63, 1.0, 1.0)
    assert yolo.box_of(ObjectResult(1, False, 0.0, None, None, (), "anchor"), 96, 64) is None


def test_without_classes_it_is_still_a_data_set(export_input: Callable, tmp_path: Path) -> None:
    results = [FrameResult(0, 0, (ObjectResult(1, False, 0.0, None, None, (), "anchor"),))]
    yolo_pose.write(export_input(results, objects=(LabelObject(1, "x", (0, 0, 0)),)), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert yaml.safe_load(archive.read("data.yaml"))["names"] == {}
        assert archive.read("labels/00000.txt") == b""
