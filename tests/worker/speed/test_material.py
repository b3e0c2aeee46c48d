from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import InputError
from model.labels import FrameResult, ObjectResult, indexed_png
from model.video import open_video
from worker.speed.material import Scene, counts, index_map_of, labelled, object_counts, sizes


def test_sizes_are_heights_or_both_sides() -> None:
    assert sizes("480p, 1080p,640x360,480p") == [(854, 480), (1920, 1080), (640, 360)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("big", "'big' is no size"), ("480", "is no size"), ("480p,", "empty part"), ("641x360", "must be even"),
     ("16p", "32 to"), ("99999p", "32 to"), ("-64x64", "is no size")],
)  # fmt: skip
def test_other_sizes_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        sizes(text)
    assert error.value.detail.startswith("--sizes: ")


def test_counts_are_whole_numbers_in_order() -> None:
    assert counts("16, 4,1,4", "--lengths") == [1, 4, 16]
    assert object_counts("254") == [254]


@pytest.mark.parametrize("text", ["0", "255", "1.5", "two", "", "1,,2"])
def test_other_numbers_of_objects_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--objects: "):
        object_counts(text)


def test_a_scene_is_the_same_however_many_are_labelled(tmp_path: Path) -> None:
    one, three = (Scene(128, 96, count, 5, 6) for count in (1, 3))
    assert np.array_equal(one.clip().frame(2), three.clip().frame(2))
    marked = [np.unique(indexed_png.decode(scene.mask())).tolist() for scene in (one, three)]
    assert marked == [[0, 1], [0, 1, 2, 3]]
    three.write(tmp_path / "clip.mp4")
    with open_video(tmp_path / "clip.mp4") as source:
        assert (source.info.width, source.info.height, source.info.frame_count) == (128, 96, 6)


def test_results_become_index_maps() -> None:
    index_map = three = Scene(128, 96, 3, 5, 6).clip().mask(0)
    objects = tuple(ObjectResult(i, True, 1.0, three == i, None, (), "anchor") for i in (1, 2, 3))
    found = index_map_of(FrameResult(frame=0, time_ms=0, objects=objects), index_map.shape)
    assert np.array_equal(found, labelled(index_map, 3))
    assert labelled(index_map, 1).max() == 1
