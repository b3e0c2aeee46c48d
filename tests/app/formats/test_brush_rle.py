from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from app.formats import brush_rle
from model.errors import LabelError


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_masks_survive(mask: Any) -> None:
    packed = brush_rle.encode(mask)
    assert all(0 <= value <= 255 for value in packed)
    assert np.array_equal(brush_rle.decode(packed, size=mask.shape[::-1]), mask)


def test_the_stream_by_hand() -> None:
    # 1 x 3 pixels, off, on, on: 12 values, in runs of 4 and 8, each 1 (a run), 00 (3 bits), length - 1, value.
    bits = f"{12:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "100" + "011" + "00000000" + "100" + "111" + "11111111"
    bits += "0" * (-len(bits) % 8)
    by_hand = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush_rle.encode(np.array([[False, True, True]])) == by_hand
    assert brush_rle.decode(by_hand, size=(3, 1)).tolist() == [[False, True, True]]


def test_single_values_and_half_transparent_pixels_are_read() -> None:
    # One block of 8 single values (0, 00, length - 1 = 7): two pixels, of which the second is 200 of 255 opaque.
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111" + "000" + "111"
    bits += "".join(f"{value:08b}" for value in (9, 9, 9, 100, 9, 9, 9, 200))
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush_rle.decode(packed, size=(2, 1)).tolist() == [[False, True]]


def test_runs_longer_than_a_length_can_say_are_cut() -> None:
    mask = np.zeros((300, 300), np.bool_)
    mask[-1, -1] = True
    assert np.array_equal(brush_rle.decode(brush_rle.encode(mask), size=(300, 300)), mask)
    assert np.array_equal(brush_rle.decode(brush_rle.encode(~mask), size=(300, 300)), ~mask)


@given(arrays(np.bool_, (6, 9)), st.integers(min_value=0))
def test_a_cut_stream_is_refused(mask: Any, at: int) -> None:
    packed = brush_rle.encode(mask)
    # The last byte may hold nothing but filling.
    with pytest.raises(LabelError) as error:
        brush_rle.decode(packed[: at % (len(packed) - 1)], size=(9, 6))
    assert error.value.slug == "bad-rle"


@pytest.mark.parametrize(
    ("packed", "size", "said"),
    [
        ([1, 2, 300], (3, 1), "0 to 255"),
        ([1, "a"], (3, 1), "0 to 255"),
        ("text", (3, 1), "list"),
        (brush_rle.encode(np.ones((1, 3), np.bool_)), (4, 1), "original_width"),
        (brush_rle.encode(np.ones((1, 3), np.bool_)), (100_000, 100_000), "larger"),
        (brush_rle.encode(np.ones((1, 3), np.bool_)), (0, 1), "empty"),
    ],
)
def test_foreign_streams_are_refused_with_a_reason(packed: Any, size: tuple[int, int], said: str) -> None:
    with pytest.raises(LabelError, match=said):
        brush_rle.decode(packed, size=size)


def test_more_values_than_announced_are_refused() -> None:
    bits = f"{4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111" + "100" + "111" + "00000001" + "0000"
    packed = [int(bits[i : i + 8], 2) for i in range(0, len(bits) // 8 * 8, 8)]
    with pytest.raises(LabelError, match="more than"):
        brush_rle.decode(packed, size=(1, 1))


def test_label_studios_own_converter_agrees() -> None:
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush", reason="label-studio-sdk is heavy and not among the tests' packages"
    )
    random = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 13), (64, 96), (300, 300)):
        for mask in (random.random((height, width)) > 0.5, np.ones((height, width), np.bool_)):
            ours = brush_rle.encode(mask)
            assert np.array_equal(brush.decode_rle(ours).reshape(height, width, 4)[:, :, 3] > 0, mask)
            theirs = brush.mask2rle(mask.astype(np.uint8) * 255)
            assert np.array_equal(brush_rle.decode(theirs, size=(width, height)), mask)
