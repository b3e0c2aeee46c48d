from __future__ import annotations

import dataclasses

import pytest

from model.training.config import TrainingConfig, find_recipe
from model.training.schedule import averaging, drops_outliers, joint, learning_rate

COSINE = TrainingConfig(learning_rate=2.0, rising=1)
PAPER = dataclasses.replace(find_recipe("uvc"), learning_rate=2.0, rising=1)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 2.0), (0.25, 1.7071068), (0.5, 1.0), (1.0, 0.0), (1.2, 0.0)])
def test_cosine_by_hand(progress: float, expected: float) -> None:
    assert learning_rate(COSINE, 1000, progress) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("progress", "expected"),
    # 2 (1 - p)^0.9, from the start again where the joint stage begins at a third: 2 (2 / 3)^0.9 and so on.
    [(0.0, 2.0), (0.2, 1.6361043), (1 / 3, 2.0), (2 / 3, 1.3885063), (1.0, 0.7440821)],
)
def test_the_papers_decay_by_hand(progress: float, expected: float) -> None:
    assert learning_rate(PAPER, 1000, progress) == pytest.approx(expected, rel=1e-5)


def test_without_a_joint_stage_the_papers_decay_ends_at_zero() -> None:
    config = dataclasses.replace(PAPER, localise=False)
    assert learning_rate(config, 1000, 0.5) == pytest.approx(2 * 0.5**0.9)
    assert learning_rate(config, 1000, 1.0) == 0


def test_the_first_steps_rise() -> None:
    config = dataclasses.replace(COSINE, rising=4)
    assert [learning_rate(config, step, 0.0) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert learning_rate(dataclasses.replace(COSINE, rising=0), 0, 0.0) == 2.0


def test_the_joint_stage_follows_the_warm_up_where_it_is_wanted() -> None:
    assert [joint(PAPER, progress) for progress in (0.0, 0.33, 0.34, 1.0)] == [False, False, True, True]
    assert not joint(COSINE, 1.0)


def test_outliers_are_kept_at_the_start_of_each_stage() -> None:
    dropped = [drops_outliers(PAPER, progress) for progress in (0.0, 0.05, 0.11, 0.3, 0.34, 0.4, 0.45, 1.0)]
    assert dropped == [False, False, True, True, False, False, True, True]
    assert drops_outliers(COSINE, 0.34)


def test_the_average_is_short_at_first() -> None:
    config = TrainingConfig(ema=0.99)
    assert averaging(config, 0) == pytest.approx(0.1)
    assert averaging(config, 90) == pytest.approx(0.91)
    assert averaging(config, 100_000) == 0.99
    assert averaging(TrainingConfig(ema=0.0), 50) == 0
