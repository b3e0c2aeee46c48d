"""Times of named stages, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

Watch = Callable[[str], AbstractContextManager[None]]
"""Opened with a stage's name around the work of that stage."""


def unwatched(stage: str) -> AbstractContextManager[None]:
    """For work whose stages nobody times."""
    return nullcontext()


class Stopwatch:
    """Collects how long each stage took; stages that come several times within a frame add up.

    Args:
        device: where the work is done; what was queued there is waited for at a stage's ends.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._now: dict[str, float] = {}
        self._spent: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = self._time()
        yield
        self._now[stage] = self._now.get(stage, 0.0) + self._time() - start

    def frame_done(self, *, count: bool = True, frames: int = 1) -> None:
        """Ends a frame, or `frames` of them that were worked on together; `count` says whether its times are kept."""
        for stage, seconds in self._now.items():
            if count:
                self._spent.setdefault(stage, []).append(seconds / frames)
        self._now = {}

    def milliseconds(self) -> dict[str, float]:
        """The median of every stage, a frame."""
        return {stage: 1000 * float(np.median(spent)) for stage, spent in self._spent.items()}

    def _time(self) -> float:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
