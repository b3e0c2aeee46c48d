from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from model.labels import FrameResult, ObjectResult
from model.review import ExpectedError, as_json, suggest


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


def test_the_most_useful_comes_first_and_none_twice() -> None:
    suggestions = suggest(_results(np.linspace(1, 0.2, 100)), 5)
    gains = [each.gain for each in suggestions]
    assert gains == sorted(gains, reverse=True)
    assert len({each.frame for each in suggestions}) == 5


def test_behind_the_last_one_there_is_half_as_much_as_between_two() -> None:
    # What lies between two anchors is helped by both, what lies behind the last by that alone.
    frames = [0, *sorted(_named(_results(np.r_[1.0, np.full(109, 0.5)]), 5))]
    assert np.diff(frames) == pytest.approx(20, abs=1)


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
    (alone,), several = _named(_results(track), 1), _named(_results(track), 5)
    assert 3000 <= alone < 3400
    assert sum(3000 <= frame < 3400 for frame in several) == 2
    assert max(np.diff([0, *sorted(several), 5000])) < 1500, "nor is the rest forgotten"


@pytest.mark.parametrize("seed", range(8))
def test_the_set_is_the_best_of_all_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places, objects = int(rng.integers(4, 10)), int(rng.integers(1, 4))
    anchored = rng.random((places, objects)) < 0.2
    doubt = np.where(anchored, 0, rng.random((places, objects)))
    error = ExpectedError(doubt, anchored, rng.random((places, objects)) < 0.9)
    for count in (1, 2, 3):
        least = min(map(error, itertools.combinations(range(places), count)))
        assert error(error.best(count)) == pytest.approx(least)


def test_with_the_anchors_there_are_the_error_is_what_is_doubted() -> None:
    doubt = np.array([[0.0, 0.0], [0.1, 0.4], [0.3, 0.2]])
    error = ExpectedError(doubt, doubt == 0, np.ones((3, 2), bool))
    assert error([]) == pytest.approx(1.0)
    assert error([1, 2]) == pytest.approx(0.0)
