from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from model.errors import InputError
from model.training.journal import Entry, Journal, read_journal

Full = Callable[[int], AbstractContextManager[None]]


def _entry(step: int, **losses: float) -> Entry:
    return Entry(
        step, step / 100, "match" if step < 30 else "joint", 1e-4 / step, 250.5, losses or {"colour": 1 / step}
    )


def _written(path: Path, *steps: int) -> Path:
    with Journal(path) as journal:
        for step in steps:
            journal.write(_entry(step))
    return path


def _steps(path: Path) -> list[int]:
    return [entry.step for entry in read_journal(path)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    given = [_entry(10, colour=0.123456, cycle=2.5), _entry(20, colour=0.1), _entry(40, localisation=3.0)]
    with Journal(tmp_path / "j.jsonl") as journal:
        for entry in given:
            journal.write(entry)
    found = read_journal(tmp_path / "j.jsonl")
    assert [(e.step, e.phase, dict(e.losses)) for e in found] == [(e.step, e.phase, dict(e.losses)) for e in given]
    assert [e.lr for e in found] == pytest.approx([e.lr for e in given], rel=1e-4)
    assert found[0].minutes == 0.1
    assert found[0].samples_per_second == 250.5
    assert list(found[0].losses) == ["colour", "cycle"]


def test_a_line_is_plain_json_even_of_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    with Journal(tmp_path / "j.jsonl") as journal:
        journal.write(_entry(1, colour=math.nan, cycle=-math.inf, whole=2.0))
    line = json.loads((tmp_path / "j.jsonl").read_text(), parse_constant=refuse)
    assert set(line) == {"step", "minutes", "phase", "lr", "samples_per_second", "losses"}
    assert line["losses"] == {"colour": None, "cycle": None, "whole": 2.0}
    losses = read_journal(tmp_path / "j.jsonl")[0].losses
    assert math.isnan(losses["colour"])
    assert losses["whole"] == 2.0


def test_an_entry_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        assert _steps(tmp_path / "j.jsonl") == []
        journal.write(_entry(5))
        assert _steps(tmp_path / "j.jsonl") == [5]


def test_a_resumed_journal_has_no_step_twice(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl", 10, 20, 30, 40)
    with Journal(path, resume_after=25) as journal:
        assert _steps(path) == [10, 20]
        journal.write(_entry(30))
    assert _steps(path) == [10, 20, 30]


def test_the_step_of_the_checkpoint_itself_stays(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl", 10, 20, 30)
    before = path.read_bytes()
    Journal(path, resume_after=30).close()
    assert path.read_bytes() == before
    Journal(path, resume_after=20).close()
    assert _steps(path) == [10, 20]


def test_a_new_training_begins_a_new_journal(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl", 10, 20)
    assert _steps(_written(path, 7)) == [7]


def test_resuming_without_a_journal_begins_one(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl", resume_after=100) as journal:
        journal.write(_entry(110))
    assert _steps(tmp_path / "j.jsonl") == [110]


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_broken_last_line_is_left_out_and_gone_after_resuming(tmp_path: Path, cut: int) -> None:
    path = _written(tmp_path / "j.jsonl", 10, 20, 30)
    path.write_bytes(path.read_bytes()[:-cut])
    assert _steps(path) == [10, 20]
    with Journal(path, resume_after=30) as journal:
        journal.write(_entry(40))
    assert _steps(path) == [10, 20, 40]


def test_what_a_power_cut_leaves_is_a_broken_last_line_too(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl", 10, 20)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert _steps(path) == [10, 20]


def test_a_full_disk_leaves_the_journal_whole_and_open(tmp_path: Path, files_no_larger_than: Full) -> None:
    path = _written(tmp_path / "j.jsonl", 10)
    size = path.stat().st_size
    with Journal(path, resume_after=10) as journal:
        with files_no_larger_than(size + 20), pytest.raises(OSError, match="too large"):  # 20 of the line fit
            journal.write(_entry(20))
        assert path.stat().st_size == size
        journal.write(_entry(30))
    assert _steps(path) == [10, 30]


@pytest.mark.parametrize("line", [b"half a li", b"[]", b'{"step": 3}', b'{"losses": null}', b"\xff\xfe"])
def test_a_broken_line_in_the_middle_is_named_and_nothing_is_lost(tmp_path: Path, line: bytes) -> None:
    path = _written(tmp_path / "j.jsonl", 10, 20)
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, line, second, b""]))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"Line 2 of .*j\.jsonl") as caught:
        read_journal(path)
    assert caught.value.slug == "bad-journal"
    with pytest.raises(InputError, match="Line 2"):
        Journal(path, resume_after=20)
    assert path.read_bytes() == before


def test_a_journal_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl.*Name the \.jsonl") as caught:
        read_journal(tmp_path / "none.jsonl")
    assert caught.value.slug == "bad-journal"


def test_journals_and_pictures_need_no_torch() -> None:
    code = "import sys, model.training.journal, model.training.pictures; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
