from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from app.formats import coco_keypoints
from model.labels import FrameResult, LabelObject, ObjectResult


def test_the_reference_evaluates_it_against_itself(export_input: Callable, tmp_path: Path) -> None:
    coco_keypoints.write(export_input(), tmp_path / "a.json")
    truth = COCO(tmp_path / "a.json")
    assert [category["name"] for category in truth.dataset["categories"]] == ["puppet"]
    points = truth.dataset["categories"][0]["keypoints"]
    evaluation = COCOeval(truth, truth.loadRes(truth.dataset["annotations"]), "keypoints")
    evaluation.params.kpt_oks_sigmas = __import__("numpy").full(len(points), 0.05)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval["precision"].min() > 0.999


def test_only_annotations_with_points_stay(export_input: Callable, results: list[FrameResult], tmp_path: Path) -> None:
    without = ObjectResult(2, True, 0.5, None, (1.0, 1.0, 9.0, 9.0), (), "propagated")
    coco_keypoints.write(export_input([results[0], FrameResult(1, 40, (without,))]), tmp_path / "a.json")
    read = COCO(tmp_path / "a.json")
    assert len(read.imgs) == 2
    assert [annotation["image_id"] for annotation in read.dataset["annotations"]] == [1]
    assert all(annotation["num_keypoints"] for annotation in read.dataset["annotations"])


def test_without_any_points_it_is_an_empty_document(
    export_input: Callable, results: list[FrameResult], tmp_path: Path
) -> None:
    only_flower = [FrameResult(0, 0, results[0].objects[:1])]
    coco_keypoints.write(export_input(only_flower, objects=(LabelObject(1, "flower", (0, 0, 0)),)), tmp_path / "a.json")
    assert COCO(tmp_path / "a.json").dataset["annotations"] == []
