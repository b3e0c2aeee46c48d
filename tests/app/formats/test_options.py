from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats import FORMATS, find_variant, variant_filename, variant_name
from app.formats.options import ExportOptions, choose_options, parse_options
from model.errors import InputError

OVERLAY = FORMATS["overlay"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "outline": st.booleans(),
            "opacity": st.floats(0, 1),
            "names": st.booleans(),
            "confidence": st.booleans(),
        },
    )
)
def test_a_name_says_all_options_and_is_read_back(given_options: dict) -> None:
    options = choose_options(OVERLAY, given_options)
    name = variant_name(OVERLAY, options)
    assert find_variant(name) == (OVERLAY, options)
    assert (variant_filename(OVERLAY, options) == "overlay.mp4") == (options == ExportOptions())


def test_what_is_asked_for_in_two_ways_is_one_export() -> None:
    assert variant_name(OVERLAY, choose_options(OVERLAY, {"opacity": "0.38", "outline": "yes"})) == "overlay"
    assert variant_name(OVERLAY, choose_options(OVERLAY, {"opacity": 0.5000001})) == "overlay;opacity=0.5"
    names = {variant_filename(OVERLAY, choose_options(OVERLAY, {"opacity": k / 100})) for k in range(101)}
    assert len(names) == 101


@pytest.mark.parametrize(
    ("format_name", "text", "match"),
    [
        ("davis", "opacity=1", "no option 'opacity'; its options: none"),
        ("overlay", "colour=red", "`outline`, `opacity`, `names`, `confidence`"),
        ("overlay", "opacity=2", "from 0 to 1"),
        ("overlay", "opacity=nan", "from 0 to 1"),
        ("overlay", "opacity=x", "a number"),
        ("overlay", "names=maybe", "true or false"),
        ("yolo-seg", "tolerance=-0.1", "from 0 to 100"),
        ("overlay", "names", "name=value"),
    ],
)
def test_options_that_do_not_exist_are_refused(format_name: str, text: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        choose_options(FORMATS[format_name], parse_options(text))
    assert caught.value.slug == "invalid-request"
