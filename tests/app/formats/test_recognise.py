from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.formats import IMPORTS
from app.formats.packing import write_zip
from app.formats.recognise import format_of_json, recognise
from model.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
XML = b'\xef\xbb\xbf<?xml version="1.0"?><annotations/>'


@pytest.fixture(params=["zip", "folder"])
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Files in a zip or in a folder."""

    def do(files: dict[str, bytes]) -> Path:
        path = tmp_path / "labels"
        if request.param == "zip":
            write_zip(path, files.items())
            return path
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    return do


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (PNG, "davis"),
        (XML, "cvat"),
        (b'{"images": [], "annotations": [], "categories": []}', "coco"),
        (b'\xef\xbb\xbf {"shapes": [], "imagePath": "1.jpg"}', "labelme"),
        (b'[{"id": 1, "data": {"video": "x"}, "annotations": []}]', "label-studio"),
        (b"0 0.5 0.5 0.1 0.1\n", "yolo-box"),
        (b"\n0 0.1 0.1 0.2 0.2 0.3 0.3\n", "yolo-seg"),
        (b"0 0.5 0.5 0.1 0.1 0.5 0.5 2\n", "yolo-pose"),
    ],
)
def test_a_file_is_recognised_by_what_is_in_it(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / "x.bin").write_bytes(data)
    assert recognise(tmp_path / "x.bin", list(IMPORTS)) == name


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"00000.png": PNG}, "davis"),
        ({"Annotations/a/00000.png": PNG, "meta.json": b"{}"}, "youtube-vos"),
        ({"annotations.xml": XML, "images/1.png": PNG}, "cvat"),
        ({"a.json": b'{"shapes": []}', "a.png": PNG}, "labelme"),
        ({"annotations/instances.json": b'{"images": [], "categories": []}'}, "coco"),
        ({"labels/1.txt": b"", "labels/2.txt": b"0 0.5 0.5 0.1 0.1", "images/1.png": PNG}, "yolo-box"),
        ({"data.yaml": b"kpt_shape: [2, 2]", "labels/1.txt": b"0 .5 .5 .1 .1 .5 .5 .1 .1"}, "yolo-pose"),
        ({"data.yaml": b"names: [a]", "labels/1.txt": b"0 .5 .5 .1 .1 .5 .5 .1 .1"}, "yolo-seg"),
    ],
)
def test_several_files_are_recognised_together(several: Callable, files: dict[str, bytes], name: str) -> None:
    assert recognise(several(files), list(IMPORTS)) == name


@pytest.mark.parametrize(
    "data", [b"hello world", b"0 dog", b"{}", b"[1, 2]", b'{"anchors": []}', b"0 1 2 3", b"\x00\xff"]
)
def test_what_is_none_of_them_names_those_there_are(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(InputError, match=r"not recognised\. Name it, one of: davis") as caught:
        recognise(tmp_path / "x.json", list(IMPORTS))
    assert (caught.value.slug, caught.value.pointer) == ("bad-annotations", "/format")


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    for data in (b'{"images": ', b"[" * 100_000, b"{NaN}"):
        (tmp_path / "x.json").write_bytes(data)
        with pytest.raises(InputError, match=r"x\.json is not JSON that can be read"):
            recognise(tmp_path / "x.json", list(IMPORTS))


def test_a_job_is_no_format() -> None:
    assert format_of_json({"anchors": [], "objects": [], "options": {}}) is None
    assert format_of_json(json.loads("7")) is None
