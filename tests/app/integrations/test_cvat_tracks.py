from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cvat_sdk import models

from app.formats import cvat_rle
from app.integrations.cvat.marks import group_of, is_ours, object_of
from app.integrations.cvat.task import FrameMap, Segment, Task
from app.integrations.cvat.tracks import build
from model.labels import FrameResult, KeypointResult, ObjectResult, raster

BACK = {
    "mask": {"region": {"label_id": 1, "type": "mask"}, "points": None},
    "polygon": {"region": {"label_id": 1, "type": "polygon"}, "points": None},
    "rectangle": {"region": {"label_id": 1, "type": "rectangle"}, "points": None},
    "points": {"region": None, "points": {"label_id": 4, "type": "points"}},
    "skeleton": {"region": None, "points": {"label_id": 5, "type": "skeleton"}},
}
LABELS = (
    {"id": 1, "name": "dog", "type": "any", "svg": "", "sublabels": []},
    {"id": 4, "name": "dot", "type": "points", "svg": "", "sublabels": []},
    {"id": 5, "name": "bones", "type": "skeleton", "svg": "",
     "sublabels": [{"id": 51, "name": "a"}, {"id": 52, "name": "b"}]},
)  # fmt: skip


def task(segments: list[tuple[int, int]], **frames: Any) -> Task:
    size = max(stop for _, stop in segments) + 1
    return Task(
        7, "http://x", "t", 24, 16, FrameMap(size, **frames),
        tuple(Segment(100 + i, *pair) for i, pair in enumerate(segments)), LABELS, 4,
    )  # fmt: skip


def square(x: int) -> np.ndarray:
    mask = np.zeros((16, 24), np.bool_)
    mask[3:9, x : x + 5] = True
    return mask


def results(frames: list[int], seen: list[int]) -> list[FrameResult]:
    """An object that lies at x = frame on the frames where it is seen, with two points of which one comes and goes."""
    found = []
    for frame in frames:
        entries = []
        if frame in seen:
            points = [KeypointResult("a", frame + 0.123, 4.0, True, 0.5)]
            points += [KeypointResult("b", frame + 2.0, 5.0, False, 0.5)] if frame % 2 else []
            mask = square(frame)
            entries.append(ObjectResult(1, True, 0.5, mask, raster.tight_box(mask), tuple(points), "propagated"))
        found.append(FrameResult(frame, frame, tuple(entries)))
    return found


def made(task_: Task, kind: str, found: list[FrameResult], segment: int = 0) -> dict[str, Any]:
    annotations = build(task_, task_.segments[segment], {1: BACK[kind]}, found).get(1, {"shapes": [], "tracks": []})
    models.PatchedLabeledDataRequest._from_openapi_data(**annotations)
    return annotations


def frames_of(track: dict[str, Any]) -> list[tuple[int, bool]]:
    return [(shape["frame"], shape["outside"]) for shape in track["shapes"]]


@pytest.mark.parametrize("kind", ["rectangle", "polygon", "points"])
def test_a_track_ends_where_the_object_does(kind: str) -> None:
    (track,) = made(task([(0, 9)]), kind, results(list(range(10)), [2, 3, 4, 7]))["tracks"]
    assert frames_of(track) == [(2, False), (3, False), (4, False), (5, True), (7, False), (8, True)]
    assert (track["frame"], track["group"], track["source"]) == (2, group_of(1), "auto")
    assert is_ours(track)
    (seen_to_the_end,) = made(task([(0, 9)]), kind, results(list(range(10)), [8, 9]))["tracks"]
    assert frames_of(seen_to_the_end) == [(8, False), (9, False)]


def test_masks_are_shapes_of_one_group() -> None:
    annotations = made(task([(0, 9)]), "mask", results(list(range(10)), [2, 3, 7]))
    assert annotations["tracks"] == []
    assert [shape["frame"] for shape in annotations["shapes"]] == [2, 3, 7]
    assert annotations["shapes"][1]["points"] == cvat_rle.encode(square(3))
    assert {shape["group"] for shape in annotations["shapes"]} == {group_of(1)}


def test_a_skeleton_ends_as_a_whole_and_point_by_point() -> None:
    (track,) = made(task([(0, 9)]), "skeleton", results(list(range(10)), [3, 4]))["tracks"]
    assert frames_of(track) == [(3, False), (4, False), (5, True)]
    a, b = track["elements"]
    assert [element["label_id"] for element in (a, b)] == [51, 52]
    assert frames_of(a) == [(3, False), (4, False), (5, True)]
    assert frames_of(b) == [(3, False), (4, True), (5, True)]
    assert a["shapes"][0]["points"] == [3.12, 4.0]
    assert b["shapes"][0]["occluded"]


def test_jobs_get_their_own_frames() -> None:
    split = task([(0, 5), (4, 9)])
    found = results(list(range(10)), [3, 4, 5, 6, 7])
    first, second = (made(split, "rectangle", found, i)["tracks"][0] for i in (0, 1))
    # A track that goes on in the next job is not closed at the border; CVAT joins the two over frames 4 and 5.
    assert frames_of(first) == [(3, False), (4, False), (5, False)]
    assert frames_of(second) == [(4, False), (5, False), (6, False), (7, False), (8, True)]
    masks = [[shape["frame"] for shape in made(split, "mask", found, i)["shapes"]] for i in (0, 1)]
    assert masks == [[3, 4, 5], [6, 7]]
    points = [frames_of(made(split, "points", found, i)["tracks"][0]) for i in (0, 1)]
    assert points == [[(3, False), (4, False), (5, False)], [(6, False), (7, False), (8, True)]]


def test_deleted_frames_are_passed_over() -> None:
    task_ = task([(0, 9)], deleted=(4, 5))
    found = results(list(range(8)), [2, 3, 4])  # eight pictures: 0 to 3 and 6 to 9
    (track,) = made(task_, "rectangle", found)["tracks"]
    assert frames_of(track) == [(2, False), (3, False), (6, False), (7, True)]


def test_results_on_the_original_video() -> None:
    task_ = task([(0, 3)], start=2, step=3, whole=True)
    (track,) = made(task_, "rectangle", results([2, 5, 8, 11], [5, 8]))["tracks"]
    assert frames_of(track) == [(1, False), (2, False), (3, True)]
    assert track["shapes"][0]["points"] == [5.0, 3.0, 10.0, 9.0]


def test_results_that_end_early_are_closed_after_the_last() -> None:
    (track,) = made(task([(0, 9)]), "rectangle", results(list(range(5)), [3, 4]))["tracks"]
    assert frames_of(track) == [(3, False), (4, False), (5, True)]
    assert made(task([(0, 9)]), "rectangle", []) == {"shapes": [], "tracks": []}


def test_groups_stand_for_objects() -> None:
    assert [object_of(group_of(id_)) for id_ in (1, 254)] == [1, 254]
    for group in (None, 0, 1, group_of(0), group_of(255), group_of(3) + 1):
        assert object_of(group) is None
    assert not is_ours({"group": group_of(1), "source": "manual"})
    assert not is_ours({"group": 5, "source": "auto"})
