"""Footage from files: found, looked at, given their shares of memory, decoded side by side into one buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from model.cores import available_cores
from model.errors import MediaError
from model.training.budget import fair_shares, free_memory
from model.training.clips import Clip, Reading, Shot, look_at, read
from model.training.finding import Item, Skipped, find
from model.training.footage import Footage, Run
from model.video.limits import Limits

_DEFAULT_LIMITS = Limits()
# A second of video at the usual rate: less of a clip shows hardly any motion.
_LEAST_FRAMES = 8
_MOVED_ROWS = 1 << 20
_NO_ROOM = "There is no memory left for it. Allow more, or name less footage."
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Progress:
    """How far reading is.

    Attributes:
        stage: `looking`, at what there is, and then `reading`.
        done: clips and photographs that are done with in this stage.
        total: of how many.
        name: of the last one.
    """

    stage: str
    done: int
    total: int
    name: str


def read_footage(
    paths: Sequence[Path],
    *,
    fps: float = 8.0,
    short_side: int = 256,
    memory_bytes: int | None = None,
    seed: int = 0,
    weights: Mapping[str, float] | None = None,
    limits: Limits = _DEFAULT_LIMITS,
    threads: int = 0,
    report: Callable[[Progress], None] | None = None,
) -> tuple[Footage, list[Skipped]]:
    """All footage at some paths in memory, decoded once; see `finding.find` for what the paths may be.

    Black and empty frames are left out, and frames on which nothing has moved since the one before; a run ends at a
    cut. The same files, options and seed give the same footage, whatever the number of threads.

    Args:
        paths: videos, photographs, zips of frames, folders and tars.
        fps: greatest number of frames kept of a second, by presentation time. Frames without times count as 25 a
            second, as everywhere in the reader.
        short_side: frames are made smaller to this many pixels on their short side, antialiased; never larger.
        memory_bytes: for the pixels; half of what is free if not given. Where the footage would take more, short clips
            stay whole and of long ones a stretch is read, as long for each as for any other.
        seed: of the places of those stretches.
        weights: by source, how much longer than that the stretches of its clips may be, 1 if not given; a source of
            weight 0 is left out.
        limits: caps on each clip.
        threads: how many clips are read at a time; 0 is one for each core.
        report: called after every clip, in the caller's thread.

    Returns:
        footage: with at least one frame.
        skipped: what could not be read, or only in part, and why.

    Raises:
        MediaError: as `finding.find` does; and where nothing at all can be read, or memory is too small for it.
        ValueError: an option is out of its range.
    """
    if not fps > 0 or short_side < 1 or threads < 0:
        raise ValueError("fps and short_side must be positive, and threads not negative")
    weights = weights or {}
    if not all(weight >= 0 for weight in weights.values()):
        raise ValueError("weights must not be negative")
    items, skipped = find([Path(path) for path in paths])
    items = [item for item in items if weights.get(item.source, 1.0) > 0]
    threads = threads or available_cores()
    budget = free_memory() // 2 if memory_bytes is None else memory_bytes
    with TemporaryDirectory(prefix="labelprop-footage-") as scratch, ThreadPoolExecutor(threads) as pool:
        # Many files at a time need no threads within each.
        reading = Reading(fps, short_side, limits, Path(scratch), 1 if len(items) >= threads else 0)
        try:
            clips = _looked_at(items, reading, pool, report, skipped)
            footage = _read(clips, reading, pool, budget, seed, weights, report, skipped)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if not len(footage):
        raise MediaError(_nothing(items, skipped))
    return footage, skipped


def _looked_at(
    items: list[Item],
    reading: Reading,
    pool: ThreadPoolExecutor,
    report: Callable[[Progress], None] | None,
    skipped: list[Skipped],
) -> list[Clip]:
    clips: list[Clip] = []
    for at, (item, future) in enumerate(_in_order(items, lambda item: look_at(item, reading), pool), 1):
        try:
            clips += future.result()
        except (MediaError, OSError) as error:
            skipped.append(Skipped(item.name, _reason(error)))
        if report is not None:
            report(Progress("looking", at, len(items), item.name))
    return clips


def _read(
    clips: list[Clip],
    reading: Reading,
    pool: ThreadPoolExecutor,
    budget: int,
    seed: int,
    weights: Mapping[str, float],
    report: Callable[[Progress], None] | None,
    skipped: list[Skipped],
) -> Footage:
    counts = fair_shares(
        [len(clip.frames) for clip in clips],
        [3 * clip.rows for clip in clips],
        budget,
        least=_LEAST_FRAMES,
        weights=[weights.get(clip.item.source, 1.0) for clip in clips],
        seed=seed,
    ).tolist()
    skipped += [Skipped(clip.item.name, _NO_ROOM) for clip, count in zip(clips, counts, strict=True) if not count]
    starts = [_start(len(clip.frames), counts[at], seed, at) for at, clip in enumerate(clips)]
    ends = np.cumsum([clip.rows * counts[at] for at, clip in enumerate(clips)], dtype=np.int64).tolist()
    places = [0, *ends]
    # Pages that nothing is written to take no memory: gaps that screening leaves cost nothing while decoding.
    pixels = torch.empty(places[-1], 3, dtype=torch.uint8)
    rows = pixels.numpy()

    def decode(at: int) -> tuple[list[Shot], str]:
        return read(clips[at], starts[at], counts[at], rows[places[at] : places[at + 1]], reading)

    jobs = [at for at, count in enumerate(counts) if count]
    builder = _Builder(rows)
    for done, (at, future) in enumerate(_in_order(jobs, decode, pool), 1):
        item = clips[at].item
        try:
            shots, fault = future.result()
        except (MediaError, OSError) as error:
            shots, fault = [], _reason(error)
        if not shots:
            skipped.append(Skipped(item.name, fault or "It shows nothing but black or one colour."))
        elif fault:
            skipped.append(Skipped(item.name, f"Only its beginning is used. {fault}"))
        builder.add(item, places[at], shots)
        if report is not None:
            report(Progress("reading", done, len(jobs), item.name))
    return builder.footage(pixels)


def _in_order(
    inputs: Sequence[_T], work: Callable[[_T], _R], pool: ThreadPoolExecutor
) -> Iterator[tuple[_T, Future[_R]]]:
    return zip(inputs, [pool.submit(work, value) for value in inputs], strict=True)


class _Builder:
    """Closes the gaps between clips and notes where each frame has come to lie."""

    def __init__(self, rows: NDArray[np.uint8]) -> None:
        self._rows = rows
        self._used = 0
        self._runs: list[Run] = []
        self._offsets: list[int] = []
        self._sizes: list[tuple[int, int]] = []
        self._times: list[float] = []

    def add(self, item: Item, place: int, shots: Sequence[Shot]) -> None:
        """The next clip, whose frames lie at `place`. It moves into room of clips before it, which are all read."""
        _move_down(self._rows, place, self._used, sum(shot.rows for shot in shots))
        for number, shot in enumerate(shots, 1):
            name = item.name if number == 1 else f"{item.name}#{number}"
            self._runs.append(Run(name, item.source, len(self._offsets), len(shot.times_ms)))
            for time_ms in shot.times_ms:
                self._offsets.append(self._used)
                self._sizes.append((shot.height, shot.width))
                self._times.append(time_ms)
                self._used += shot.height * shot.width

    def footage(self, pixels: torch.Tensor) -> Footage:
        return Footage(
            tuple(self._runs),
            pixels[: self._used],
            torch.tensor(self._offsets, dtype=torch.int64),
            torch.tensor(self._sizes, dtype=torch.int64).view(-1, 2),
            torch.tensor(self._times, dtype=torch.float32),
        )


def _move_down(rows: NDArray[np.uint8], source: int, target: int, count: int) -> None:
    """Moves rows towards the front, a piece at a time, since numpy copies what overlaps."""
    if source == target:
        return
    for at in range(0, count, _MOVED_ROWS):
        end = min(at + _MOVED_ROWS, count)
        rows[target + at : target + end] = rows[source + at : source + end]


def _start(available: int, count: int, seed: int, at: int) -> int:
    return int(np.random.default_rng([seed, at]).integers(available - count + 1)) if count < available else 0


def _reason(error: Exception) -> str:
    if isinstance(error, MediaError):
        return error.detail
    return f"It cannot be read: {getattr(error, 'strerror', None) or error}."


def _nothing(items: Sequence[Item], skipped: Sequence[Skipped]) -> str:
    if not items:
        return "Every source has the weight 0. Give at least one another weight."
    first = skipped[0]
    return f"Nothing could be read of {len(items)} files. The first, {first.name}: {first.reason}"
