from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.compose_davis import main


def _sequence(root: Path, name: str, frames: int, colour: int, at: slice) -> None:
    images, masks = root / "JPEGImages/480p" / name, root / "Annotations/480p" / name
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for index in range(frames):
        mask = np.zeros((32, 48), np.uint8)
        mask[8:24, at] = 255
        Image.fromarray(np.full((32, 48, 3), colour, np.uint8)).save(images / f"{index:05}.jpg")
        Image.fromarray(mask).save(masks / f"{index:05}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _sequence(tmp_path / "davis", "far", 4, 50, slice(4, 28))
    _sequence(tmp_path / "davis", "near", 3, 200, slice(20, 40))
    return tmp_path / "davis"


def test_the_second_object_lies_over_the_first(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "composed"
    assert main(["--root", str(root), "--out", str(out), "far+near"]) == 0
    assert capsys.readouterr().out == "far+near: 3 frames\n"
    masks = sorted((out / "Annotations/480p/far+near").iterdir())
    assert [path.name for path in masks] == ["00000.png", "00001.png", "00002.png"]
    ids = np.asarray(Image.open(masks[2]))
    assert np.unique(ids[8:24, 4:20]).tolist() == [1]
    assert np.unique(ids[8:24, 20:40]).tolist() == [2]
    assert not ids[:8].any()
    picture = np.asarray(Image.open(out / "JPEGImages/480p/far+near/00002.jpg")).astype(int)
    assert abs(picture[12:20, 24:36] - 200).max() < 12
    assert abs(picture[12:20, 6:16] - 50).max() < 12


@pytest.mark.parametrize("pair", ["far", "far+near+far", "far+gone"])
def test_what_is_not_a_pair_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: str
) -> None:
    assert main(["--root", str(root), "--out", str(tmp_path / "out"), pair]) == 2
    assert pair in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
