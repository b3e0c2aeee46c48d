from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from model.labels import FrameResult, ObjectResult
from model.review import as_json, error_by_distance, suggest


def _results(*tracks: Sequence[float], anchors: Sequence[int] = (0,), step: int = 1) -> list[FrameResult]:
    """Results whose objects 1, 2 ... have these confidences, frame by frame."""
    return [
        FrameResult(
            i * step,
            40 * i * step,
            tuple(
                ObjectResult(
                    identity,
                    True,
                    1.0 if i in anchors else confidence,
                    None,
                    None,
                    (),
                    "anchor" if i in anchors else "propagated",
                )
                for identity, confidence in enumerate(confidences, start=1)
            ),
        )
        for i, confidences in enumerate(zip(*tracks, strict=True))
    ]


def _named(results: list[FrameResult], count: int) -> list[int]:
    return [each.frame for each in suggest(results, count)]


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, model.review; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_stretch_that_was_lost_gets_a_frame_inside_of_it() -> None:
    track = np.full(60, 0.9)
    track[40:50] = 0.1
    (frame,) = _named(_results(track), 1)
    assert 40 <= frame < 50


def test_frames_are_spread_and_not_neighbours_of_one_bad_one() -> None:
    track = np.linspace(1, 0.2, 100)  # the farther from the first frame, the worse
    track[90:94] = 0.0
    frames = sorted(_named(_results(track), 4))
    assert all(b - a >= 8 for a, b in itertools.pairwise(frames)), frames


def test_where_error_grows_evenly_they_lie_about_evenly() -> None:
    frames = sorted(_named(_results(np.linspace(1, 0.2, 100)), 3))
    gaps = np.diff([0, *frames])
    assert gaps.min() >= 10
    assert gaps.max() <= 45


def test_each_is_named_as_if_those_before_it_were_corrected() -> None:
    results = _results(np.linspace(1, 0.2, 100))
    five = _named(results, 5)
    assert _named(results, 2) == five[:2]
    assert len(set(five)) == 5
    gains = [each.gain for each in suggest(results, 5)]
    assert gains == sorted(gains, reverse=True)


def test_anchors_and_sure_frames_are_not_named() -> None:
    assert suggest(_results(np.ones(10)), 5) == []
    frames = _named(_results(np.full(6, 0.5), anchors=(0, 3)), 10)
    assert not set(frames) & {0, 3}


def test_it_says_which_object_is_meant_and_when() -> None:
    track = np.full(40, 0.95)
    (each,) = suggest(_results(track, np.where(np.arange(40) > 30, 0.05, 0.95), step=2), 1)
    assert each.object == 2
    assert (each.time_ms, each.confidence) == (40 * each.frame, pytest.approx(0.05))
    assert as_json([each])[0] == {
        "frame": each.frame, "time_ms": each.time_ms, "gain": round(each.gain, 2), "object": 2, "confidence": 0.05,
        "visible": True,
    }  # fmt: skip


def test_an_object_without_any_anchor_is_one_to_look_at() -> None:
    track = np.full(10, 0.0)
    assert len(_named(_results(track, anchors=()), 1)) == 1


def test_frames_where_an_anchor_says_that_the_object_is_gone_are_not_in_doubt() -> None:
    def result(frame: int, visible: bool, confidence: float, source: str = "propagated") -> FrameResult:
        return FrameResult(frame, 40 * frame, (ObjectResult(1, visible, confidence, None, None, (), source),))  # type: ignore[arg-type]

    seen = [result(0, True, 1.0, "anchor"), *(result(i, True, 0.9) for i in range(1, 10))]
    told = [*seen, result(10, False, 1.0, "anchor"), *(result(i, False, 0.0) for i in range(11, 30))]
    assert all(each.frame < 10 for each in suggest(told, 5))
    lost = [*seen, *(result(i, False, 0.0) for i in range(10, 30))]
    (first,) = suggest(lost, 1)
    assert first.frame >= 10
    assert not first.visible


def test_nothing_comes_of_nothing() -> None:
    assert suggest([], 3) == []
    assert suggest([FrameResult(0, 0, ())], 3) == []
    assert suggest(_results(np.full(10, 0.5)), 0) == []


def test_a_long_video_is_gone_through_in_steps() -> None:
    track = np.full(5000, 0.95)
    track[3000:3400] = 0.1
    frames = _named(_results(track), 2)
    assert any(3000 <= frame < 3400 for frame in frames)


class TestErrorByDistance:
    def test_it_never_falls_and_follows_what_was_seen(self) -> None:
        doubt = np.array([[0.0], [0.1], [0.3], [0.2], [0.6]])
        found = error_by_distance(doubt, np.arange(5)[:, None])
        assert found == pytest.approx([0, 0.1, 0.25, 0.25, 0.6])

    def test_beyond_what_was_seen_it_goes_on_as_it_ended(self) -> None:
        doubt = np.array([[0.2], [0.1], [0.0], [0.1], [0.4]])
        found = error_by_distance(doubt, np.abs(np.arange(5) - 2)[:, None])
        assert found == pytest.approx([0, 0.1, 0.3, 0.3, 0.3])

    def test_objects_without_an_anchor_say_nothing(self) -> None:
        assert error_by_distance(np.ones((3, 1)), np.full((3, 1), -1)) == pytest.approx([0, 0, 0])
