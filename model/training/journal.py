"""The journal of a training: one line of JSON per logged step, only ever appended to. Torch-free.

A line is written in one call and counts once it is whole, so that a training that is killed, or whose disk is full,
leaves at most one broken line, and that the last. A number that is not finite is stored as null: any reader of JSON can
read the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from model.errors import InputError


@dataclass(frozen=True)
class Entry:
    """What is known after one step.

    Attributes:
        step: counted over the whole training, through all phases and resumptions.
        minutes: of training until then, without the time between interruption and resumption.
        phase: name of the part of the schedule it belongs to.
        lr: the learning rate of that step.
        samples_per_second: since the entry before.
        losses: each loss by its name, in the order they are to be shown; nan where it was not finite.
    """

    step: int
    minutes: float
    phase: str
    lr: float
    samples_per_second: float
    losses: Mapping[str, float] = field(default_factory=dict)


class Journal:
    """A journal that is open for writing. A context manager; every entry is in the file when `write` returns."""

    def __init__(self, path: Path, *, resume_after: int | None = None) -> None:
        """Opens a journal.

        Args:
            path: a `.jsonl` file in a folder that exists.
            resume_after: the step of the checkpoint that training resumes from. What stands in the file after it is
                dropped, for those steps are run again. None begins anew and empties the file.

        Raises:
            InputError: slug `bad-journal`, where the file is something else; it is left as it was.
            OSError: where it cannot be written.
        """
        kept = 0
        if resume_after is not None and path.exists():
            for entry, end in _parse(path):
                if entry.step > resume_after:
                    break
                kept = end
        self._file = path.open("ab", buffering=0)
        self._file.truncate(kept)

    def write(self, entry: Entry) -> None:
        """Appends an entry.

        Raises:
            OSError: where it cannot be written, on a full disk say. The journal stays whole and open without it.
        """
        line = (json.dumps(_to_json(entry), allow_nan=False) + "\n").encode()
        start = self._file.seek(0, 2)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(start)  # half a line would swallow the next one
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_journal(path: Path) -> list[Entry]:
    """All entries in the order of the file; also while a training is writing it. A broken last line is left out.

    Raises:
        InputError: slug `bad-journal`, where there is no such file, or a line before the last is not an entry.
    """
    return [entry for entry, _ in _parse(path)]


def _parse(path: Path) -> list[tuple[Entry, int]]:
    """Each entry with the place in the file where its line ends."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Name the .jsonl file that a training wrote.",
            slug="bad-journal",
        ) from error
    entries, end = [], 0
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("no end of line")
            entry = _from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise InputError(
                f"Line {number} of {path} is not an entry of a training's journal. Remove that line, or name the "
                ".jsonl file that a training wrote.",
                slug="bad-journal",
            ) from error
        end += len(line)
        entries.append((entry, end))
    return entries


def _to_json(entry: Entry) -> dict[str, Any]:
    return {
        "step": entry.step,
        "minutes": _stored(entry.minutes, 5),
        "phase": entry.phase,
        "lr": _stored(entry.lr, 12),
        "samples_per_second": _stored(entry.samples_per_second, 2),
        "losses": {name: _stored(value, 7) for name, value in entry.losses.items()},
    }


def _from_json(found: dict[str, Any]) -> Entry:
    return Entry(
        step=int(found["step"]),
        minutes=_loaded(found["minutes"]),
        phase=str(found["phase"]),
        lr=_loaded(found["lr"]),
        samples_per_second=_loaded(found["samples_per_second"]),
        losses={name: _loaded(value) for name, value in found["losses"].items()},
    )


def _stored(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def _loaded(value: float | None) -> float:
    return math.nan if value is None else float(value)
