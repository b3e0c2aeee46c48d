from __future__ import annotations

from typing import Any

import pytest

from model.plan import Plan


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
