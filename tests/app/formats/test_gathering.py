from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from app.formats import ImportInput
from app.formats.gathering import Gathering
from model.errors import InputError
from model.video import FrameTable, VideoInfo

BOX = {"box": [1.0, 1.0, 2.0, 2.0]}


def gathering(width: int = 8, height: int = 6) -> Gathering:
    info = VideoInfo("mp4", "h264", width, height, 10, 400, Fraction(25), Fraction(1), 0, 1)
    table = FrameTable(np.arange(10, dtype=np.int64), np.ones(10, np.bool_), Fraction(1, 25))
    return Gathering(ImportInput(Path("x"), info, table, "x"))


def test_numbers_that_are_ids_stay_and_others_take_what_is_free() -> None:
    found = gathering()
    for number, name in ((300, "a"), (2, "b"), (0, "c"), (None, "d")):
        found.add(0, "x", name=name, number=number, region=BOX)
    imported = found.imported("x")
    assert {object_["name"]: object_["id"] for object_ in imported.objects} == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_anchors_and_objects_are_in_order() -> None:
    found = gathering()
    found.add(7, "x", number=9, region=BOX)
    found.add(2, "x", number=3, region=BOX)
    found.add(2, "x", number=1, region=BOX, name="late")
    imported = found.imported("x")
    assert [anchor["frame"] for anchor in imported.anchors] == [2, 7]
    assert [label["object"] for label in imported.anchors[0]["labels"]] == [1, 3]
    assert imported.objects == [{"id": 1, "name": "late"}, {"id": 3}, {"id": 9}]


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ({"number": 1}, {"number": 1}, "stands twice on frame 0"),
        ({"number": 1, "name": "a"}, {"number": 1, "name": "b"}, "is called 'b' here and 'a' before"),
        ({"number": 1}, {"number": 2, "region": None}, "neither a region nor a point"),
    ],
)
def test_contradictions(first: dict, second: dict, match: str) -> None:
    found = gathering()
    found.add(0, "x", **{"region": BOX, **first})
    with pytest.raises(InputError, match=match):
        found.add(0, "line 2", **{"region": BOX, **second})


def test_no_more_objects_than_there_are_ids() -> None:
    found = gathering()
    for number in range(1000, 1255):
        found.add(0, "x", number=number, region=BOX)
    with pytest.raises(InputError, match="255 objects, but a job has at most 254"):
        found.imported("x")


def test_no_more_pixels_than_a_job_may_hold() -> None:
    found = gathering(4096, 2304)
    for number in range(113):
        found.add(0, "x", number=number, region=BOX)
    with pytest.raises(InputError, match="more than 113 regions"):
        found.add(0, "x", number=113, region=BOX)
