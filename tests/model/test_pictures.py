from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.pictures import montage

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def _plain(colour: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def test_rows_and_columns_lie_on_a_grid_at_one_height() -> None:
    rows = [[_plain(RED, 40, 80), _plain(GREEN, 10, 10)], [_plain(BLUE, 20, 20)]]
    sheet = np.asarray(montage(rows, height=20, gap=5))
    assert sheet.shape == (5 + 20 + 5 + 20 + 5, 5 + 40 + 5 + 20 + 5, 3)
    expected = np.full_like(sheet, 255)
    expected[5:25, 5:45] = RED
    expected[5:25, 50:70] = GREEN
    expected[30:50, 5:25] = BLUE
    np.testing.assert_array_equal(sheet, expected)


def test_pictures_keep_their_shape_and_their_pixels() -> None:
    small = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        np.asarray(montage([[small]], height=16, gap=0)), small.repeat(4, axis=0).repeat(4, axis=1)
    )
    large = np.zeros((8, 8, 3), np.uint8)
    large[::2] = 200
    np.testing.assert_array_equal(np.asarray(montage([[large]], height=4, gap=0)), np.full((4, 4, 3), 100))


def test_captions_and_names_have_room_of_their_own() -> None:
    rows = [[_plain(RED, 30, 10), _plain(GREEN, 30, 10)], [_plain(RED, 30, 10), _plain(GREEN, 30, 10)]]
    bare = np.asarray(montage(rows, height=30))
    sheet = np.asarray(montage(rows, height=30, captions=("a long caption", "b"), names=("first",)))
    assert sheet.shape[0] > bare.shape[0]
    assert sheet.shape[1] > bare.shape[1]  # no caption runs into the next
    for colour in (RED, GREEN):
        assert (sheet == colour).all(axis=2).sum() == 2 * 30 * 10
    written = (sheet < 128).all(axis=2)
    first_red = int((sheet == RED).all(axis=2).argmax(axis=0).max())
    assert written[:first_red].any()
    assert not written[first_red:].any()  # the second row has no name


def test_a_montage_of_nothing_is_a_small_blank() -> None:
    assert np.asarray(montage([], gap=3)).shape == (3, 3, 3)
    assert (np.asarray(montage([[]], height=10, captions=("only a caption",))) < 128).any()


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(bad: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        montage([[bad]])
