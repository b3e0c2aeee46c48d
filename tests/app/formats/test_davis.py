from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.formats import davis
from model.errors import InputError
from model.labels import FrameResult, ObjectResult, indexed_png
from model.rendered import RenderedClip


def index_map(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P"
    return np.asarray(image)


def test_a_zip_of_indexed_pngs(export_input: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    davis.write_zip(export_input(), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"{frame:05d}.png" for frame in range(12)]
        assert archive.testzip() is None
        for frame in range(12):
            assert np.array_equal(index_map(archive.read(f"{frame:05d}.png")), clip.mask(frame))


def test_the_same_results_are_the_same_bytes(export_input: Callable, tmp_path: Path) -> None:
    davis.write_zip(export_input(), tmp_path / "a.zip")
    davis.write_zip(export_input(), tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_folder_holds_the_same_pictures(export_input: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    davis.write_folder(export_input(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{frame:05d}.png" for frame in range(12)]
    assert np.array_equal(index_map((tmp_path / "00007.png").read_bytes()), clip.mask(7))


def test_the_names_of_images_are_kept(export_input: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i, frame in enumerate(clip.frames()):
        Image.fromarray(frame).save(images / f"shot-{i + 5}.png")
    out = tmp_path / "out"
    out.mkdir()
    davis.write_folder(export_input(path=images), out)
    assert sorted(path.name for path in out.iterdir()) == sorted(f"shot-{i + 5}.png" for i in range(12))
    assert np.array_equal(index_map((out / "shot-5.png").read_bytes()), clip.mask(0))


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (("a.jpg", "b.jpg"), ["a", "b"]),
        (("dir/a.jpg", "dir/b.jpg"), ["a", "b"]),
        (("a.jpg", "a.png"), ["a.jpg", "a.png"]),
        (("x/a.jpg", "y/a.jpg"), ["x_a.jpg", "y_a.jpg"]),
    ],
)
def test_names_never_collide(export_input: Callable, names: tuple[str, ...], stems: list[str]) -> None:
    given = export_input()
    table = replace(given.table, pts=given.table.pts[:2], keyframe=given.table.keyframe[:2], names=names)
    given = replace(given, table=table)
    assert [given.stem(frame) for frame in range(2)] == stems


def test_only_frames_with_results_are_written_and_the_higher_id_wins(export_input: Callable, tmp_path: Path) -> None:
    full = np.ones((64, 96), bool)
    objects = tuple(ObjectResult(i, True, 1.0, full, None, (), "propagated") for i in (2, 1))
    davis.write_folder(export_input([FrameResult(3, 120, objects), FrameResult(9, 360, ())]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00003.png", "00009.png"]
    assert (index_map((tmp_path / "00003.png").read_bytes()) == 2).all()
    assert not index_map((tmp_path / "00009.png").read_bytes()).any()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_masks_and_ids_survive_the_round_trip(scene: Callable, reread: Callable, data: st.DataObject) -> None:
    given_results = scene(data, kinds=("mask",))
    expected = {}
    for result in given_results.results():
        masks = {found.object: found.mask for found in result.objects if found.mask is not None}
        picture = indexed_png.flatten(masks, shape=(given_results.info.height, given_results.info.width))
        expected.update({(result.frame, id_): picture == id_ for id_ in masks if (picture == id_).any()})
    if not expected:
        return
    for name in ("davis", "youtube-vos"):
        imported, labels = reread(name, given_results)
        assert set(labels) == set(expected)
        assert all(np.array_equal(labels[key].mask, mask) for key, mask in expected.items())
    names = {object_.id: object_.name for object_ in given_results.objects}
    assert all(object_["name"] == names[object_["id"]] for object_ in imported.objects)


def png(values: list[list[int]]) -> bytes:
    return indexed_png.encode(np.array(values, np.uint8))


BLACK_AND_WHITE = png([[0] * 8] * 3 + [[255] * 8] * 3)


@pytest.mark.parametrize(("name", "frame"), [("00007.png", 7), ("mask.png", 0), ("clip_3.png", 3)])
def test_a_single_picture_is_the_frame_of_its_number_or_the_first(read_file: Callable, name: str, frame: int) -> None:
    imported = read_file("davis", {name: BLACK_AND_WHITE})
    assert imported.objects == [{"id": 1}]
    assert imported.anchors[0]["frame"] == frame


def test_white_is_void_where_any_picture_has_other_values(read_file: Callable) -> None:
    both = read_file("davis", {"a/00000.png": BLACK_AND_WHITE, "a/00001.png": png([[3] * 8] * 5 + [[255] * 8])})
    assert [object_["id"] for object_ in both.objects] == [3]
    assert [(anchor["frame"], "void" in anchor) for anchor in both.anchors] == [(1, True)]
    alone = read_file("davis", {"a/00000.png": BLACK_AND_WHITE, "a/00001.png": BLACK_AND_WHITE})
    assert [(anchor["frame"], anchor["labels"][0]["object"]) for anchor in alone.anchors] == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"00000.png": b"GIF89a"}, "00000.png: The mask is not a PNG"),
        ({"00000.png": png([[1] * 5] * 5)}, "5 x 5 pixels, but the video's frames are 8 x 6"),
        ({"00010.png": BLACK_AND_WHITE}, "frames are 0 to 9"),
        ({"a/1.png": BLACK_AND_WHITE, "b/00001.png": BLACK_AND_WHITE}, "are both frame 1"),
        ({"00000.png": png([[0] * 8] * 6)}, "labels no object"),
        ({"a.txt": b"", "b.txt": b""}, "holds no PNG"),
        ({"meta.json": b"{", "1.png": BLACK_AND_WHITE}, "meta.json: Invalid JSON"),
    ],
)
def test_pictures_that_cannot_be_used(read_file: Callable, files: dict[str, bytes], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_file("davis", files)
    assert caught.value.slug == "bad-annotations"
