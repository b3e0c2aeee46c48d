from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model.video import FrameTable
from model.video.table import round_half_up


def table(pts: list[int], time_base: Fraction = Fraction(1, 1000), **options: object) -> FrameTable:
    keyframe = np.arange(len(pts)) % 3 == 0
    return FrameTable(np.array(pts, dtype=np.int64), keyframe, time_base, **options)  # type: ignore[arg-type]


def test_times_are_exact_and_halves_go_up() -> None:
    assert [table([-5, 3, 9], Fraction(1, 2000)).time_ms(i) for i in range(3)] == [0, 4, 7]
    assert [table([0, 1, 3], Fraction(1, 2000)).time_ms(i) for i in range(3)] == [0, 1, 2]
    ntsc = table([i * 1001 for i in range(5)], Fraction(1, 30000))
    assert [ntsc.time_ms(i) for i in range(5)] == [0, 33, 67, 100, 133]
    huge = table([2**61, 2**61 + 90000], Fraction(1, 90000))
    assert huge.time_ms(1) == 1000
    with pytest.raises(IndexError):
        huge.time_ms(2)
    with pytest.raises(IndexError):
        huge.time_ms(-1)


@pytest.mark.parametrize(
    ("value", "expected"), [("1/2", 1), ("-1/2", -1), ("3/2", 2), ("5/2", 3), ("7/3", 2), ("-8/3", -3)]
)
def test_rounding(value: str, expected: int) -> None:
    assert round_half_up(Fraction(value)) == expected


def test_looking_up() -> None:
    some = table([10, 20, 40, 50, 70])
    assert [some.index_of(pts) for pts in (9, 10, 11, 40, 70, 71)] == [None, 0, None, 2, 4, None]
    assert [some.keyframe_at_or_before(i) for i in range(5)] == [0, 0, 0, 3, 3]
    none = FrameTable(some.pts, np.zeros(5, dtype=np.bool_), some.time_base)
    assert none.keyframe_at_or_before(4) is None


@pytest.mark.parametrize("names", [None, ("a 0.png", "ä/b.jpg", "x" * 200)])
def test_round_trip(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    original = table([0, 40, 81], Fraction(1001, 30000), by_pts=False, names=names)
    original.save(tmp_path / "no-suffix")
    assert [path.name for path in tmp_path.iterdir()] == ["no-suffix"]
    copy = FrameTable.load(tmp_path / "no-suffix")
    np.testing.assert_array_equal(copy.pts, original.pts)
    np.testing.assert_array_equal(copy.keyframe, original.keyframe)
    assert (copy.time_base, copy.by_pts, copy.names) == (original.time_base, False, names)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    for content in (b"", b"text", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            FrameTable.load(path)
    with path.open("wb") as file:
        np.savez(file, schema_version=np.int64(99))
    with pytest.raises(ValueError, match="version 99"):
        FrameTable.load(path)
    with path.open("wb") as file:
        np.savez(file, schema_version=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        FrameTable.load(path)


@pytest.mark.parametrize("pts", [[], [1, 1], [2, 1]])
def test_impossible_tables(pts: list[int]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        table(pts)
