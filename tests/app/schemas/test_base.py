# ruff: noqa: E501  (tables have one case a line)
from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from app.problems import FieldFault
from app.schemas.base import Document, Name, faults_of, pointer_of


class Example(Document):
    name: Name
    size: float = 0.0
    counts: tuple[int, int] = (0, 0)


def faults(document: object) -> list[FieldFault]:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate_json(json.dumps(document))
    return faults_of(caught.value, "/spec")


def test_pointers_are_escaped() -> None:
    assert pointer_of(("a/b", 0, "~c")) == "/a~1b/0/~0c"
    assert pointer_of(()) == ""


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, FieldFault("/spec/name", "This field is required.")),
        ({"name": "a", "x": 1}, FieldFault("/spec/x", "There is no field of this name. Remove it, or check its spelling.")),
        ({"name": "a", "size": float("nan")}, FieldFault("/spec/size", "Must be a finite number: NaN and Infinity are refused.")),
        ({"name": "a", "size": "1"}, FieldFault("/spec/size", "Input should be a valid number.")),
        ({"name": "a", "counts": [1, True]}, FieldFault("/spec/counts/1", "Input should be a valid integer.")),
        ({"name": "a\nb"}, FieldFault("/spec/name", "must not hold control characters or line breaks.")),
        ({"name": "  "}, FieldFault("/spec/name", "String should have at least 1 character.")),
    ],
)  # fmt: skip
def test_faults_say_where_and_what(document: dict, fault: FieldFault) -> None:
    assert faults(document) == [fault]


def test_the_value_itself_is_never_repeated() -> None:
    assert "secret" not in str(faults({"name": "x", "size": "secret" * 1000}))
