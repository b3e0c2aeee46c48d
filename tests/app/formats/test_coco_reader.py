from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from model.errors import InputError
from model.labels import rle

# As the data set's own description has it (cocodataset.org, "Data format"): an outline, run lengths, a person's points.
DOCUMENT: dict[str, Any] = {
    "info": {"year": 2017, "description": "x"},
    "licenses": [],
    "images": [
        {"id": 139, "width": 8, "height": 6, "file_name": "000000000003.jpg", "license": 2, "date_captured": "2013"},
        {"id": 140, "width": 8, "height": 6, "file_name": "000000000004.jpg"},
    ],
    "categories": [
        {"id": 1, "name": "person", "supercategory": "person", "keypoints": ["nose", "eye"], "skeleton": [[1, 2]]},
        {"id": 18, "name": "dog", "supercategory": "animal"},
    ],
    "annotations": [
        {
            "id": 1768, "image_id": 139, "category_id": 18, "iscrowd": 0, "area": 6.0, "bbox": [1, 1, 3, 2],
            "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]],
        },
        {
            "id": 1769, "image_id": 139, "category_id": 1, "iscrowd": 0, "bbox": [2.5, 0, 5, 6], "num_keypoints": 1,
            "keypoints": [3, 2, 1, 0, 0, 0], "segmentation": [],
        },
        {
            "id": 1770, "image_id": 140, "category_id": 18, "iscrowd": 1,
            "segmentation": {"size": [6, 8], "counts": [6, 12, 30]},
        },
    ],
}  # fmt: skip


def changed(path: str, value: Any) -> str:
    """The document with one field, named by its pointer, set to something else."""
    document = copy.deepcopy(DOCUMENT)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")[1:]]
    at: Any = document
    for part in way:
        at = at[part]
    at[last] = value
    return json.dumps(document)


