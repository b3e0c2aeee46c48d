from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training import budget
from model.training.budget import fair_shares, free_memory


def _shares(wanted: list[int], each: list[int], limit: int, **options: object) -> list[int]:
    plain: dict[str, object] = {"least": 2, "weights": [1.0] * len(wanted), "seed": 0}
    return fair_shares(wanted, each, limit, **{**plain, **options}).tolist()  # type: ignore[arg-type]


def test_everything_stays_whole_where_it_fits() -> None:
    assert _shares([5, 100, 7], [10, 10, 10], 1120) == [5, 100, 7]


def test_short_clips_stay_whole_and_long_ones_are_cut_to_one_level() -> None:
    assert _shares([5, 100, 80, 7], [10, 10, 10, 10], 1000) == [5, 44, 44, 7]


def test_the_level_is_of_memory_so_that_small_frames_get_more_of_them() -> None:
    assert _shares([100, 100], [10, 20], 800) == [40, 20]


def test_weights_raise_and_lower_the_level() -> None:
    assert _shares([100, 100], [10, 10], 900, weights=[2.0, 1.0]) == [60, 30]
    assert _shares([40, 100], [10, 10], 900, weights=[2.0, 1.0]) == [40, 50]


def test_no_clip_is_cut_below_the_least() -> None:
    shares = _shares([100, 100, 3], [10, 10, 10], 430, least=20, weights=[1.0, 0.001, 1.0])
    assert shares == [20, 20, 3]


def test_clips_are_left_out_by_the_seed_where_not_even_the_least_of_each_fits() -> None:
    several = [_shares([50] * 20, [10] * 20, 1000, least=10, seed=seed) for seed in (0, 0, 1)]
    assert several[0] == several[1]
    assert several[0] != several[2]
    assert sorted(set(several[0])) == [0, 10]
    assert sum(several[0]) == 100


def test_a_clip_too_large_for_the_budget_does_not_take_the_others_with_it() -> None:
    for seed in range(8):
        shares = _shares([4, 4, 4], [10, 10_000, 10], 100, least=4, seed=seed)
        assert shares == [4, 0, 4]


def test_nothing_fits_into_nothing() -> None:
    assert _shares([4, 4], [10, 10], 0) == [0, 0]
    assert _shares([], [], 0) == []


@given(
    clips=st.lists(st.tuples(st.integers(1, 500), st.integers(1, 1000), st.floats(0.1, 10.0)), min_size=1, max_size=30),
    limit=st.integers(0, 1_000_000),
    least=st.integers(1, 50),
)
def test_shares_are_within_the_budget_and_use_it(clips: list[tuple[int, int, float]], limit: int, least: int) -> None:
    wanted, each, weights = ([clip[at] for clip in clips] for at in range(3))
    shares = np.array(fair_shares(wanted, each, limit, least=least, weights=weights, seed=0))  # type: ignore[arg-type]
    spent = int((shares * each).sum())
    kept = shares > 0
    assert spent <= limit
    assert (shares <= wanted).all()
    assert (shares[kept] >= np.minimum(wanted, least)[kept]).all()
    if kept.all() and (shares < wanted).any():
        # What is left is less than one more frame of each clip that was cut.
        assert limit - spent <= int((np.array(each) * (shares < wanted)).sum())


def test_free_memory_is_some_of_the_machine() -> None:
    total = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1])
    assert 1 << 20 < free_memory() <= total * 1024


@pytest.mark.parametrize(
    ("limit", "used"),
    [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
)
def test_a_container_leaves_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, used: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("3000000\n")
    (tmp_path / used).write_text("1000000\n")
    monkeypatch.setattr(budget, "_CGROUP", tmp_path)
    assert free_memory() == 2_000_000


def test_a_container_without_a_limit_leaves_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(budget, "_CGROUP", tmp_path)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:  4000 kB\n")
    monkeypatch.setattr(budget, "_MEMINFO", meminfo)
    assert free_memory() == 4000 * 1024


def test_another_system_is_asked_for_all_of_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(budget, "_CGROUP", tmp_path)
    monkeypatch.setattr(budget, "_MEMINFO", tmp_path / "none")
    assert free_memory() > 1 << 20
