from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from model.box_votes import voted_box
from model.channels import ChannelSet
from model.confidence import expected_overlap
from model.evidence import NAMES
from model.geometry import Grid
from model.labels import Anchor, Keypoint, Label, LabelObject, raster
from model.meeting import Meeting, pooled
from model.propagator import SoftMaps

ObjectsOf = Callable[..., tuple[LabelObject, ...]]
MASK = np.ones((16, 16), bool)


def _channels(objects_of: ObjectsOf, told: dict[int, bool]) -> ChannelSet:
    anchors = [
        Anchor(frame, (Label(1, MASK) if present else Label(1, None, absent=True),)) for frame, present in told.items()
    ]
    # A second object, so that there is always a region to carry.
    anchors.append(Anchor(100, (Label(2, MASK),)))
    return ChannelSet(objects_of(1, 2), anchors, Grid.fit(16, 16, 480))


def _joined(channels: ChannelSet, frame: int) -> list[float]:
    """How much of the backward pass is in the result, per channel."""
    known = np.ones(len(channels), bool)
    shape = (len(channels), 2, 2)
    met = Meeting(channels).join(SoftMaps(frame, torch.zeros(shape), known), SoftMaps(frame, torch.ones(shape), known))
    assert met.frame == frame
    return [_weight(value[0, 0]) for value in met.values]


def _weight(pool: torch.Tensor) -> float:
    """How much the second of two maps counts, from what comes of a share of 0 in the first and of 1 in it."""
    if pool in (0, 1):
        return float(pool)
    return (float(torch.logit(pool) / math.log(509)) + 1) / 2


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({0: True, 10: True}, {0: 0, 1: 0.1, 5: 0.5, 9: 0.9, 10: 0, 15: 0}),
        ({4: True}, {0: 1, 3: 1, 4: 0, 5: 0}),
        ({2: True, 4: True, 8: True}, {0: 1, 3: 0.5, 5: 0.25, 7: 0.75, 9: 0}),
        ({0: True, 10: False}, {5: 0, 9: 0, 12: 0}),  # it ends at 10: nothing comes back from there
        ({0: False, 10: True}, {5: 1, 1: 1, 0: 0}),  # it begins somewhere after 0, and backward alone can say where
        ({0: True, 4: False, 8: True}, {2: 0, 6: 1, 9: 0}),
    ],
)
def test_each_direction_counts_by_how_near_its_anchor_is(
    objects_of: ObjectsOf, told: dict[int, bool], expected: dict[int, float]
) -> None:
    channels = _channels(objects_of, told)
    assert {frame: _joined(channels, frame)[0] for frame in expected} == pytest.approx(expected, abs=1e-4)


def test_anchors_of_other_channels_do_not_count(objects_of: ObjectsOf) -> None:
    anchors = [
        Anchor(0, (Label(1, MASK),)),
        Anchor(4, (Label(2, MASK, keypoints=(Keypoint("a", 1, 1),)),)),
        Anchor(8, (Label(1, MASK), Label(2, None, keypoints=(Keypoint("a", 1, 1),)))),
    ]
    channels = ChannelSet(objects_of(1, 2), anchors, Grid.fit(16, 16, 480))
    assert _joined(channels, 2) == pytest.approx([0.25, 1, 1], abs=1e-4)
    assert _joined(channels, 6) == pytest.approx([0.75, 0, 0.5], abs=1e-4)


def test_what_either_direction_knows_is_known(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of, {0: True})
    maps = torch.zeros(2, 2, 2)

    def met(forward: Sequence[bool], backward: Sequence[bool]) -> list[bool]:
        join = Meeting(channels).join
        found: list[bool] = join(
            SoftMaps(3, maps, np.array(forward)), SoftMaps(3, maps, np.array(backward))
        ).known.tolist()
        return found

    assert met([True, False], [False, False]) == [True, False]
    assert met([True, False], [False, True]) == [True, True]


def test_joining_leaves_both_sides_as_they_were(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of, {0: True, 10: True})
    forward, backward = torch.zeros(2, 2, 2), torch.ones(2, 2, 2)
    known = np.ones(2, bool)
    Meeting(channels).join(SoftMaps(5, forward, known), SoftMaps(5, backward, known))
    assert not forward.any()
    assert backward.all()


def _evidence(count: int, value: float) -> np.ndarray:
    return np.full((count, len(NAMES)), value, np.float32)


def test_evidence_is_joined_with_the_maps(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of, {0: True, 10: True})
    maps, known = torch.zeros(2, 2, 2), np.ones(2, bool)
    join = Meeting(channels).join
    forward, backward = (SoftMaps(4, maps, known, _evidence(2, value)) for value in (0.0, 1.0))
    evidence = join(forward, backward).evidence
    doubted, trusted = (expected_overlap(each[0]) ** 2 for each in (_evidence(1, 0), _evidence(1, 1)))
    assert evidence is not None
    assert evidence[:, 0] == pytest.approx([0.4 * trusted / (0.4 * trusted + 0.6 * doubted), 1])
    assert join(forward, SoftMaps(4, maps, known)).evidence is None


def test_a_direction_that_doubts_its_label_counts_less_and_its_keypoints_too(objects_of: ObjectsOf) -> None:
    points = (Keypoint("a", 1, 1),)
    labels = (Label(1, MASK, keypoints=points), Label(2, None, keypoints=points))
    channels = ChannelSet(objects_of(1, 2), [Anchor(0, labels), Anchor(4, labels)], Grid.fit(16, 16, 480))
    known, shape = np.ones(3, bool), (3, 2, 2)

    def met(ahead: float, behind: float) -> list[float]:
        forward = SoftMaps(2, torch.zeros(shape), known, _evidence(3, ahead))
        backward = SoftMaps(2, torch.ones(shape), known, _evidence(3, behind))
        return [_weight(value[0, 0]) for value in Meeting(channels).join(forward, backward).values]

    assert met(0.8, 0.8) == pytest.approx([0.5, 0.5, 0.5], abs=1e-4)
    region, point, alone = met(0.7, 0.9)
    assert region == point
    assert region > 0.6
    assert alone == pytest.approx(0.5, abs=1e-4)  # nothing speaks for or against keypoints without a region
    assert met(0.9, 0.7)[0] == pytest.approx(1 - region, abs=1e-3)


def test_who_is_decided_prevails_over_who_is_not() -> None:
    forward, backward = torch.tensor([1.0, 0.0, 0.9, 1.0, 0.3]), torch.tensor([0.4, 0.6, 0.9, 0.0, 0.3])
    found = pooled(forward, backward, 0.5)
    assert found[0] > 0.9
    assert found[1] < 0.1
    assert found[2:].tolist() == pytest.approx([0.9, 0.5, 0.3], abs=1e-4)
    assert pooled(torch.zeros(1), torch.zeros(1), 0.5) == 0


def test_the_sides_of_boxes_stay_where_both_say_that_they_are(objects_of: ObjectsOf) -> None:
    box = (16.0, 16.0, 48.0, 32.0)
    mask = raster.box(*box, 64, 96)
    anchors = [Anchor(frame, (Label(1, mask, box=box),)) for frame in (0, 4)]
    channels = ChannelSet(objects_of(1), anchors, Grid.fit(96, 64, 480), box_sides=True)
    maps, known = channels.maps(0).values, np.ones(len(channels), bool)
    joined = Meeting(channels).join(SoftMaps(1, maps, known), SoftMaps(1, maps / 2, known)).values
    assert (joined[0] >= 0.875 * maps[0] - 1e-6).all()
    assert voted_box(channels, 1, joined) == pytest.approx(box, abs=0.01)
