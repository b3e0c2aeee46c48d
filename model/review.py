"""Which frames a person should look at first. Torch-free.

A frame that a person corrects becomes an anchor and helps its neighbours on both sides, the less the farther they are,
and not beyond a place where labels go wrong again. So the frames named are not the least sure ones, which lie side by
side, but those that leave the least error in the whole video when all of them are corrected.

How far a frame is from an anchor is counted in *hazard*: half of it passes at an even rate, since any label tires, and
half at the rate at which the results doubt their labels, since what made them go wrong there is still there. The error
that is expected on a frame grows with the hazard between it and its nearest anchor. Such a sum falls apart at every
anchor into two that know nothing of each other: the best set of frames is found exactly, by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.labels import FrameResult

_PLACES = 300
"""How many places are considered at most: in longer videos each stands for several frames."""

_WORK = 1e9  # how many numbers are looked at, about: with very many objects there are fewer places

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """A frame to look at.

    Attributes:
        frame: its index.
        time_ms: when it is shown.
        gain: by how many frames' worth of one object the expected error falls.
        object: the id of the least sure object there.
        confidence: that object's.
        visible: whether that object is taken to be there.
    """

    frame: int
    time_ms: int
    gain: float
    object: int
    confidence: float
    visible: bool


def suggest(results: Iterable[FrameResult], count: int) -> list[Suggestion]:
    """The frames to look at, the most useful first; fewer where nothing is left that would help.

    They are the best set of so many: with one more asked for, all of them may be others.

    Args:
        results: of all frames of a job, ascending.
        count: how many frames at most.
    """
    track = _Track.of(results)
    frames, objects = track.doubt.shape
    if not frames or not objects or count < 1 or not track.doubt.any():
        return []
    places = min(frames, _PLACES, max(1, int((_WORK / objects) ** (1 / 3))))
    thinned = -(-frames // places)
    error = ExpectedError(*track.thinned(thinned))
    chosen = error.best(max(1, min(count, len(error) - 1)))
    found = []
    for place, gain in error.in_order(chosen):
        position = min(place * thinned + thinned // 2, frames - 1)
        found.append(track.suggestion(position, gain * thinned))
    return found


def as_json(suggestions: Sequence[Suggestion]) -> list[dict[str, Any]]:
    """Suggestions as JSON values, in the same order."""
    return [
        {
            "frame": each.frame,
            "time_ms": each.time_ms,
            "gain": round(each.gain, 2),
            "object": each.object,
            "confidence": round(each.confidence, 3),
            "visible": each.visible,
        }
        for each in suggestions
    ]


class ExpectedError:
    """The error that is expected of a video when some of its frames are anchors.

    Args:
        doubt: (places, objects) the errors that are expected now.
        anchored: (places, objects) bool, where objects have anchors already.
        counts: (places, objects) bool, False where an error is none: where an anchor says that the object is gone.
    """

    def __init__(self, doubt: _Floats, anchored: NDArray[np.bool_], counts: NDArray[np.bool_]) -> None:
        places = len(doubt)
        total = doubt.sum(axis=0)
        doubted = np.divide(doubt, total, out=np.full_like(doubt, 1 / places), where=total > 0)
        share = (1 / places + doubted) / 2
        self._hazard = np.cumsum(share, axis=0)
        reached = np.ones(doubt.shape)
        for place in np.flatnonzero(anchored.any(axis=1)):
            reached[:, anchored[place]] = np.minimum(reached, self._apart(int(place)))[:, anchored[place]]
        # A frame's error is in proportion to the hazard that led to it, and half of it to how much of it is doubted. In
        # units of doubt: with the anchors that there are, all of them together are what the results say.
        share = np.where(counts, share, 0)
        expected = (share * reached).sum(axis=0)
        self._scale = share * np.divide(total, expected, out=np.zeros_like(total), where=expected > 0)
        self._now = reached * self._scale

    def __len__(self) -> int:
        return len(self._now)

    def __call__(self, places: Iterable[int]) -> float:
        """The error with these places corrected as well."""
        left = self._now
        for place in places:
            left = np.minimum(left, self.after(place))
        return float(left.sum())

    def after(self, place: int) -> _Floats:
        """(places, objects) the errors that would be expected by this place's correction alone."""
        return self._apart(place) * self._scale

    def best(self, count: int) -> list[int]:
        """The so many places whose correction leaves the least error, ascending."""
        places = len(self)
        between = self._between()
        cost, came = between[0, : places + 1].copy(), []  # of all before a place, that being the last one corrected
        for _ in range(1, count):
            through = cost[:places, None] + between[1:]
            came.append(through.argmin(axis=0))
            cost = through.min(axis=0)
        found = [int((cost[:places] + between[1:, places]).argmin())]
        for back in reversed(came):
            found.append(int(back[found[-1]]))
        return sorted(set(found))

    def in_order(self, places: Iterable[int]) -> list[tuple[int, float]]:
        """The places, each time the one that takes away the most of what is left, with how much; not those that take
        away nothing."""
        left, waiting = self._now, list(places)
        found: list[tuple[int, float]] = []
        while waiting:
            after = [np.minimum(left, self.after(place)) for place in waiting]
            gains = [float((left - each).sum()) for each in after]
            best = int(np.argmax(gains))
            if gains[best] <= 1e-9:
                break
            found.append((waiting.pop(best), gains[best]))
            left = after[best]
        return found

    def _between(self) -> _Floats:
        """(1 + places, places + 1): the error strictly between two corrected places, of which the first row's is before
        the video and the last column's behind it; infinite for those that do not follow each other."""
        places = len(self)
        between = np.full((places + 1, places + 1), np.inf)
        for first in range(-1, places):
            left = self._now if first < 0 else np.minimum(self._now, self.after(first))
            inside, hazard, scale = (part[first + 1 :] for part in (left, self._hazard, self._scale))
            between[first + 1, places] = inside.sum()
            for second in range(first + 1, places):
                until = second - first - 1
                nearer = (self._hazard[second] - hazard[:until]) * scale[:until]
                between[first + 1, second] = np.minimum(inside[:until], nearer).sum()
        return between

    def _apart(self, place: int) -> _Floats:
        """(places, objects) the hazard between each place and this one."""
        return np.abs(self._hazard - self._hazard[place])


