from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocotools import mask as reference

from app.formats import coco_video
from model.labels import FrameResult, LabelObject, ObjectResult
from model.rendered import RenderedClip


def write(given: object, path: Path) -> dict:
    coco_video.write(given, path)  # type: ignore[arg-type]
    return json.loads(path.read_text())


def test_each_object_is_one_annotation_with_a_mask_for_every_frame(
    export_input: Callable, clip: RenderedClip, tmp_path: Path
) -> None:
    document = write(export_input(), tmp_path / "a.json")
    video = document["videos"][0]
    assert (video["width"], video["height"], video["length"], len(video["file_names"])) == (96, 64, 12, 12)
    assert (video["frame_indices"], video["time_ms"][:3]) == (list(range(12)), [0, 40, 80])
    assert [(c["id"], c["name"]) for c in document["categories"]] == [(1, "flower"), (2, "puppet")]
    assert [annotation["track_id"] for annotation in document["annotations"]] == [1, 2]
    for annotation in document["annotations"]:
        for frame, segmentation in enumerate(annotation["segmentations"]):
            truth = clip.mask(frame) == annotation["track_id"]
            encoded = {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
            assert np.array_equal(reference.decode(encoded).astype(bool), truth)
            assert annotation["areas"][frame] == truth.sum() == reference.area(encoded)
            assert annotation["bboxes"][frame] == reference.toBbox(encoded).tolist()


def test_lists_have_null_where_the_object_is_not_seen(
    export_input: Callable, results: list[FrameResult], tmp_path: Path
) -> None:
    gone = ObjectResult(2, False, 0.1, None, None, (), "propagated")
    boxed = ObjectResult(2, True, 0.5, None, (1.0, 2.0, 3.0, 4.0), (), "propagated")
    some = [
        replace(results[2], objects=(results[2].objects[0], gone)),
        replace(results[6], objects=(boxed,)),
    ]
    objects = tuple(LabelObject(id_, "x", (0, 0, 0)) for id_ in (1, 2, 3))
    document = write(export_input(some, objects=objects), tmp_path / "a.json")
    first, second = document["annotations"]
    assert document["videos"][0]["frame_indices"] == [2, 6]
    assert [value is None for value in first["segmentations"]] == [False, True]
    assert (second["segmentations"], second["bboxes"]) == ([None, None], [None, [1.0, 2.0, 3.0, 4.0]])
    assert (second["areas"], second["scores"], second["length"]) == ([None, 12.0], [None, 0.5], 2)
    assert first["category_id"] == second["category_id"], "objects of one name"


def test_large_tracks_go_over_the_disk(export_input: Callable, tmp_path: Path, monkeypatch: object) -> None:
    before = write(export_input(), tmp_path / "a.json")
    monkeypatch.setattr(coco_video, "_IN_MEMORY", 10)  # type: ignore[attr-defined]
    assert write(export_input(), tmp_path / "b.json") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".mp4") == ["a.json", "b.json"]
