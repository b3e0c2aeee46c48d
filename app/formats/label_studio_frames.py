"""Which picture Label Studio's page shows on which of its frames.

The page counts frames from 1 in steps of a rate that stands in the labelling configuration (`<Video framerate="25">`)
and need not be the video's own. To show frame n it seeks to (n - 1) / rate seconds, rounded to 2 milliseconds and 2
more (so `VideoCanvas.goToFrame`), and the browser then shows the picture that began last: for a constant rate
`floor(time * fps)`. Going through the frame table does the same for any file, also one of variable frame rate.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.video import FrameTable, VideoInfo

DEFAULT_RATE = Fraction(24)
COMMON_RATES = tuple(map(Fraction, ("24", "25", "30", "23.976", "29.97", "50", "59.94", "60", "10", "12", "15")))
MAX_RATE = 1000
_FINE_RATES = tuple(map(Fraction, (100, 120, 240, 500)))
_ENOUGH = 0.9
_STEP_US = 2000
_MAX_NUMBERS = 16_000_000  # four hours at the highest rate


class PageFrames:
    """The page's frames of one video at one configured rate.

    Args:
        table: the video's frame table.
        duration_ms: how long the video is.
        rate: frames a second as configured, above 0.
    """

    def __init__(self, table: FrameTable, duration_ms: int, rate: Fraction) -> None:
        if not 0 < rate <= MAX_RATE:
            raise ValueError(f"a frame rate lies above 0 and up to {MAX_RATE}, not at {rate}")
        self.rate = rate
        self.frame_count = table.frame_count
        self.duration_s = duration_ms / 1000
        self.count = min(max(1, round(Fraction(duration_ms, 1000) * rate)), _MAX_NUMBERS)
        ticks = table.pts - table.pts[0]
        scale = 1_000_000 * table.time_base
        # int64 holds it: ticks go up to hours in units that `scale` makes microseconds; floats would lose ties.
        if int(ticks[-1]) * scale.numerator < 1 << 62:
            self._times_us = ticks * scale.numerator // scale.denominator
        else:
            self._times_us = np.array([int(tick) * scale.numerator // scale.denominator for tick in ticks], np.int64)

    def index(self, number: int) -> int:
        """The true 0-based index of the picture that the page shows on its frame `number` (from 1)."""
        return int(self._at(self._seek(np.array([min(max(1, number), self.count + 1)])))[0])

    def at(self, time_ms: float) -> int:
        """The true index of the picture on screen at that time: the last one that has begun."""
        longest = int(self._times_us[-1]) + 1
        return int(self._at(np.array([min(max(0, int(time_ms * 1000)), longest)]))[0])

    def numbers(self, index: int) -> range:
        """The page's frames that show the picture `index`; empty where its rate passes over it."""
        first, stop = np.searchsorted(self._shown, [index, index + 1])
        return range(int(first) + 1, int(stop) + 1)

    def time(self, number: int) -> float:
        """The `time` that the page writes beside a keyframe: it counts the first frame as one interval, not as 0."""
        return float(number / self.rate)

    @property
    def coverage(self) -> float:
        """Which part of the pictures the page can show at all."""
        return len(np.unique(self._shown)) / self.frame_count

    @cached_property
    def _shown(self) -> NDArray[np.int64]:
        return self._at(self._seek(np.arange(1, self.count + 1)))

    def _seek(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        exact = (numbers - 1) * (1_000_000 * self.rate.denominator) * 2 + _STEP_US * self.rate.numerator
        return exact // (2 * _STEP_US * self.rate.numerator) * _STEP_US + _STEP_US

    def _at(self, times_us: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.searchsorted(self._times_us, times_us, side="right") - 1
        return np.clip(found, 0, self.frame_count - 1).astype(np.int64)


def own_page(table: FrameTable, info: VideoInfo) -> PageFrames:
    """The page's frames at the rate that a configuration for this video should have.

    That is the video's own; where its pictures come so unevenly that the page would pass over more than a tenth of
    them, the lowest common rate that shows them all, or else the one that shows most.
    """
    page = PageFrames(table, info.duration_ms, info.fps or DEFAULT_RATE)
    if page.coverage >= _ENOUGH:
        return page
    finer = [rate for rate in (*sorted(COMMON_RATES), *_FINE_RATES) if rate > page.rate]
    for rate in finer:
        other = PageFrames(table, info.duration_ms, rate)
        if other.coverage > page.coverage:
            page = other
        if page.coverage == 1:
            break
    return page


def rate_from_text(text: str | None) -> Fraction | None:
    """The rate that a configuration's `framerate` names; a number below 1 is the time of one frame. None for none."""
    try:
        rate = Fraction(str(text).strip())
    except (ValueError, ZeroDivisionError):
        return None
    if 0 < rate < 1:
        rate = 1 / rate
    return rate.limit_denominator(100_000) if 0 < rate <= MAX_RATE else None


def rate_of(value: dict[str, Any], info: VideoInfo) -> Fraction:
    """The configured rate behind a region's `value`, which names it nowhere.

    A keyframe's `time` is its `frame` over the rate. Without times, `framesCount` over `duration` is near it, and a
    common rate, or the video's own, that is as near is taken; without these, the video's own.
    """
    keyframes = [
        (_positive(entry.get("frame")), _positive(entry.get("time")))
        for entry in value.get("sequence") or ()
        if isinstance(entry, dict)
    ]
    frame, time = max((pair for pair in keyframes if all(pair)), default=(0.0, 0.0))
    if frame:
        rate = Fraction(round(frame / time, 4))
        # Some tools write times with six decimals.
        slack = max(Fraction(1, 5000), Fraction(1e-6 * frame / time**2))
        near = [known for known in (info.fps, *COMMON_RATES) if known and abs(known - rate) <= slack]
        rate = near[0] if near else rate.limit_denominator(100_000)
        if 0 < rate <= MAX_RATE:
            return rate
    count, duration = _positive(value.get("framesCount")), _positive(value.get("duration"))
    if count and duration:
        rate = Fraction(count / duration).limit_denominator(100_000)
        slack = Fraction(1 / duration)
        near = [known for known in (info.fps, *COMMON_RATES) if known and abs(known - rate) <= slack]
        if near or 0 < rate <= MAX_RATE:
            return near[0] if near else rate
    return info.fps or DEFAULT_RATE


def _positive(value: Any) -> float:
    """The number, or 0 for what is none above 0."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 1e-6 < value < 1e9
    return float(value) if usable else 0.0
