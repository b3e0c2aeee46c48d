from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from app.formats import coco
from model.labels import FrameResult, KeypointResult, LabelObject, ObjectResult, Skeleton
from model.rendered import RenderedClip


@pytest.fixture
def write(export_input: Callable, tmp_path: Path) -> Callable[..., dict]:
    """Writes the export and reads it back."""

    def do(*args: object, **changes: object) -> dict:
        coco.write(export_input(*args, **changes), tmp_path / "coco.json")
        return json.loads((tmp_path / "coco.json").read_text())

    return do


def test_the_reference_reader_finds_every_mask(write: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    write()
    read = COCO(tmp_path / "coco.json")
    assert len(read.imgs) == 12
    for annotation in read.dataset["annotations"]:
        image = read.imgs[annotation["image_id"]]
        truth = clip.mask(image["frame_index"]) == annotation["track_id"]
        assert np.array_equal(read.annToMask(annotation).astype(bool), truth)
        assert annotation["area"] == truth.sum()
        x, y, w, h = annotation["bbox"]
        rows, columns = np.nonzero(truth)
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_frames_and_objects_can_be_told_apart(write: Callable) -> None:
    document = write()
    assert document["videos"] == [{"id": 1, "name": "clip.mp4", "width": 96, "height": 64, "length": 12, "fps": 25.0}]
    image = document["images"][7]
    assert (image["frame_index"], image["time_ms"], image["file_name"], image["video_id"]) == (7, 280, "00007.jpg", 1)
    assert {(a["video_id"], a["track_id"]) for a in document["annotations"]} == {(1, 1), (1, 2)}
    ids = [annotation["id"] for annotation in document["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert {a["source"] for a in document["annotations"] if a["image_id"] == 1} == {"anchor"}


def test_keypoints_follow_the_skeleton(write: Callable, clip: RenderedClip, results: list[FrameResult]) -> None:
    document = write()
    category = next(c for c in document["categories"] if c["name"] == clip.objects[1].name)
    assert category["keypoints"] == list(clip.skeleton.points)
    assert category["skeleton"] == [[a + 1, b + 1] for a, b in clip.skeleton.edges]
    annotation = next(a for a in document["annotations"] if a["track_id"] == 2 and a["image_id"] == 6)
    given = {point.name: point for point in results[5].objects[1].keypoints}
    for k, name in enumerate(category["keypoints"]):
        x, y, v = annotation["keypoints"][3 * k : 3 * k + 3]
        point = given.get(name)
        assert (x, y, v) == ((0, 0, 0) if point is None else (point.x, point.y, 2 if point.visible else 1))
    assert annotation["num_keypoints"] == len(given)


def test_objects_of_one_name_share_a_category_and_points_without_a_skeleton_are_found(write: Callable) -> None:
    points = (KeypointResult("tail", 5.0, 6.0, True, 0.5), KeypointResult("nose", 9.0, 8.0, False, 0.5))
    found = (
        ObjectResult(1, True, 0.5, None, None, points, "propagated"),
        ObjectResult(2, True, 0.5, None, (1.0, 2.0, 3.0, 4.0), (), "propagated"),
        ObjectResult(3, False, 0.5, None, None, (), "propagated"),
    )
    objects = (
        LabelObject(1, "dog", (1, 2, 3)),
        LabelObject(2, "cat", (1, 2, 3)),
        LabelObject(3, "cat", (1, 2, 3)),
        LabelObject(4, "cat", (1, 2, 3), Skeleton(("a",))),
    )
    document = write([FrameResult(0, 0, found)], objects=objects)
    assert [(c["name"], c.get("keypoints")) for c in document["categories"]] == [
        ("dog", ["tail", "nose"]),
        ("cat", None),
        ("cat", ["a"]),
    ]
    dog, cat = document["annotations"]
    assert (dog["keypoints"], dog["bbox"]) == ([5.0, 6.0, 2, 9.0, 8.0, 1], [5.0, 6.0, 0.0, 0.0])
    assert (cat["bbox"], cat["area"], cat["segmentation"]) == ([1.0, 2.0, 3.0, 4.0], 12.0, [])


def test_a_job_without_visible_objects_is_still_a_document(write: Callable) -> None:
    document = write([FrameResult(0, 0, ())])
    assert (len(document["images"]), document["annotations"]) == (1, [])
