from __future__ import annotations

import numpy as np
import pytest

from model.confidence import GONE, WEIGHTS, expected_overlap, gone
from model.evidence import NAMES


def test_it_lies_between_0_and_1_and_spans_most_of_it() -> None:
    worst, best = expected_overlap(np.zeros(len(NAMES))), expected_overlap(np.ones(len(NAMES)))
    assert 0 < worst < 0.1
    assert 0.8 < best < 1


@pytest.mark.parametrize("name", NAMES)
def test_better_evidence_never_lowers_it(name: str) -> None:
    row = np.full(len(NAMES), 0.5)
    at = []
    for value in (0.0, 0.5, 1.0):
        row[NAMES.index(name)] = value
        at.append(expected_overlap(row))
    assert at == sorted(at)
    assert (at[0] < at[2]) == (name in WEIGHTS)


def test_every_weight_has_its_evidence() -> None:
    assert set(WEIGHTS) <= set(NAMES)
    assert all(weight > 0 for weight in WEIGHTS.values())


def test_an_object_without_anything_for_it_is_gone_and_a_good_one_is_not() -> None:
    assert gone(np.zeros(len(NAMES)))
    assert not gone(np.ones(len(NAMES)))
    assert not gone(np.full(len(NAMES), 0.8))
    assert 0 < GONE < 0.5