@dataclass(frozen=True, eq=False)
class _Track:
    """What results say about every object on every frame."""

    frames: list[int]
    times: list[int]
    ids: list[int]
    doubt: _Floats  # (frames, objects)
    anchored: NDArray[np.bool_]  # (frames, objects)
    visible: NDArray[np.bool_]  # (frames, objects)
    gone: NDArray[np.bool_]  # (frames, objects), where an anchor says so

    @classmethod
    def of(cls, results: Iterable[FrameResult]) -> _Track:
        frames: list[int] = []
        times: list[int] = []
        rows: list[Mapping[int, tuple[float, bool, bool]]] = []
        for result in results:
            frames.append(result.frame)
            times.append(result.time_ms)
            rows.append({o.object: (1 - o.confidence, o.source == "anchor", o.visible) for o in result.objects})
        ids = sorted(set().union(*rows)) if rows else []
        table = np.array([[row.get(identity, (1.0, False, False)) for identity in ids] for row in rows], np.float64)
        table = table.reshape(len(frames), len(ids), 3)
        doubt, anchored, visible = table[..., 0], table[..., 1] > 0, table[..., 2] > 0
        columns = [_said_to_be_gone(*each) for each in zip(anchored.T, visible.T, strict=True)]
        gone = np.stack(columns, axis=1) if columns else np.zeros(doubt.shape, np.bool_)
        doubt[gone] = 0
        return cls(frames, times, ids, doubt, anchored, visible, gone)

    def thinned(self, step: int) -> tuple[_Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Doubt, where anchors are, and where an error counts, for every so many frames together."""
        starts = np.arange(0, len(self.frames), step)
        sizes = np.diff([*starts, len(self.frames)])[:, None]
        doubt = np.add.reduceat(self.doubt, starts) / sizes
        return doubt, np.logical_or.reduceat(self.anchored, starts), np.logical_or.reduceat(~self.gone, starts)

    def suggestion(self, position: int, gain: float) -> Suggestion:
        worst = int(np.argmax(self.doubt[position]))
        confidence, visible = 1 - float(self.doubt[position, worst]), bool(self.visible[position, worst])
        return Suggestion(self.frames[position], self.times[position], gain, self.ids[worst], confidence, visible)


def _said_to_be_gone(anchored: NDArray[np.bool_], visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(frames,) where an object is not seen, and the anchor before (at the start: after) says that it is gone."""
    anchors = np.flatnonzero(anchored)
    if not len(anchors):
        return np.zeros(len(visible), np.bool_)
    before = np.searchsorted(anchors, np.arange(len(visible)), side="right") - 1
    return ~visible & ~visible[anchors[np.maximum(before, 0)]]
