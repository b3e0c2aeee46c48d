from __future__ import annotations

import numpy as np
import pytest
from cvat_sdk import masks as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.formats import cvat_rle
from model.errors import LabelError

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(masks)
def test_the_sdk_writes_the_same_numbers(mask: np.ndarray) -> None:
    assert cvat_rle.encode(mask) == reference.encode_mask(mask)


@given(masks, st.data())
def test_the_sdk_reads_the_same_mask_in_any_box(mask: np.ndarray, data: st.DataObject) -> None:
    height, width = mask.shape
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    points = reference.encode_mask(mask, [x0, y0, x1, y1])
    read = cvat_rle.decode(points, width, height)
    assert np.array_equal(read, reference.decode_mask(points, image_width=width, image_height=height))
    assert np.array_equal(read[y0:y1, x0:x1], mask[y0:y1, x0:x1])


def test_what_lies_beyond_the_frame_is_cut_off() -> None:
    assert cvat_rle.decode([0, 9, -1, -1, 1, 1], 4, 4).nonzero()[0].tolist() == [0, 0, 1, 1]
    assert not cvat_rle.decode([0, 4, 10, 10, 11, 11], 4, 4).any()


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([1, 2, 3, 4], "whole numbers"),
        ([1.5, 0, 0, 0, 0], "whole numbers"),
        ([float("inf"), 0, 0, 0, 0], "whole numbers"),
        ([1, 0, 0, -1, 0], "no pixels"),
        ([3, 0, 0, 1, 1], r"add up to 3, but the mask's box has 2 x 2"),
        ([-1, 5, 0, 0, 1, 1], "add up"),
        ([0, 10**12, 0, 0, 999_999, 999_999], "far larger"),
    ],
)
def test_numbers_that_are_no_mask(points: list[float], says: str) -> None:
    with pytest.raises(LabelError, match=says) as caught:
        cvat_rle.decode(points, 4, 4)
    assert caught.value.slug == "bad-annotations"
