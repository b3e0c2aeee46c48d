from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model.rendered import render_clip
from model.training.pictures import localisation_picture

RED, BLUE = (200, 0, 0), (0, 0, 200)


def _plain(colour: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def _yellow(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (picture == (255, 214, 10)).all(axis=2)


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
