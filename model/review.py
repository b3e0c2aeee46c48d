"""Which frames a person should look at first. Torch-free.

A frame that a person corrects becomes an anchor and helps its neighbours, the more the nearer they are. So the frames
named are not the least sure ones, which lie side by side, but those whose correction is expected to take away the most
error in the whole video, each given that those named before it are corrected.

Expected error is what `confidence` leaves of 1. What a correction is worth is read off the same results, in two ways of
which the worse counts. Labels tire: a neighbour of the corrected frame is expected to be no surer than frames at that
distance from an anchor are now. And what made them go wrong is still there: where confidence fell or came back, a label
that is carried past that place is expected to lose as much again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.labels import FrameResult

_CANDIDATES = 600
"""How many frames are considered at most: in longer videos every second, third and so on."""

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

    Args:
        results: of all frames of a job, ascending.
        count: how many frames at most.
    """
    track = _Track.of(results)
    if not len(track.frames) or not track.doubt.shape[1]:
        return []
    growth = error_by_distance(track.doubt, track.distances())
    place = np.arange(len(track.frames))
    upheaval = np.cumsum(np.abs(np.diff(_smooth(track.doubt), axis=0, prepend=0)), axis=0)

    def after(position: int) -> _Floats:
        """(frames, objects) the error expected once this frame is corrected, by that alone."""
        return np.maximum(growth[np.abs(place - position)][:, None], np.abs(upheaval - upheaval[position]))

    left = track.doubt.copy()
    step = -(-len(track.frames) // _CANDIDATES)
    candidates = [p for p in range(0, len(track.frames), step) if track.doubt[p].any()]
    found: list[Suggestion] = []
    while candidates and len(found) < count:
        gains = [float(np.maximum(left - after(p), 0).sum()) for p in candidates]
        best = int(np.argmax(gains))
        position, gain = candidates.pop(best), gains[best]
        if gain <= 0:
            break
        found.append(track.suggestion(position, gain))
        left = np.minimum(left, after(position))
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


def error_by_distance(doubt: _Floats, distances: NDArray[np.int64]) -> _Floats:
    """(frames,) the error expected at so many frames from an anchor: 0 at it, and never falling.

    The best such curve through what was seen, in least squares (pool adjacent violators); beyond the greatest distance
    seen it goes on as it ended.

    Args:
        doubt: (frames, objects) expected errors.
        distances: (frames, objects) to the object's nearest anchor; negative where it has none.
    """
    seen, frames = distances > 0, len(doubt)
    count = np.bincount(distances[seen], minlength=frames)[:frames]
    total = np.bincount(distances[seen], weights=doubt[seen], minlength=frames)[:frames]
    blocks: list[tuple[float, int, int]] = []  # sum, how many values, how many distances
    for here, many in zip(total[1:], count[1:], strict=True):
        blocks.append((float(here), int(many), 1))
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            (a, m, i), (b, n, j) = blocks[-2:]
            blocks[-2:] = [(a + b, m + n, i + j)]
    return np.concatenate([[0.0], *(np.full(width, max(0.0, _mean(block))) for block in blocks for width in block[2:])])


def _smooth(doubt: _Floats) -> _Floats:
    """The median of five frames: one odd frame is no upheaval."""
    padded = np.pad(doubt, ((2, 2), (0, 0)), "edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0), axis=-1)


def _mean(block: tuple[float, int, int]) -> float:
    total, count, _ = block
    return total / count if count else -1.0  # a distance that nobody saw joins the one before it


@dataclass(frozen=True, eq=False)
class _Track:
    """What results say about every object on every frame."""

    frames: list[int]
    times: list[int]
    ids: list[int]
    doubt: _Floats  # (frames, objects)
    anchored: NDArray[np.bool_]  # (frames, objects)
    visible: NDArray[np.bool_]  # (frames, objects)

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
        for column in range(len(ids)):
            doubt[_said_to_be_gone(anchored[:, column], visible[:, column]), column] = 0
        return cls(frames, times, ids, doubt, anchored, visible)

    def distances(self) -> NDArray[np.int64]:
        """(frames, objects) from the object's nearest anchor, in frames of the job; -1 where it has none."""
        place = np.arange(len(self.frames))
        columns = []
        for anchored in self.anchored.T:
            anchors = np.flatnonzero(anchored)
            if len(anchors):
                columns.append(_nearest(place, anchors))
            else:
                columns.append(np.full(len(place), -1))
        return np.stack(columns, axis=1).astype(np.int64)

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


def _nearest(places: NDArray[np.int64], anchors: NDArray[np.int64]) -> NDArray[np.int64]:
    after = np.searchsorted(anchors, places)
    right = np.abs(anchors[np.minimum(after, len(anchors) - 1)] - places)
    left = np.abs(anchors[np.maximum(after - 1, 0)] - places)
    return np.minimum(left, right)
