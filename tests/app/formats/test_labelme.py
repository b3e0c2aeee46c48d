from __future__ import annotations

import base64
import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.formats import labelme
from model.errors import InputError
from model.labels import FrameResult, LabelObject, ObjectResult, rle
from model.rendered import RenderedClip


def grey(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


# As LabelMe writes it (github.com/wkentaro/labelme, examples): every kind of shape that is read.
SHAPE = {"group_id": None, "description": "", "flags": {}, "mask": None}
DOCUMENT: dict[str, Any] = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        {**SHAPE, "label": "dog", "shape_type": "polygon", "points": [[1, 1], [4, 1], [4, 3], [1, 3]]},
        {**SHAPE, "label": "cat", "shape_type": "rectangle", "points": [[7.5, 6], [5, 3.5]]},
        {
            **SHAPE, "label": "hole", "shape_type": "mask", "points": [[2, 1], [4, 3]],
            "mask": grey(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])),
        },
        {**SHAPE, "label": "part", "shape_type": "polygon", "points": [[0, 0], [2, 0], [2, 2]], "group_id": 9},
        {**SHAPE, "label": "part", "shape_type": "rectangle", "points": [[4, 4], [6, 6]], "group_id": 9},
        {**SHAPE, "label": "nose", "shape_type": "point", "points": [[3.5, 2.5]], "group_id": 9},
    ],
    "imagePath": "00004.jpg",
    "imageData": None,
    "imageHeight": 6,
    "imageWidth": 8,
}  # fmt: skip


def changed(path: str, value: Any) -> str:
    document = copy.deepcopy(DOCUMENT)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")[1:]]
    at: Any = document
    for part in way:
        at = at[part]
    at[last] = value
    return json.dumps(document)


def test_every_kind_of_shape(read_file: Callable) -> None:
    imported = read_file("labelme", {"any name.json": json.dumps(DOCUMENT)})
    assert [(object_["id"], object_["name"]) for object_ in imported.objects] == [
        (1, "dog"), (2, "cat"), (3, "hole"), (9, "part"),
    ]  # fmt: skip
    (anchor,) = imported.anchors
    dog, cat, hole, part = anchor["labels"]
    assert anchor["frame"] == 4
    assert dog["polygon"] == [[1, 1, 4, 1, 4, 3, 1, 3]]
    assert cat["box"] == [5.0, 3.5, 2.5, 2.5]
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert np.array_equal(rle.decode(hole["mask"]), expected)
    joined = rle.decode(part["mask"])
    assert joined[4:6, 4:6].all()
    assert joined[0, 1]
    assert part["keypoints"] == [{"name": "nose", "x": 3.5, "y": 2.5, "visible": True}]


