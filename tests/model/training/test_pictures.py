from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model.rendered import render_clip
from model.training.pictures import localisation_picture, montage

RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (255, 255, 255)


def _plain(colour: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def _yellow(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (picture == (255, 214, 10)).all(axis=2)


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


def test_a_box_is_drawn_where_the_patch_was_found() -> None:
    frame = _plain(BLUE, 100, 200)
    patch = _plain(RED, 50, 50)
    # Twice the frame's size, so the box's 30..70 by 20..80 are pixels 60..139 and 40..159 of the frame as shown.
    sheet = localisation_picture([patch], [frame], [(30, 20, 40, 60)], [patch], [patch], height=200)
    found = np.asarray(sheet)
    shown = (found == BLUE).all(axis=2)
    top, left = int(shown.any(axis=1).argmax()), int(shown.any(axis=0).argmax())
    rows, columns = _yellow(found).nonzero()
    assert (rows.min() - top, rows.max() - top) == (40, 159)
    assert (columns.min() - left, columns.max() - left) == (60, 139)
    assert (found[top + 100, left + 100] == BLUE).all()  # an outline only
    assert (found == RED).all(axis=2).sum() == 3 * 200 * 200


def test_a_row_per_sample_from_arrays_of_a_batch() -> None:
    clip = render_clip(width=96, height=64, frame_count=3)
    frames = np.stack([clip.frame(i) for i in range(3)])
    patches = frames[:, 10:42, 20:52]
    boxes = np.tile(np.array([20.0, 10.0, 32.0, 32.0]), (3, 1))
    one = localisation_picture(patches[:1], frames[:1], boxes[:1], patches[:1], patches[:1], height=64)
    three = localisation_picture(patches, frames, boxes, patches, patches, height=64)
    assert three.width == one.width
    assert three.height - one.height == 2 * (one.height - localisation_picture([], [], [], [], [], height=64).height)
    assert frames.shape == (3, 64, 96, 3)
    np.testing.assert_array_equal(frames[0], clip.frame(0))  # what was given is not drawn on


@pytest.mark.parametrize(
    ("box", "visible"),
    [
        ((-20, -20, 60, 60), True),
        ((-1e9, 5, 2e9, 20), True),
        ((10, 10, 0, 0), True),
        ((500, 10, 20, 20), False),
        ((math.nan, 0, 10, 10), False),
        ((0, 0, math.inf, 10), False),
    ],
)
def test_boxes_of_an_untrained_model_do_no_harm(box: tuple[float, ...], visible: bool) -> None:
    patch = _plain(RED, 20, 20)
    sheet = localisation_picture([patch], [_plain(BLUE, 80, 80)], [box], [patch], [patch], height=80)
    assert bool(_yellow(np.asarray(sheet)).any()) is visible


def test_samples_that_differ_in_number_are_refused() -> None:
    patch = _plain(RED, 20, 20)
    with pytest.raises(ValueError, match="shorter"):
        localisation_picture([patch, patch], [patch, patch], [(0, 0, 5, 5)], [patch, patch], [patch, patch])
