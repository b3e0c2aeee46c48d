"""Reading a video from its start to its end, past the frames whose pixels nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from model.video.reader import VideoSource
from model.video.types import Frame


def read_forward(
    source: VideoSource,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    *,
    later: Callable[[int], bool] | None = None,
) -> Iterator[Frame]:
    """The frames of `range(start, end, stride)` in ascending order, under their true indices.

    Args:
        source: an open video.
        start, end, stride: as in `VideoSource.frames`.
        later: asked of every index, when it comes near; where it holds the frame is yielded without being decoded
            (`VideoSource.later`). None decodes all of them.

    Raises:
        ValueError: the range does not lie within the video, or `stride` is not positive.
        MediaError: `frame-unreadable`, naming the index, where a frame does not decode, after those before it.
    """
    frames = source.frames(start, end, stride)
    if later is None:
        return frames
    return _past(source, range(start, source.table.frame_count if end is None else end, stride), later)


def read_only(source: VideoSource, needed: Sequence[int], among: range) -> Iterator[Frame]:
    """The `needed` frames, ascending and decoded: neighbours in `among` in one go, with a jump past those left out.

    Raises:
        MediaError: as `read_forward`.
    """
    wanted = set(needed)
    covered = among[among.index(needed[0]) : among.index(needed[-1]) + 1] if needed else range(0)
    return (frame for frame in _past(source, covered, lambda index: index not in wanted) if frame.index in wanted)


def _past(source: VideoSource, indices: range, later: Callable[[int], bool]) -> Iterator[Frame]:
    frames: Iterator[Frame] | None = None
    for index in indices:
        if later(index):
            frames = None  # closes it, and the next one takes over where it was
            yield source.later(index)
            continue
        if frames is None:
            frames = source.frames(index, indices[-1] + 1, indices.step)
        yield next(frames)
