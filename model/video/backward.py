"""Reading a video from its end to its start, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from model.errors import MediaError
from model.video.forward import read_only
from model.video.reader import VideoSource
from model.video.types import Frame

# Decoders only go forwards, so every run starts at a keyframe. Long runs waste less; these bounds keep memory flat.
_MAX_RUN_FRAMES = 64
_MAX_RUN_BYTES = 128 * 1024**2


def read_backward(
    source: VideoSource,
    start: int,
    end: int | None = None,
    stride: int = 1,
    *,
    chunk: int = 16,
    later: Callable[[int], bool] | None = None,
) -> Iterator[Frame]:
    """The frames of `range(start, end, stride)` in descending order, under their true indices.

    Frames are decoded in runs whose borders lie at multiples of `chunk` positions of the range, whatever the memory
    available; a run is the largest multiple that keeps within 64 frames and 128 MiB, and one chunk at least.

    Args:
        source: an open video.
        start, end, stride: as in `VideoSource.frames`.
        chunk: positions in the shortest run.
        later: as in `read_forward`.

    Raises:
        ValueError: the range does not lie within the video, or `chunk` or `stride` is not positive.
        MediaError: `frame-unreadable`, naming the index, where a frame does not decode, after those above it.
    """
    count = source.table.frame_count
    end = count if end is None else end
    if not 0 <= start <= end <= count or stride < 1 or chunk < 1:
        raise ValueError(
            f"range({start}, {end}, {stride}) in chunks of {chunk} does not fit the {count} frames of the video"
        )
    return _runs(source, range(start, end, stride), _run_length(source, chunk), later)


def _runs(source: VideoSource, indices: range, length: int, later: Callable[[int], bool] | None) -> Iterator[Frame]:
    last = (len(indices) - 1) // length
    for run in range(last, -1, -1):
        part = indices[run * length : (run + 1) * length]
        needed = [index for index in part if later is None or not later(index)]
        try:
            frames = list(read_only(source, needed, indices))
        except MediaError:
            yield from _one_by_one(source, part, set(needed))
            return
        for index in reversed(part):
            yield frames.pop() if frames and frames[-1].index == index else source.later(index)


def _one_by_one(source: VideoSource, part: range, needed: set[int]) -> Iterator[Frame]:
    """What can be read of a damaged run: slow, but of frames that do not decode it meets the highest alone."""
    for index in reversed(part):
        yield source.frame(index) if index in needed else source.later(index)


def _run_length(source: VideoSource, chunk: int) -> int:
    frame_bytes = 3 * source.info.width * source.info.height
    affordable = min(_MAX_RUN_FRAMES, _MAX_RUN_BYTES // max(1, frame_bytes))
    return chunk * max(1, affordable // chunk)
