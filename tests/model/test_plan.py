from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from model.channels import ChannelSet
from model.geometry import Grid
from model.labels import Anchor, Keypoint, Label, LabelObject
from model.plan import Meeting, Plan
from model.propagator import SoftMaps

ObjectsOf = Callable[..., tuple[LabelObject, ...]]
MASK = np.ones((16, 16), bool)


@pytest.mark.parametrize(
    ("anchors", "direction", "backward", "forward", "unreached"),
    [
        ([10], "both", range(0), range(5), range(0)),
        ([14], "both", range(3), range(2, 5), range(0)),
        ([18], "both", range(5), range(4, 5), range(0)),
        ([12, 16], "both", range(4), range(1, 5), range(0)),
        ([16, 10], "both", range(4), range(5), range(0)),
        ([10], "forward", range(0), range(5), range(0)),
        ([14, 18], "forward", range(0), range(2, 5), range(2)),
        ([14], "backward", range(3), range(0), range(3, 5)),
        ([10], "backward", range(1), range(0), range(1, 5)),
        ([18], "backward", range(5), range(0), range(5, 5)),
    ],
)
def test_the_passes_of_a_job(
    anchors: list[int], direction: Any, backward: range, forward: range, unreached: range
) -> None:
    plan = Plan(range(10, 20, 2), tuple(anchors), direction)
    assert (plan.backward, plan.forward, plan.unreached) == (backward, forward, unreached)


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
@pytest.mark.parametrize("anchors", [[0], [3], [9], [0, 9], [2, 5, 7]])
def test_every_position_is_decided_exactly_once(anchors: list[int], direction: Any) -> None:
    plan = Plan(range(10), tuple(anchors), direction)
    decided = [p for p in plan.backward if plan.final_backward(p)] + list(plan.forward) + list(plan.unreached)
    assert sorted(decided) == list(range(10))


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
    return [float(value[0, 0]) for value in met.values]


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
    assert {frame: _joined(channels, frame)[0] for frame in expected} == pytest.approx(expected)


def test_anchors_of_other_channels_do_not_count(objects_of: ObjectsOf) -> None:
    anchors = [
        Anchor(0, (Label(1, MASK),)),
        Anchor(4, (Label(2, MASK, keypoints=(Keypoint("a", 1, 1),)),)),
        Anchor(8, (Label(1, MASK), Label(2, None, keypoints=(Keypoint("a", 1, 1),)))),
    ]
    channels = ChannelSet(objects_of(1, 2), anchors, Grid.fit(16, 16, 480))
    assert _joined(channels, 2) == pytest.approx([0.25, 1, 1])
    assert _joined(channels, 6) == pytest.approx([0.75, 0, 0.5])


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


def test_evidence_is_joined_with_the_maps(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of, {0: True, 10: True})
    maps, known = torch.zeros(2, 2, 2), np.ones(2, bool)
    join = Meeting(channels).join
    forward, backward = (SoftMaps(4, maps, known, np.full((2, 3), value, np.float32)) for value in (0.0, 1.0))
    evidence = join(forward, backward).evidence
    assert evidence is not None
    assert evidence[:, 0] == pytest.approx([0.4, 1])  # the second object is known from behind alone
    assert join(forward, SoftMaps(4, maps, known)).evidence is None
