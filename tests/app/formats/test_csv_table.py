from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.formats import csv_table
from model.labels import FrameResult, LabelObject, ObjectResult
from model.rendered import RenderedClip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def test_a_row_for_every_frame_and_object(
    export_input: Callable, clip: RenderedClip, results: list[FrameResult], tmp_path: Path
) -> None:
    csv_table.write(export_input(), tmp_path / "a.csv")
    rows = read(tmp_path / "a.csv")
    assert [(int(row["frame"]), int(row["object"])) for row in rows] == [(f, o) for f in range(12) for o in (1, 2)]
    row = rows[2 * 7 + 1]
    assert (row["time_ms"], row["image"], row["name"], row["source"]) == ("280", "00007.jpg", "puppet", "propagated")
    assert (row["visible"], row["confidence"]) == ("1", "0.875")
    assert int(row["area"]) == (clip.mask(7) == 2).sum()
    assert [float(row[key]) for key in ("x", "y", "width", "height")] == list(results[7].objects[1].box or ())
    point = results[7].objects[1].keypoints[0]
    assert (float(row[f"{point.name}.x"]), float(row[f"{point.name}.y"])) == (point.x, point.y)
    assert rows[0][f"{point.name}.x"] == "", "the flower has no points"


def test_what_is_not_there_is_empty(export_input: Callable, tmp_path: Path) -> None:
    found = (
        ObjectResult(1, False, 0.0, None, None, (), "propagated"),
        ObjectResult(2, True, 0.5, None, (1.0, 2.0, 3.5, 4.0), (), "anchor"),
    )
    objects = (LabelObject(1, 'a "quoted", name', (0, 0, 0)), LabelObject(2, "b", (0, 0, 0)))
    csv_table.write(export_input([FrameResult(0, 0, found)], objects=objects), tmp_path / "a.csv")
    gone, boxed = read(tmp_path / "a.csv")
    assert (gone["name"], gone["visible"], gone["x"], gone["area"]) == ('a "quoted", name', "0", "", "")
    assert (boxed["width"], boxed["area"]) == ("3.5", "14.0")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_results_are_read_back(
    scene: Callable, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    given_results = scene(data)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    csv_table.write(given_results, path)
    names = {object_.id: object_.name for object_ in given_results.objects}
    rows = iter(read(path))
    for result in given_results.results():
        for found in result.objects:
            row = next(rows)
            assert (int(row["frame"]), int(row["time_ms"])) == (result.frame, result.time_ms)
            assert (int(row["object"]), row["name"]) == (found.object, names[found.object])
            assert (row["x"] != "") == (found.box is not None)
            for point in found.keypoints:
                assert float(row[f"{point.name}.x"]) == point.x
                assert bool(int(row[f"{point.name}.visible"])) == point.visible
    assert next(rows, None) is None
