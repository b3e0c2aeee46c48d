from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from app.formats.label_studio_video import Named
from app.integrations.label_studio.prompts import drawn_regions, is_ours, read_prompt, version_of
from model.errors import InputError
from model.video import probe


def test_the_newest_annotation_goes_first_and_our_own_predictions_never(task: Callable, region: Callable) -> None:
    old, new = {"result": [region(1)], "updated_at": "2026-01-01"}, {"result": [region(2)], "updated_at": "2026-01-02"}
    skipped = {"result": [region(1)], "updated_at": "2026-01-03", "was_cancelled": True}
    choice = {"result": [{"type": "choices", "value": {}}], "updated_at": "2026-01-04"}
    assert drawn_regions(task(annotations=[old, skipped, new, choice]), {})[0]["id"] == "r2"
    draft, foreign = {"result": [region(2)]}, {"result": [region(1)], "model_version": "detector"}
    assert drawn_regions(task(annotations=[choice], drafts=[draft], predictions=[foreign]), {})[0]["id"] == "r2"
    assert drawn_regions(task(annotations=[], predictions=[foreign]), {})[0]["id"] == "r1"
    ours = {"result": [region(1)], "model_version": version_of("uvc-r18")}
    assert drawn_regions(task(annotations=[], predictions=[ours]), {}) == []
    assert drawn_regions(task(), {"result": [region(2, 4)]}) == [region(2, 4)]


@pytest.mark.parametrize("junk", [None, 3, [4], {}, [{"result": 3}], [{"result": [5, {"type": 7}]}]])
def test_foreign_documents_hold_no_regions(junk: Any) -> None:
    assert drawn_regions({"annotations": junk, "drafts": junk, "predictions": junk}, {"result": junk}) == []


def test_predictions_from_a_file_we_wrote_are_ours() -> None:
    assert is_ours({"model_version": "x", "result": [{"id": "labelprop-3"}, {"id": "labelprop-3-k1"}]})
    assert not is_ours({"model_version": "x", "result": [{"id": "labelprop-3"}, {"id": "abc"}]})
    assert not is_ours({"model_version": "labelproper", "result": None})


def test_regions_become_objects_and_keep_their_names(clip_file: Path, region: Callable) -> None:
    info, table = probe(clip_file)
    prompt = read_prompt([region(2), region(1, 5)], info, table, rate=Fraction(25), where="task 7")
    assert prompt.named == {1: Named("r2", ("puppet",)), 2: Named("r1", ("flower",))}
    assert [(anchor["frame"], anchor["labels"][0]["object"]) for anchor in prompt.anchors] == [(0, 1), (4, 2)]
    assert prompt.digest("v_1", {}) != prompt.digest("v_2", {})
    assert prompt.digest("v_1", {}) != prompt.digest("v_1", {"preset": "plain"})
    with pytest.raises(InputError, match="two regions on frame 0"):
        read_prompt([region(1), region(1)], info, table, rate=Fraction(25), where="task 7")


def test_a_region_that_is_never_on_the_frame_is_no_prompt(clip_file: Path, region: Callable) -> None:
    info, table = probe(clip_file)
    with pytest.raises(InputError, match="Task 7 has no region with a box"):
        read_prompt([region(1, x=200)], info, table, rate=Fraction(25), where="task 7")
