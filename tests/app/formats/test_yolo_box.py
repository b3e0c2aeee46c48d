from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.formats import yolo_box
from model.labels import FrameResult
from model.labels.raster import tight_box
from model.rendered import RenderedClip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_boxes_ids_and_names_survive_the_round_trip(scene: Callable, reread: Callable, data: st.DataObject) -> None:
    results = scene(data, kinds=("mask", "box"))
    expected = {
        (result.frame, found.object): found.box if found.mask is None else tight_box(found.mask)
        for result in results.results()
        for found in result.objects
        if found.visible
    }
    if not expected:
        return
    imported, labels = reread("yolo-box", results)
    assert set(labels) == set(expected)
    assert all(np.allclose(labels[key].box, box, atol=0.011) for key, box in expected.items())
    names = {object_.id: object_.name for object_ in results.objects}
    assert all(object_["name"] == names[object_["id"]] for object_ in imported.objects)


def test_supervision_loads_the_data_set(
    export_input: Callable, clip: RenderedClip, results: list[FrameResult], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import supervision

    yolo_box.write(export_input(), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "images").mkdir()
    for frame, image in enumerate(clip.frames()):
        Image.fromarray(image).save(tmp_path / "images" / f"{frame:05d}.png")
    read = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    for path, _, found in read:
        for class_id, corners in zip(found.class_id, found.xyxy, strict=True):
            x, y, width, height = results[int(Path(path).stem)].objects[class_id].box
            assert np.allclose(corners, (x, y, x + width, y + height), atol=1e-3)


def test_the_row_of_the_documentation_and_a_confidence(read_file: Callable) -> None:
    """docs.ultralytics.com/datasets/detect: the centre and the size; a sixth number is what `save_conf` adds."""
    imported = read_file("yolo-box", {"00002.txt": "0 0.5 0.5 0.25 0.5 0.91\n"})
    assert imported.anchors == [{"frame": 2, "labels": [{"object": 1, "box": [3.0, 1.5, 2.0, 3.0]}]}]
