from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats.label_studio_frames import DEFAULT_RATE, PageFrames, own_page, rate_from_text, rate_of
from model.video import FrameTable, VideoInfo, encode_video, probe


def table(times: list[int], time_base: Fraction = Fraction(1, 1000)) -> FrameTable:
    return FrameTable(np.array(times, np.int64), np.ones(len(times), np.bool_), time_base)


def info(fps: Fraction | None = Fraction(25), frames: int = 100) -> VideoInfo:
    duration = 1000 if fps is None else int(1000 * frames / fps)
    return VideoInfo("mp4", "h264", 96, 64, frames, duration, fps, Fraction(1), 0, 1000)


def test_a_constant_rate_counts_from_one() -> None:
    page = PageFrames(table([40 * i for i in range(50)]), 2000, Fraction(25))
    assert (page.count, page.duration_s) == (50, 2.0)
    assert [page.index(number) for number in (1, 2, 50, 51, 0, 1 << 40)] == [0, 1, 49, 49, 0, 49]
    assert [list(page.numbers(index)) for index in (0, 7, 49)] == [[1], [8], [50]]
    assert page.time(1) == 0.04


def test_29_97_never_drifts(tmp_path: Path) -> None:
    """An hour at 30000/1001, in the ticks of MP4 and in Matroska's milliseconds, configured as 29.97."""
    frames = 107_892
    exact = [1001 * i for i in range(frames)]
    rounded = [round(1001 * i / 30) for i in range(frames)]
    duration = round(frames * 1001 / 30)
    for times, base in ((exact, Fraction(1, 30000)), (rounded, Fraction(1, 1000))):
        page = PageFrames(table(times, base), duration, Fraction("29.97"))
        off = [number for number in range(1, frames + 1) if page.index(number) != number - 1]
        assert off == []
        assert page.numbers(frames - 1) == range(frames, frames + 1)


def test_a_real_file_at_29_97(tmp_path: Path) -> None:
    pictures = [np.full((64, 96, 3), i, np.uint8) for i in range(45)]
    encode_video(tmp_path / "clip.mp4", pictures, fps=Fraction(30000, 1001))
    facts, frame_table = probe(tmp_path / "clip.mp4")
    page = PageFrames(frame_table, facts.duration_ms, Fraction("29.97"))
    assert [page.index(number) for number in range(1, 46)] == list(range(45))


def test_a_real_file_of_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 210, 220, 1000]
    pictures = [np.full((64, 96, 3), 10 * i, np.uint8) for i in range(len(times))]
    encode_video(tmp_path / "clip.mp4", pictures, fps=Fraction(25), pts_ms=times)
    facts, frame_table = probe(tmp_path / "clip.mp4")
    page = PageFrames(frame_table, facts.duration_ms, Fraction(25))
    shown = [page.index(number) for number in range(1, 27)]
    assert shown[:7] == [0, 1, 2, 2, 2, 3, 5]  # 0, 40, 80, 120, 160, 200, 240 ms
    assert (shown[24], shown[25]) == (5, 6)
    assert list(page.numbers(2)) == [3, 4, 5]
    assert list(page.numbers(4)) == []  # the page passes over the picture at 210 ms


def test_a_rate_above_and_below_the_videos() -> None:
    frames = table([40 * i for i in range(10)])
    twice = PageFrames(frames, 400, Fraction(50))
    assert [list(twice.numbers(i)) for i in (0, 1, 9)] == [[1, 2], [3, 4], [19, 20]]
    # 30 frames a second on 25: floor(((n - 1) / 30 + the page's 2 ms or so) * 25)
    page = PageFrames(frames, 400, Fraction(30))
    seeks = [round((n - 1) / 30 / 0.002) * 0.002 + 0.002 for n in range(1, 13)]
    assert [page.index(n) for n in range(1, 13)] == [min(9, math.floor(seek * 25 + 1e-9)) for seek in seeks]


