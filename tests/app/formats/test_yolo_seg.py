from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.formats import yolo_seg
from app.formats.options import ExportOptions
from model.errors import InputError
from model.rendered import RenderedClip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_ids_and_names_survive_the_round_trip(scene: Callable, reread: Callable, data: st.DataObject) -> None:
    results = scene(data, kinds=("mask",))
    expected = {
        (result.frame, found.object): found.mask
        for result in results.results()
        for found in result.objects
        if found.mask is not None
    }
    if not expected:
        return
    imported, labels = reread("yolo-seg", results, tolerance=0.0)
    assert set(labels) == set(expected)
    assert all(np.array_equal(labels[key].mask, mask) for key, mask in expected.items())
    names = {object_.id: object_.name for object_ in results.objects}
    assert all(object_["name"] == names[object_["id"]] for object_ in imported.objects)


@pytest.mark.parametrize(("tolerance", "least"), [(0.0, 0.75), (0.5, 0.75)])
def test_supervision_loads_the_data_set(
    export_input: Callable, clip: RenderedClip, tmp_path: Path, tolerance: float, least: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it works without OpenCV
        import supervision

    yolo_seg.write(export_input(options=ExportOptions(tolerance=tolerance)), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "images").mkdir()
    for frame, image in enumerate(clip.frames()):
        Image.fromarray(image).save(tmp_path / "images" / f"{frame:05d}.png")
    read = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml"), force_masks=True
    )
    assert read.classes == ["flower", "puppet"]
    for path, _, found in read:
        truth = clip.mask(int(Path(path).stem))
        assert sorted(found.class_id.tolist()) == [0, 1]
        for class_id, mask in zip(found.class_id, found.mask, strict=True):
            wanted = truth == class_id + 1
            # It paints the outline's own pixels too, half a pixel more on each side; these objects are small.
            assert not (wanted & ~mask).sum() > 0.06 * wanted.sum()
            assert (mask & wanted).sum() / (mask | wanted).sum() > least


def test_the_rows_of_the_documentation(read_file: Callable) -> None:
    """docs.ultralytics.com/datasets/segment: outlines of different length, one object a row."""
    rows = "0 0.25 0.5 0.75 0.5 0.75 1.0\n1 0.5 0 0.5 0.5 1 0.5 1 0\n"
    imported = read_file("yolo-seg", {"00002.txt": rows})
    assert imported.objects == [{"id": 1, "name": "class-0"}, {"id": 2, "name": "class-1"}]
    assert [label["polygon"] for label in imported.anchors[0]["labels"]] == [
        [[2.0, 3.0, 6.0, 3.0, 6.0, 6.0]],
        [[4.0, 0.0, 4.0, 3.0, 8.0, 3.0, 8.0, 0.0]],
    ]


@pytest.mark.parametrize("row", ["0 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 0.1 0.1 0.1 0.1"])
def test_rows_that_are_no_outline(read_file: Callable, row: str) -> None:
    with pytest.raises(InputError, match=r"00002\.txt, line 1: \d numbers after the class are no outline"):
        read_file("yolo-seg", {"00002.txt": row})
