from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.formats.class_list import parse_classes
from model.errors import InputError

KEYS = ("names", "kpt_shape", "kpt_names")
ANY = st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.sampled_from(" :#,'\"-[]{}&*!")
NAMES = st.text(ANY, min_size=1, max_size=12).map(str.strip).filter(lambda text: bool(text) and text.isprintable())
WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,6}( [a-z0-9]{1,5})?", fullmatch=True)


def documents(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict]:
    """Descriptions of data sets whose classes have such names."""
    lists = st.lists(names, min_size=1, max_size=5)
    return st.fixed_dictionaries(
        {"names": lists | st.dictionaries(st.integers(0, 99), names, min_size=1, max_size=5)},
        optional={
            "kpt_shape": st.lists(st.integers(0, 300), min_size=2, max_size=2),
            "kpt_names": st.dictionaries(st.integers(0, 9), lists, min_size=1, max_size=3),
            "path": names,
            "roboflow": st.dictionaries(names, names | st.lists(names), max_size=3),
        },
    )


def read(text: str) -> dict[str, Any]:
    return parse_classes(text, "data.yaml", KEYS)


@settings(max_examples=150, deadline=None)
@given(documents(WORDS), st.sampled_from([None, True, False]))
def test_what_yaml_writes_is_read_as_yaml_reads_it(document: dict, flow: bool | None) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow, sort_keys=False, width=10_000)
    assert read(text) == {key: value for key, value in yaml.safe_load(text).items() if key in KEYS}


@settings(max_examples=200, deadline=None)
@given(documents(NAMES), st.sampled_from([None, True, False]), st.booleans())
def test_names_of_any_characters_are_never_misread(document: dict, flow: bool | None, plain: bool) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=plain, sort_keys=False)
    found: dict | str
    try:
        found = read(text)
    except InputError as error:
        found = error.slug
    expected = {key: value for key, value in yaml.safe_load(text).items() if key in KEYS}
    assert found in (expected, "bad-annotations")


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("names: -[]{},'\"#\n 01a&*|?\t"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        assert set(read("names:" + text)) <= set(KEYS)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [dog, 'a, b', \"c: d\"]  # animals", ["dog", "a, b", "c: d"]),
        ("names: [dog,\n  cat,\n  'x # y']\nnc: 3", ["dog", "cat", "x # y"]),
        ("train: ../x\nnames:\n# first\n- dog # barks\n- it's\nval: y", ["dog", "it's"]),
        (
            "---\nnames:\n    0: dog\n\n    1: traffic light\nother:\n  - a: 1\n    b: 2\n",
            {0: "dog", 1: "traffic light"},
        ),
        ("download: |\n  names: [no]\n  - x\nnames: {0: dog, 1: 'no'}", {0: "dog", 1: "no"}),
        ("names: [no, yes, null, 1.5, 007, c#, a:b]", ["no", "yes", "null", "1.5", 7, "c#", "a:b"]),
        ('{"names": ["dog"], "nc": 1}', ["dog"]),
        ("names: []", []),
    ],
)
def test_the_ways_that_are_in_use(text: str, names: Any) -> None:
    assert read(text)["names"] == names


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("names: [a, b", "line 1: a bracket is not closed"),
        ("names: [a b: c]", "line 1: a comma is missing"),
        ("names: [a] b", "line 1: something stands behind"),
        ("names: {a}", "line 1: a `key: value` is missing its colon"),
        ("x: 1\nnames: *other", r"line 2: '\*other' is more YAML"),
        ("names: !!python/object:os.system x", "line 1: '!!python"),
        ("names: |\n  dog\n", "line 2: a text over several lines"),
        ("names:\n- id: 0\n  name: dog", "line 2: an entry of this list is no name"),
        ("names: 'dog", 'line 1: "\'dog" is not closed'),
        ("names: a\nnames: b", "line 2: 'names' stands twice"),
        ("names:\n  0: a\n    1: b", "line 3: a text over several lines"),
        ("names: " + "[" * 500, "line 1: a bracket is not closed"),
        ("names: " + "[" * 500 + "]" * 500, "nested too deep"),
        ("hello", "line 1: 'hello' is no `key: value`"),
    ],
)
def test_what_is_refused_is_told_by_its_line(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read(text)
