# ruff: noqa: E501  (tables have one case a line)
from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

import pytest

from app.commands import labels
from app.problems import InvalidDocument
from model.errors import InputError


def asked(*argv: str) -> labels.Asked:
    parser = argparse.ArgumentParser()
    labels.add_arguments(parser)
    return labels.request_of(parser.parse_args(argv))


def request(*argv: str) -> tuple[dict, bytes | None]:
    found = asked(*argv)
    return found.spec, found.mask


def write(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_boxes_and_options() -> None:
    spec, mask = request(
        "--box", "1:1,2,3,4", "--box", "7:0.5,0,2,2", "--start", "5", "--stride", "2", "--preset", "plain"
    )
    assert mask is None
    assert spec == {
        "options": {"start": 5, "stride": 2, "preset": "plain"},
        "anchors": [{"frame": 5, "labels": [{"object": 1, "box": [1, 2, 3, 4]}, {"object": 7, "box": [0.5, 0, 2, 2]}]}],
    }


def test_a_mask_alone(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"png")
    assert request("--mask", str(tmp_path / "m.png")) == ({}, b"png")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([{"name": "a", "x": 1, "y": 2}], [{"object": 1, "keypoints": [{"name": "a", "x": 1, "y": 2}]}]),
        ([{"object": 2, "keypoints": []}, {"object": 3, "keypoints": []}], [{"object": 2, "keypoints": []}, {"object": 3, "keypoints": []}]),
        ({"object": 2, "keypoints": []}, [{"object": 2, "keypoints": []}]),
    ],
)  # fmt: skip
def test_files_of_keypoints(tmp_path: Path, document: object, expected: list) -> None:
    spec, _ = request("--keypoints", write(tmp_path / "k.json", document))
    assert spec["anchors"] == [{"frame": 0, "labels": expected}]


def test_all_of_them_join_the_jobs_own_labels(tmp_path: Path) -> None:
    points = [{"name": "a", "x": 1, "y": 2}]
    job = {
        "objects": [{"id": 1}, {"id": 2}],
        "anchors": [{"frame": 4, "labels": [{"object": 1, "box": [0, 0, 9, 9]}]}, {"frame": 0, "labels": [{"object": 2, "box": [1, 1, 5, 5]}]}],
        "options": {"end": 9, "start": 0},
    }  # fmt: skip
    keypoints = write(tmp_path / "k.json", [{"object": 2, "keypoints": points}])
    spec, _ = request(
        "--labels", write(tmp_path / "j.json", job), "--keypoints", keypoints, "--box", "1:2,2,3,3", "--end", "8"
    )
    assert spec["options"] == {"end": 8, "start": 0}
    assert spec["anchors"][0] == job["anchors"][0]
    assert spec["anchors"][1]["labels"] == [
        {"object": 2, "box": [1, 1, 5, 5], "keypoints": points},
        {"object": 1, "box": [2, 2, 3, 3]},
    ]


def test_two_regions_of_an_object_stay_two_labels() -> None:
    spec, _ = request("--box", "1:1,2,3,4", "--box", "1:0,0,2,2")
    assert len(spec["anchors"][0]["labels"]) == 2, "the check of the labels refuses it"


@pytest.mark.parametrize("text", ["1:1,2,3", "1,2,3,4", "a:1,2,3,4", "1:1,2,3,x", ""])
def test_a_box_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="ID:x,y,width,height"):
        request("--box", text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        request("--labels", str(tmp_path / "nope.json"))
    (tmp_path / "x.json").write_bytes(b"\xff{")
    with pytest.raises(InputError, match="not JSON"):
        request("--keypoints", str(tmp_path / "x.json"))
    with pytest.raises(InputError, match=r"x\.json: Invalid JSON") as caught:
        request("--labels", str(tmp_path / "x.json"))
    assert caught.value.slug == "invalid-json"
    for document in ([], 7, ["a"]):
        with pytest.raises(InputError, match="must hold"):
            request("--keypoints", write(tmp_path / "k.json", document))


def test_a_file_that_is_no_job(tmp_path: Path) -> None:
    for document in ([], {"anchors": 7}, {"anchors": [7]}, {"anchors": [{"frame": 0}]}, {"options": 3}):
        path = write(tmp_path / "j.json", document)
        with pytest.raises(InvalidDocument):
            request("--labels", path, "--box", "1:1,2,3,4", "--start", "0")


def test_no_labels_at_all() -> None:
    with pytest.raises(InputError, match="--mask") as caught:
        request()
    assert caught.value.slug == "no-anchors"


COCO = {"images": [], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("name", "data", "argv"),
    [
        ("a.json", json.dumps(COCO).encode(), ()),
        ("a.json", b'{"shapes": [], "imagePath": ""}', ()),
        ("a.png", b"\x89PNG", ()),
        ("a.zip", b"PK\x03\x04", ()),
        ("a.xml", b"<annotations/>", ()),
        ("00001.txt", b"0 .5 .5 .1 .1", ()),
        ("a.json", b"{}", ("--labels-format", "coco")),
    ],
)
def test_labels_of_other_tools_are_left_to_their_readers(
    tmp_path: Path, name: str, data: bytes, argv: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(data)
    found = asked("--labels", str(tmp_path / name), *argv, "--start", "2")
    assert (found.spec, found.annotations) == ({"options": {"start": 2}}, tmp_path / name)
    assert found.format == (argv[1] if argv else None)
    with found.packed() as path:
        assert path == tmp_path / name


def test_a_folder_of_labels_is_packed_to_be_sent(tmp_path: Path) -> None:
    (tmp_path / "labels" / ".cache").mkdir(parents=True)
    (tmp_path / "labels" / "1.txt").write_bytes(b"x")
    (tmp_path / "labels" / ".cache" / "2.txt").write_bytes(b"x")
    with asked("--labels", str(tmp_path / "labels")).packed() as path:
        assert path is not None
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["1.txt"]
    assert not path.exists()


def test_a_job_may_hold_labels_of_another_tool(tmp_path: Path) -> None:
    found = asked("--labels", write(tmp_path / "j.json", {"annotations": COCO, "format": "coco"}))
    assert found.annotations is None
    assert found.spec["annotations"] == COCO
