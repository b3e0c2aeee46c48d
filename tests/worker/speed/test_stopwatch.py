from __future__ import annotations

import time

import pytest

from worker.speed.stopwatch import Stopwatch, unwatched


def test_times_of_a_frame_add_up_and_the_median_of_the_frames_counts() -> None:
    watch = Stopwatch()
    for milliseconds in (4, 4, 60):
        for _ in range(2):
            with watch("stage"):
                time.sleep(milliseconds / 2000)
        watch.frame_done()
    assert watch.milliseconds()["stage"] >= 4
    watch.frame_done()  # a frame without the stage is none of its
    with watch("other"):
        pass
    watch.frame_done(count=False)
    assert list(watch.milliseconds()) == ["stage"]


def test_frames_that_are_worked_on_together_share_the_time() -> None:
    watch = Stopwatch()
    with watch("store"):
        time.sleep(0.02)
    watch.frame_done(frames=10)
    assert watch.milliseconds()["store"] == pytest.approx(2, abs=1.9)


def test_work_that_nobody_times_is_done_all_the_same() -> None:
    with unwatched("stage"):
        pass