def test_an_uneven_video_gets_a_rate_that_shows_its_pictures() -> None:
    even = table([40 * i for i in range(100)])
    assert own_page(even, info()).rate == 25
    jittery = table([0, *(40 * i + i % 3 - 1 for i in range(1, 100))])
    assert own_page(jittery, info()).rate == 25  # a few pictures that are passed over change nothing
    times = [0, 20, 40, 60, 2000, 2020, 2040, 4000]
    bursts = own_page(table(times), VideoInfo("mp4", "h264", 9, 9, 8, 4500, Fraction(2), Fraction(1), 0, 1))
    assert (bursts.rate, bursts.coverage) == (50, 1)
    quick = VideoInfo("mp4", "h264", 9, 9, 6, 40, Fraction(150), Fraction(1), 0, 1)
    beyond = own_page(table([0, 1, 2, 3, 4, 5]), quick)
    assert beyond.coverage < 1  # the page seeks in steps of 2 ms


def test_a_time_is_the_picture_on_screen() -> None:
    page = PageFrames(table([0, 40, 80, 200]), 240, Fraction(25))
    assert [page.at(ms) for ms in (-5, 0, 39.9, 40, 122, 199.9, 1e12)] == [0, 0, 0, 1, 2, 2, 3]


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=40),
    st.fractions(min_value=Fraction(1), max_value=Fraction(120), max_denominator=1001),
)
def test_numbers_and_indices_agree(gaps: list[int], rate: Fraction) -> None:
    times = [0, *np.cumsum(gaps).tolist()]
    page = PageFrames(table(times), times[-1] + 40, rate)
    for index in range(len(times)):
        assert all(page.index(number) == index for number in page.numbers(index))
    assert sum(len(page.numbers(index)) for index in range(len(times))) == page.count


def test_times_beyond_64_bits_of_microseconds() -> None:
    base = Fraction(1, 90_000_000_000)
    page = PageFrames(table([0, 3_600_000_000, 1 << 50], base), 12_600_000, Fraction(25))
    assert (page.at(39), page.at(41), page.at(12_600_000)) == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", Fraction(25)),
        (" 29.97 ", Fraction("29.97")),
        ("0.04", Fraction(25)),
        ("30000/1001", Fraction(30000, 1001)),
        ("$fps", None),
        ("0", None),
        ("-3", None),
        ("1e9", None),
        (None, None),
        ("1/0", None),
    ],
)
def test_a_configured_rate(text: str | None, rate: Fraction | None) -> None:
    assert rate_from_text(text) == rate


def test_the_rate_behind_a_region() -> None:
    def keyframe(number: int, rate: float) -> dict:
        return {"frame": number, "time": number / rate}

    assert rate_of({"sequence": [keyframe(1, 25), keyframe(7, 25)]}, info()) == 25
    assert rate_of({"sequence": [keyframe(5000, 29.97)]}, info()) == Fraction("29.97")
    assert rate_of({"sequence": [{"frame": 9, "time": round(9 / 29.97, 6)}]}, info()) == Fraction("29.97")
    assert rate_of({"sequence": [{"frame": 5, "time": round(5 / 59.94, 6)}]}, info()) == Fraction("59.94")
    assert rate_of({"sequence": [keyframe(100, 17.5)]}, info()) == Fraction("17.5")
    assert rate_of({"sequence": [{"frame": 4}], "framesCount": 96, "duration": 4.01}, info()) == 24
    assert rate_of({"sequence": [{"frame": 4}], "framesCount": 55, "duration": 10}, info()) == Fraction("5.5")
    assert rate_of({"sequence": [{"frame": 4}]}, info(Fraction(50))) == 50
    assert rate_of({"sequence": None}, info(None)) == DEFAULT_RATE
    assert rate_of({"sequence": [{"frame": True, "time": 0}, 3], "framesCount": "9"}, info()) == 25
