from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from app.formats.frames import FrameNames
from model.errors import InputError
from model.video import FrameTable


def frames(count: int = 100, names: tuple[str, ...] | None = None) -> FrameNames:
    count = count if names is None else len(names)
    table = FrameTable(np.arange(count, dtype=np.int64), np.ones(count, np.bool_), Fraction(1, 25), names=names)
    return FrameNames(table)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("00012.png", 12),
        ("clip_000012.txt", 12),
        ("a/b/frame-7.json", 7),
        ("C:\\labels\\00003.png", 3),
        ("0.png", 0),
        ("shot2_00099.jpg", 99),
        ("frame_0005_jpg.rf.0a1B2c3d.jpg", 5),
    ],
)
def test_the_number_at_the_end_is_the_frame(name: str, frame: int) -> None:
    assert frames().find(name) == frame


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("first.png", "no frame number at its end"),
        ("12-final.png", "no frame number"),
        ("00100.png", "frames are 0 to 99. Frames count from 0 here"),
        ("00101.png", "frames are 0 to 99.$"),
        ("9" * 30 + ".png", "is not in the video"),
        ("", "no frame number"),
    ],
)
def test_other_names_are_refused(name: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        frames().find(name)
    assert caught.value.slug == "bad-annotations"


def test_images_are_found_by_their_names() -> None:
    found = frames(names=("day/img-5.jpg", "day/img-7.jpg", "night/img-5.png"))
    assert found.find("img-7.png") == 1
    assert found.find("day/img-5.jpg") == 0
    assert found.find("night_img-5.png") == 2, "as exports call an image whose stem is not its own"
    with pytest.raises(InputError, match="no image of the video is called 'img-5'"):
        found.find("img-5.txt")
    with pytest.raises(InputError, match="no image"):
        found.find("00000.png")
