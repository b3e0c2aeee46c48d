from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from model.errors import LabelError
from model.labels import Anchor, Keypoint, Label, LabelObject, ObjectResult, Skeleton, colour_of


@pytest.mark.parametrize("object_id", [0, 255, -1])
def test_an_object_id_outside_1_to_254_is_refused(object_id: int) -> None:
    with pytest.raises(LabelError, match=f"not {object_id}"):
        LabelObject(object_id, "dog", (1, 2, 3))


def test_the_largest_object_id_is_allowed() -> None:
    assert LabelObject(254, "dog", colour_of(254)).id == 254


def test_a_skeleton_refuses_a_name_that_stands_twice() -> None:
    with pytest.raises(LabelError, match="hand stands more than once"):
        Skeleton(("hand", "head", "hand"))


@pytest.mark.parametrize("edge", [(0, 2), (-1, 0)])
def test_a_skeleton_refuses_an_edge_to_nowhere(edge: tuple[int, int]) -> None:
    with pytest.raises(LabelError, match="2 points"):
        Skeleton(("head", "hand"), (edge,))


def test_labels_are_equal_when_their_masks_are() -> None:
    mask = np.zeros((4, 5), bool)
    other = mask.copy()
    assert Label(1, mask) == Label(1, other)
    assert Anchor(0, (Label(1, mask),), void=mask) == Anchor(0, (Label(1, other),), void=other)
    other[1, 1] = True
    assert Label(1, mask) != Label(1, other)
    assert Label(1, mask) != Label(1, None)
    assert Anchor(0, (Label(1, mask),), void=mask) != Anchor(0, (Label(1, mask),))
    assert Label(1, mask, keypoints=(Keypoint("a", 1, 2),)) != Label(1, mask)


def test_results_are_equal_when_their_masks_are() -> None:
    mask = np.zeros((4, 5), bool)
    result = ObjectResult(1, True, 0.5, mask, None, (), "propagated")
    assert result == ObjectResult(1, True, 0.5, mask.copy(), None, (), "propagated")
    assert result != ObjectResult(1, True, 0.5, ~mask, None, (), "propagated")
    assert result != ObjectResult(1, True, 0.5, mask, None, (), "anchor")


def test_importing_labels_metrics_and_rendered_clips_does_not_import_torch() -> None:
    code = "import model.labels.jsonio, model.evaluation.metrics, model.rendered, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