def test_the_data_sets_own_kinds_of_annotations(read_file: Callable) -> None:
    imported = read_file("coco", {"instances.json": json.dumps(DOCUMENT)})
    assert imported.objects == [
        {"id": 1, "name": "dog"},
        {"id": 2, "name": "person", "skeleton": {"points": ["nose", "eye"], "edges": [[0, 1]]}},
    ]
    first, second = imported.anchors
    assert (first["frame"], second["frame"]) == (3, 4)
    assert first["labels"] == [
        {"object": 1, "polygon": [[1, 1, 4, 1, 4, 3, 1, 3]]},
        {
            "object": 2,
            "box": [2.5, 0.0, 5.0, 6.0],
            "keypoints": [{"name": "nose", "x": 3.0, "y": 2.0, "visible": False}],
        },
    ]
    mask = rle.decode(second["labels"][0]["mask"])
    assert np.array_equal(mask, np.isin(np.arange(48).reshape(8, 6).T // 6, [1, 2]))


def test_parts_are_joined_as_the_reference_joins_them(read_file: Callable) -> None:
    rings = [[1, 1, 5, 1, 5, 4, 1, 4], [3, 2, 7, 2, 7, 5, 3, 5]]
    imported = read_file("coco", {"a.json": changed("/annotations/0/segmentation", rings)})
    merged = reference.decode(reference.merge(reference.frPyObjects(rings, 6, 8))).astype(bool)
    assert np.array_equal(rle.decode(imported.anchors[0]["labels"][0]["mask"]), merged)


def test_a_mask_of_the_reference_is_read(read_file: Callable) -> None:
    mask = np.random.default_rng(0).random((6, 8)) < 0.5
    encoded = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [6, 8], "counts": encoded["counts"].decode()}
    imported = read_file("coco", {"a.json": changed("/annotations/0/segmentation", segmentation)})
    assert np.array_equal(rle.decode(imported.anchors[0]["labels"][0]["mask"]), mask)


@pytest.mark.parametrize("field", ["track_id", "instance_id", "attributes"])
def test_numbers_tell_objects_of_one_class_apart(read_file: Callable, field: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    dogs = [{**document["annotations"][0], "image_id": image} for image in (139, 139, 140)]
    for dog, number in zip(dogs, (7, 300, 7), strict=True):
        dog[field] = {"track_id": number, "occluded": False} if field == "attributes" else number
    document["annotations"] = dogs
    imported = read_file("coco", {"a.json": json.dumps(document)})
    assert [object_["id"] for object_ in imported.objects] == [1, 7], "300 is no id that an object can have"
    assert [[label["object"] for label in anchor["labels"]] for anchor in imported.anchors] == [[1, 7], [7]]


def test_without_numbers_two_of_a_class_are_only_read_on_a_single_frame(read_file: Callable) -> None:
    document = copy.deepcopy(DOCUMENT)
    dog = document["annotations"][0]
    document["annotations"] = [dog, dict(dog)]
    imported = read_file("coco", {"a.json": json.dumps(document)})
    assert [object_["name"] for object_ in imported.objects] == ["dog", "dog"]
    document["annotations"].append({**dog, "image_id": 140})
    with pytest.raises(InputError, match="nothing says which is which"):
        read_file("coco", {"a.json": json.dumps(document)})


@pytest.mark.parametrize(("field", "value"), [("source", "propagated"), ("attributes", {"keyframe": False})])
def test_what_a_program_made_is_no_anchor(read_file: Callable, field: str, value: Any) -> None:
    imported = read_file("coco", {"a.json": changed(f"/annotations/2/{field}", value)})
    assert [anchor["frame"] for anchor in imported.anchors] == [3]
    document = copy.deepcopy(DOCUMENT)
    for annotation in document["annotations"]:
        annotation[field] = value
    with pytest.raises(InputError, match="Remove that mark from those that a person has checked"):
        read_file("coco", {"a.json": json.dumps(document)})


@pytest.mark.parametrize(("field", "frame"), [("frame_index", 9), ("frame_id", 0)])
def test_an_image_may_say_its_frame(read_file: Callable, field: str, frame: int) -> None:
    imported = read_file("coco", {"a.json": changed(f"/images/0/{field}", frame)})
    assert sorted(anchor["frame"] for anchor in imported.anchors) == sorted({frame, 4})


def test_images_are_found_by_their_names(read_file: Callable) -> None:
    names = ("x/000000000004.jpg", "x/000000000003.jpg")
    imported = read_file("coco", {"a.json": json.dumps(DOCUMENT)}, names=names)
    assert [anchor["frame"] for anchor in imported.anchors] == [0, 1]
    assert imported.anchors[1]["labels"][0]["polygon"]


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("/annotations/0/image_id", 99, "/annotations/0/image_id: there is no image 99"),
        ("/annotations/0/category_id", 99, "/annotations/0/category_id: there is no category 99"),
        ("/annotations/0/bbox", "x", "/annotations/0/bbox: Input should be a valid"),
        ("/annotations/1/bbox", [1, 2, 3], "/annotations/1/bbox: a box is x, y, width, height"),
        ("/annotations/1/bbox", [1, 2, 0, 3], "/annotations/1/bbox: the box .* has no extent"),
        ("/annotations/1/bbox", [1, 2, 30, 3], "/annotations/1/bbox: 31 lies outside the frame"),
        ("/annotations/1/keypoints", [1, 2, 2], "/annotations/1/keypoints: 3 numbers"),
        ("/annotations/1/keypoints", [99, 2, 2, 0, 0, 0], "/annotations/1/keypoints: 99 lies outside"),
        ("/annotations/0/segmentation", [[1, 2, 3, 4]], "/annotations/0/segmentation: 4 numbers are no outline"),
        ("/annotations/0/segmentation", [[1, 2, 3, 4, 5, 900]], "/annotations/0/segmentation: 900 lies outside"),
        ("/annotations/0/segmentation", "masks/1.png", "/annotations/0/segmentation: neither polygons"),
        ("/annotations/0/segmentation", [["a"] * 6], "/annotations/0/segmentation: an outline is a list of numbers"),
        ("/annotations/0/segmentation", {"size": [6, 8], "counts": [1, 2]}, "/annotations/0/segmentation: "),
        ("/annotations/0/segmentation", {"size": [99, 99], "counts": [9801]}, "/annotations/0/segmentation: "),
        ("/images/0/width", 16, "/images/0: the image is 16 x 6 pixels, but the video's frames are 8 x 6"),
        ("/images/0/file_name", "dog.jpg", "/images/0/file_name: the name has no frame number"),
        ("/images/0/file_name", "00010.jpg", "/images/0/file_name: frame 10 is not in the video"),
        ("/images/0/frame_index", -1, "/images/0/frame_index: frame -1 is not in the video"),
        ("/images/0/file_name", "", "/images/0: neither `frame_index` nor `file_name`"),
        ("/categories/1/name", "a\nb", "is no name"),
        ("/categories/0/skeleton", [[0, 1]], "`skeleton` of category 'person'"),
        ("/annotations", [], "labels no object"),
        ("/images", {}, "/images: Input should be a valid array"),
    ],
)
def test_faults_are_told_by_their_field(read_file: Callable, path: str, value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_file("coco", {"a.json": changed(path, value)})
    assert caught.value.slug == "bad-annotations"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "a.json: Invalid JSON"),
        ("<html>", "a.json: Invalid JSON: expected value at line 1 column 1"),
        ('{"images": [}', "line 1 column"),
        ("[" * 100_000, "a.json: "),
        ('{"images": [], "categories": []}', "/annotations: Field required"),
        (changed("/annotations/0/bbox", [float("nan")] * 4), "a.json: "),
        (b"\xff\xfe{}", "a.json: "),
    ],
)
def test_what_is_no_such_document(read_file: Callable, text: str | bytes, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_file("coco", {"a.json": text})
    assert caught.value.slug == "bad-annotations"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_results_survive_the_round_trip(scene: Callable, reread: Callable, data: st.DataObject) -> None:
    results = scene(data)
    expected = {
        (result.frame, found.object): found for result in results.results() for found in result.objects if found.visible
    }
    if not expected:
        return
    imported, labels = reread("coco", results)
    names = {object_.id: object_.name for object_ in results.objects}
    assert all(object_["name"] == names[object_["id"]] for object_ in imported.objects)
    assert set(labels) == set(expected)
    for key, found in expected.items():
        label = labels[key]
        assert [(p.name, p.x, p.y, p.visible) for p in sorted(found.keypoints, key=lambda p: p.name)] == [
            (p.name, p.x, p.y, p.visible) for p in sorted(label.keypoints, key=lambda p: p.name)
        ]
        if found.mask is not None:
            assert np.array_equal(label.mask, found.mask)
        else:
            assert (label.box is None) == (found.box is None)
            assert found.box is None or np.allclose(label.box, found.box, atol=1e-3)
