"""Writing H.264 files that play everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from model.errors import MediaError

_MILLISECONDS = Fraction(1, 1000)
_BT709 = 1
_LIMITED_RANGE = 1


def encode_video(
    path: str | PathLike[str],
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: Fraction,
    crf: int = 23,
    pts_ms: Iterable[int] | None = None,
    sample_aspect_ratio: Fraction | None = None,
    preset: str = "veryfast",
) -> int:
    """Write frames as an MP4: H.264, yuv420p, BT.709, index in front. Nothing is left behind where it fails.

    Args:
        path: file to write.
        frames: (H, W, 3) uint8 RGB, all of one size; an odd width or height is padded by one replicated column or row.
        fps: rate of the frames, or their mean rate where `pts_ms` is given.
        crf: quality of libx264, lower is better.
        pts_ms: presentation time of every frame in milliseconds, strictly increasing: keeps a variable frame rate.
        sample_aspect_ratio: shape of a pixel, where it is not square.
        preset: of libx264.

    Returns:
        How many frames were written.

    Raises:
        MediaError: `no-frames` where `frames` is empty.
        ValueError: frames of different sizes, times that do not increase, or fewer or more of them than frames.
    """
    path = Path(path)
    try:
        return _write(path, frames, Fraction(fps), crf, pts_ms, sample_aspect_ratio, preset)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: Fraction,
    crf: int,
    pts_ms: Iterable[int] | None,
    sample_aspect_ratio: Fraction | None,
    preset: str,
) -> int:
    time_base = 1 / fps if pts_ms is None else _MILLISECONDS
    timed = enumerate(frames) if pts_ms is None else _increasing(zip(pts_ms, frames, strict=True))
    first = next(timed, None)
    if first is None:
        raise MediaError("There are no frames to write.", slug="no-frames")
    height, width = first[1].shape[:2]
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": preset}
        codec = stream.codec_context
        codec.time_base = time_base
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED_RANGE
        if sample_aspect_ratio is not None and sample_aspect_ratio != 1:
            codec.sample_aspect_ratio = sample_aspect_ratio
        reformatter = VideoReformatter()
        written = 0
        for pts, image in _with_first(first, timed):
            if image.shape != (height, width, 3):
                raise ValueError(f"frame {written} has shape {image.shape}, the first has {(height, width, 3)}")
            picture = av.VideoFrame.from_ndarray(_even(image), format="rgb24")
            picture = reformatter.reformat(
                picture,
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            picture.pts, picture.time_base = pts, time_base
            container.mux(stream.encode(picture))
            written += 1
        container.mux(stream.encode(None))
    return written


def _with_first(
    first: tuple[int, NDArray[np.uint8]], rest: Iterator[tuple[int, NDArray[np.uint8]]]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    yield first
    yield from rest


def _increasing(timed: Iterable[tuple[int, NDArray[np.uint8]]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    last: int | None = None
    for pts, image in timed:
        if last is not None and pts <= last:
            raise ValueError(f"pts_ms must increase: {pts} follows {last}")
        last = pts
        yield int(pts), image


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