def test_points_without_a_group_belong_to_the_only_object(read_file: Callable) -> None:
    document = copy.deepcopy(DOCUMENT)
    point = {**SHAPE, "label": "nose", "shape_type": "point", "points": [[3, 2]]}
    document["shapes"] = [document["shapes"][0], point]
    (label,) = read_file("labelme", {"a.json": json.dumps(document)}).anchors[0]["labels"]
    assert label["keypoints"][0]["name"] == "nose"
    document["shapes"] = [point, {**point, "label": "ear"}]
    (label,) = read_file("labelme", {"a.json": json.dumps(document)}).anchors[0]["labels"]
    assert [at["name"] for at in label["keypoints"]] == ["nose", "ear"]
    document["shapes"] = [*DOCUMENT["shapes"][:2], point]
    with pytest.raises(InputError, match="/shapes/2: whose is the point 'nose'"):
        read_file("labelme", {"a.json": json.dumps(document)})


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("/imageWidth", 16, "the picture was 16 x 6 pixels, but the video's frames are 8 x 6"),
        ("/imagePath", "dog.jpg", "a.json: /imagePath: the name has no frame number"),
        ("/imagePath", "..\\..\\00099.jpg", "frame 99 is not in the video"),
        ("/shapes/0/points", [[1, 1], [2, 2]], "/shapes/0: 4 numbers are no outline"),
        ("/shapes/0/points", [[1, 1], [2, 2], [99, 3]], "/shapes/0: 99 lies outside the frame"),
        ("/shapes/0/points", [[1, 1, 1]], "a.json: /shapes/0/points/0"),
        ("/shapes/0/shape_type", "circle", "/shapes/0: a 'circle' of 4 points is not read. Draw a polygon"),
        ("/shapes/0/label", "", "/shapes/0: '' is no name"),
        ("/shapes/1/points", [[5, 3.5], [5, 6]], "/shapes/1: the box .* has no extent"),
        ("/shapes/2/mask", "????", "/shapes/2/mask: it is not base64"),
        ("/shapes/2/mask", "aGVsbG8=", "/shapes/2/mask: The mask is not a PNG"),
        ("/shapes/2/mask", grey(np.ones((100, 100))), "/shapes/2/mask: The mask of 100 x 100 pixels is larger"),
        ("/shapes/2/points", [[2, 1], [3, 3]], "/shapes/2: the mask of 3 x 3 pixels does not fit its corners"),
        ("/shapes/2/points", [[6, 1], [8, 3]], "does not fit its corners"),
        ("/shapes/2/points", [[2, 4], [4, 6]], "/shapes/2: the mask leaves the frame"),
        ("/shapes/2/points", [[2, 1]], "/shapes/2: a mask has two corners"),
        ("/shapes/4/label", "other", "/shapes/3: the shapes of group 9 are called 'other' and 'part'"),
        ("/shapes/5/points", [[1, 1], [2, 2]], "/shapes/5: a point has one place"),
        ("/shapes/5/points", [[100, 1]], "/shapes/5: 100 lies outside"),
        ("/shapes", [], "labels no object"),
        ("/shapes", {}, "a.json: /shapes"),
    ],
)
def test_faults_are_told_by_their_shape(read_file: Callable, path: str, value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_file("labelme", {"a.json": changed(path, value)})
    assert caught.value.slug == "bad-annotations"


def test_two_documents_of_one_frame(read_file: Callable) -> None:
    with pytest.raises(InputError, match=r"b.json and a.json are both frame 4"):
        read_file("labelme", {"a.json": json.dumps(DOCUMENT), "b.json": json.dumps(DOCUMENT)})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_results_survive_the_round_trip(scene: Callable, reread: Callable, data: st.DataObject) -> None:
    results = scene(data)
    expected = {
        (result.frame, found.object): found for result in results.results() for found in result.objects if found.visible
    }
    if not expected:
        return
    imported, labels = reread("labelme", results, tolerance=0.0)
    names = {object_.id: object_.name for object_ in results.objects}
    assert all(object_["name"] == names[object_["id"]] for object_ in imported.objects)
    assert set(labels) == set(expected)
    for key, found in expected.items():
        label = labels[key]
        assert [(p.name, p.x, p.y, p.visible) for p in found.keypoints] == [
            (p.name, p.x, p.y, p.visible) for p in label.keypoints
        ]
        if found.mask is not None:
            assert np.array_equal(label.mask, found.mask)
        else:
            assert (label.box is None) == (found.box is None)
            assert found.box is None or np.allclose(label.box, found.box, atol=1e-3)


def test_documents_are_named_after_their_pictures(export_input: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    labelme.write(export_input(), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"{frame:05d}.json" for frame in range(12)]
        document = json.loads(archive.read("00007.json"))
    assert (document["imagePath"], document["imageData"]) == ("00007.jpg", None)
    assert (document["imageWidth"], document["imageHeight"]) == (96, 64)
    flower = [shape for shape in document["shapes"] if shape["group_id"] == 1]
    assert {(shape["label"], shape["shape_type"]) for shape in flower} == {("flower", "polygon")}
    points = [shape for shape in document["shapes"] if shape["shape_type"] == "point"]
    assert {shape["description"] for shape in points} == {"puppet"}


def test_a_mask_with_a_hole_is_written_exactly(export_input: Callable, tmp_path: Path) -> None:
    mask = np.zeros((64, 96), bool)
    mask[10:40, 20:70] = True
    mask[20:30, 30:50] = False
    found = ObjectResult(5, True, 1.0, mask, None, (), "anchor")
    objects = (LabelObject(5, "ring", (0, 0, 0)),)
    labelme.write(export_input([FrameResult(0, 0, (found,))], objects=objects), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (shape,) = json.loads(archive.read("00000.json"))["shapes"]
    # As labelme.utils.shapes_to_label puts it back.
    (x1, y1), (x2, y2) = np.asarray(shape["points"]).astype(int)
    canvas = np.zeros((64, 96), bool)
    canvas[y1 : y2 + 1, x1 : x2 + 1] = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
    assert np.array_equal(canvas, mask)
