from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from model.errors import LabelError
from model.labels import rle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(masks)
@settings(max_examples=300, deadline=None)
def test_encode_writes_what_the_coco_api_writes(mask: np.ndarray) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert np.array_equal(rle.decode(ours), mask)
    assert rle.area(ours) == mask.sum()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0005, 0.02, 0.5]))
@settings(max_examples=20, deadline=None)
def test_large_masks_agree_with_the_coco_api_both_ways(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((480, 854)) < share
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode(mask)["counts"] == theirs["counts"].decode()
    assert np.array_equal(rle.decode({"size": [480, 854], "counts": theirs["counts"]}), mask)


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=30), st.data())
@settings(max_examples=100, deadline=None)
def test_run_lengths_of_any_kind_round_trip_through_the_compressed_form(counts: list[int], data: st.DataObject) -> None:
    # Empty runs are legal input although nobody needs them; the oracle compresses the list for us.
    total = sum(counts)
    if not 0 < total <= rle.MAX_PIXELS:
        return
    compressed = coco.frPyObjects({"size": [total, 1], "counts": counts}, total, 1)
    mask = rle.decode(compressed)
    assert np.array_equal(mask, coco.decode(compressed).astype(bool))
    assert np.array_equal(mask, rle.decode({"size": [total, 1], "counts": counts}))


def test_masks_of_other_types_and_layouts_encode_alike() -> None:
    mask = np.random.default_rng(1).random((30, 20)) < 0.3
    expected = rle.encode(mask)
    assert rle.encode(mask.astype(np.uint8) * 255) == expected
    assert rle.encode(np.asfortranarray(mask)) == expected
    assert rle.encode(np.repeat(mask, 2, axis=1)[:, ::2]) == expected


def test_a_decoded_mask_is_writable_and_contiguous() -> None:
    mask = rle.decode({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    assert mask.flags.c_contiguous
    assert mask.flags.writeable


BAD = {
    "no counts": {"size": [2, 3]},
    "not an object": [2, 3],
    "size of one": {"size": [6], "counts": [6]},
    "size is text": {"size": "23", "counts": [6]},
    "zero height": {"size": [0, 3], "counts": []},
    "fraction in size": {"size": [2.0, 3], "counts": [6]},
    "boolean in size": {"size": [True, 6], "counts": [6]},
    "too short": {"size": [2, 3], "counts": [1, 2]},
    "too long": {"size": [2, 3], "counts": [1, 2, 4]},
    "negative run": {"size": [2, 3], "counts": [8, -2]},
    "fraction in counts": {"size": [2, 3], "counts": [1.5, 4.5]},
    "text in counts": {"size": [2, 3], "counts": ["6"]},
    "boolean in counts": {"size": [2, 3], "counts": [5, True]},
    "huge number": {"size": [2, 3], "counts": [10**30]},
    "counts is a number": {"size": [2, 3], "counts": 6},
    "counts is null": {"size": [2, 3], "counts": None},
    "empty text": {"size": [2, 3], "counts": ""},
    "cut off in a number": {"size": [2, 3], "counts": "P"},
    "character below": {"size": [2, 3], "counts": "/6"},
    "character above": {"size": [2, 3], "counts": "6p"},
    "not ascii": {"size": [2, 3], "counts": "6é"},
    "number too long": {"size": [2, 3], "counts": "ooooooooo0"},
    "negative in text": {"size": [2, 3], "counts": "8N"},
    "frame too large": {"size": [100_000, 100_000], "counts": [10**10]},
}


@pytest.mark.parametrize("document", BAD.values(), ids=BAD.keys())
def test_every_fault_is_a_label_error(document: object) -> None:
    for function in (rle.decode, rle.area):
        with pytest.raises(LabelError) as caught:
            function(document)  # type: ignore[arg-type]
        assert caught.value.slug == "bad-rle"


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_mask_or_a_label_error(text: str) -> None:
    slug = None
    try:
        mask = rle.decode({"size": [5, 4], "counts": text})
    except LabelError as error:
        slug = error.slug
    if slug is None:
        assert np.array_equal(mask, coco.decode({"size": [5, 4], "counts": text.encode()}).astype(bool))
    else:
        assert slug == "bad-rle"


def test_counts_that_do_not_add_up_are_named() -> None:
    with pytest.raises(LabelError, match="add up to 3, but its size is 2 x 3 = 6"):
        rle.decode({"size": [2, 3], "counts": [1, 2]})


def test_a_mask_of_another_size_names_both() -> None:
    with pytest.raises(LabelError, match="3 x 2 pixels, but the video's frames are 6 x 4") as caught:
        rle.decode({"size": [2, 3], "counts": [6]}, size=(6, 4))
    assert caught.value.slug == "mask-size-mismatch"
    assert rle.decode({"size": [2, 3], "counts": [6]}, size=(3, 2)).shape == (2, 3)
