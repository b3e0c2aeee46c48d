from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.errors import MediaError
from model.video import open_video, probe, read_backward

Number = Callable[[np.ndarray], int]


@pytest.mark.parametrize("chunk", [1, 3, 16, 100])
@pytest.mark.parametrize("where", [(0, None, 1), (0, 40, 7), (5, 33, 1), (39, 40, 1), (11, 30, 4), (7, 7, 1)])
def test_true_indices_in_descending_order(
    bframes_mp4: Path, number: Number, where: tuple[int, int | None, int], chunk: int
) -> None:
    start, end, stride = where
    with open_video(bframes_mp4) as source:
        frames = list(read_backward(source, start, end, stride, chunk=chunk))
        expected = list(range(start, 40 if end is None else end, stride))[::-1]
        assert [(frame.index, number(frame.image)) for frame in frames] == [(i, i) for i in expected]
        assert [frame.time_ms for frame in frames] == [40 * i for i in expected]


def test_same_pixels_as_forwards_without_usable_timestamps(
    tmp_path: Path, clip: Callable[..., Path], number: Number
) -> None:
    with open_video(clip(tmp_path / "h.avi", frames=80)) as source:
        assert not source.table.by_pts
        forwards = [frame.image for frame in source.frames()]
        for frame in read_backward(source, 0):
            np.testing.assert_array_equal(frame.image, forwards[frame.index])


@pytest.mark.parametrize("chunk", [4, 16, 100])
def test_a_frame_that_went_bad_is_named_after_those_above_it(
    tmp_path: Path, clip: Callable[..., Path], number: Number, spoil_packet: Callable[[Path, int], None], chunk: int
) -> None:
    path = clip(tmp_path / "p.mov", codec="png", pix_fmt="rgb24", b_frames=None, frames=20)
    _, table = probe(path)
    for index in (9, 12):
        spoil_packet(path, index)
    with open_video(path, table=table) as source:
        seen = []
        with pytest.raises(MediaError, match="Frame 12 ") as raised:
            seen.extend(number(frame.image) for frame in read_backward(source, 0, chunk=chunk))
        assert raised.value.slug == "frame-unreadable"
        assert seen == list(range(19, 12, -1))
        # The damage does not reach frames that a stride leaves out.
        assert [frame.index for frame in read_backward(source, 0, 20, 7, chunk=chunk)] == [14, 7, 0]


def test_bad_ranges(bframes_mp4: Path) -> None:
    with open_video(bframes_mp4) as source:
        for start, end, stride, chunk in [(0, 41, 1, 16), (-1, 4, 1, 16), (0, 4, 0, 16), (0, 4, 1, 0)]:
            with pytest.raises(ValueError, match="does not fit"):
                read_backward(source, start, end, stride, chunk=chunk)


def test_memory_does_not_grow_with_length(tmp_path: Path, clip: Callable[..., Path]) -> None:
    def peak(frames: int) -> int:
        path = clip(tmp_path / f"{frames}.mp4", frames=frames, gop=50, options={"preset": "ultrafast"})
        with open_video(path) as source:
            tracemalloc.start()
            held = []
            for frame in read_backward(source, 0):
                held = [frame, *held[:1]]
            result = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return result

    assert peak(1500) < 1.5 * peak(150) + 200_000
