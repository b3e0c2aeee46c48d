from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.formats import davis
from model.labels import FrameResult, ObjectResult
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
