"""From one item that was found to frames in a buffer: looked at first, for a plan of memory, then decoded once.

A trainer reads its owner's footage in its own process, many files at a time, where the service opens each upload in a
child that can be killed: a file that takes the decoder down ends a training run that can be resumed, not a service, and
a process for each of thousands of clips would take longer than the decoding. The reader's whitelists and caps hold all
the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import MediaError
from model.training.finding import Blob, Item, Kind, stills
from model.training.screening import Screen, Verdict
from model.video.acceptance import probe_file
from model.video.cursor import Cursor
from model.video.images import ImageArchive, ImageFolder, Images
from model.video.limits import Limits
from model.video.media import Media
from model.video.orientation import Orientation
from model.video.scan import scan_packets
from model.video.table import FrameTable

PHOTOGRAPH_PIXELS = 8
# Timestamps in whole milliseconds put a frame up to one before its time.
_EARLY_SECONDS = 0.002
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Reading:
    """How footage is read.

    Attributes:
        fps: greatest number of frames kept of a second.
        short_side: greatest length of the short side, in pixels.
        limits: caps on one clip. A photograph may have `PHOTOGRAPH_PIXELS` times as many pixels as a frame.
        scratch: folder for copies of packed videos, one for each that is open.
        decoder_threads: of each open video, 0 to leave it to the reader.
    """

    fps: float
    short_side: int
    limits: Limits
    scratch: Path
    decoder_threads: int = 0


@dataclass(frozen=True, eq=False)
class Clip:
    """An item that can be read, and what it holds.

    Attributes:
        item: what it is.
        rows: pixels of one frame as it is kept.
        frames: (n,) indices of the frames that `fps` allows, of all of them.
        table: its frames; None for a photograph.
    """

    item: Item
    rows: int
    frames: NDArray[np.int64]
    table: FrameTable | None


@dataclass(frozen=True)
class Shot:
    """Consecutive frames of one shot in a buffer.

    Attributes:
        height, width: of each frame, in pixels.
        times_ms: of each frame, in its clip.
    """

    height: int
    width: int
    times_ms: tuple[float, ...]

    @property
    def rows(self) -> int:
        """Pixels of all its frames."""
        return self.height * self.width * len(self.times_ms)


def look_at(item: Item, reading: Reading) -> list[Clip]:
    """What an item holds, as its headers and packets tell; nothing of a video is decoded.

    Returns:
        One clip; several photographs where numbered images turn out to be of different sizes, so no clip at all.

    Raises:
        MediaError: as `model.video.probe` does.
        OSError: the file is gone or cannot be read.
    """
    if item.kind is Kind.VIDEO:
        with _video(item, reading) as path:
            table, size = _scanned(path, reading.limits)
            return [Clip(item, _rows(size, reading), _spaced(table, reading.fps), table)]
    if item.kind is Kind.STILL:
        with _images(item, reading) as images:
            assert images.size is not None
            return [Clip(item, _rows(images.size, reading), np.zeros(1, dtype=np.int64), None)]
    try:
        with _images(item, reading) as images:
            _, table = images.probe(None)
            assert images.size is not None
            return [Clip(item, _rows(images.size, reading), _spaced(table, reading.fps), table)]
    except MediaError as error:
        if error.slug != "frame-size-changed" or item.kind is not Kind.FRAMES:
            raise
        return [clip for still in stills(item) for clip in look_at(still, reading)]


def read(clip: Clip, start: int, count: int, into: NDArray[np.uint8], reading: Reading) -> tuple[list[Shot], str]:
    """Decode frames `start` to `start + count` of `clip.frames`, and keep what is worth it.

    Args:
        into: (R, 3), filled from its beginning; reading ends where the next frame would not fit.

    Returns:
        shots: in order, their frames one behind the other in `into`.
        fault: why reading ended early, or an empty text.

    Raises:
        MediaError: nothing could be read.
        OSError: the file is gone or cannot be read.
    """
    chosen = clip.frames[start : start + count]
    if clip.item.kind is not Kind.VIDEO:
        with _images(clip.item, reading) as images:
            return _kept(_decoded_images(images, chosen, clip.table), into, reading)
    assert clip.table is not None
    with _video(clip.item, reading) as path:
        shots, fault = _kept(_decoded(path, clip.table, chosen, reading), into, reading)
        if not fault:
            return shots, fault
        # The packets told another story than the decoder. Ask it which frames there are; it says so if there are none.
        _, table = probe_file(path, reading.limits)
        spaced = _spaced(table, reading.fps)
        chosen = spaced[min(start, max(0, len(spaced) - count)) :][:count]
        return _kept(_decoded(path, table, chosen, reading), into, reading)


def _kept(
    frames: Iterator[tuple[Image.Image, float]], into: NDArray[np.uint8], reading: Reading
) -> tuple[list[Shot], str]:
    screen, shots, used = Screen(), list[Shot](), 0
    times: list[float] = []
    width = height = 0
    fault = ""
    try:
        for image, time_ms in frames:
            image = _reduced(image, reading.short_side)
            verdict = screen.judge(image)
            if verdict is Verdict.STATIC:
                continue
            if verdict is not Verdict.KEEP and times:
                shots.append(Shot(height, width, tuple(times)))
                times = []
            if verdict is Verdict.EMPTY:
                continue
            width, height = image.size
            if used + width * height > len(into):
                break
            into[used : used + width * height] = np.asarray(image).reshape(-1, 3)
            used += width * height
            times.append(time_ms)
    except MediaError as error:
        fault = error.detail
    if times:
        shots.append(Shot(height, width, tuple(times)))
    return shots, fault


def _decoded(
    path: Path, table: FrameTable, chosen: Sequence[int] | NDArray[np.int64], reading: Reading
) -> Iterator[tuple[Image.Image, float]]:
    cursor = Cursor(path, table, reading.limits)
    try:
        if reading.decoder_threads:
            cursor.media.codec.thread_count = reading.decoder_threads
        orientation: Orientation | None = None
        for index in chosen:
            picture = cursor.read(int(index))
            orientation = orientation or Orientation.of_frame(picture)
            yield Image.fromarray(cursor.media.to_rgb(picture, orientation)), float(table.time_ms(int(index)))
    finally:
        cursor.close()


def _decoded_images(
    images: Images, chosen: NDArray[np.int64], table: FrameTable | None
) -> Iterator[tuple[Image.Image, float]]:
    for index in chosen:
        time_ms = 0.0 if table is None else float(table.time_ms(int(index)))
        yield Image.fromarray(images.decode(int(index))), time_ms


def _scanned(path: Path, limits: Limits) -> tuple[FrameTable, tuple[int, int]]:
    with Media(path, limits) as media:
        table = scan_packets(media, limits).table
        if table is not None and media.codec.width and media.codec.height:
            return table, (media.codec.width, media.codec.height)
    info, table = probe_file(path, limits)
    return table, (info.width, info.height)


def _spaced(table: FrameTable, fps: float) -> NDArray[np.int64]:
    """The first frame of each of the equal spans of time of which `fps` make up a second."""
    seconds = (table.pts - table.pts[0]) * float(table.time_base)
    _, first = np.unique(np.floor((seconds + _EARLY_SECONDS) * fps).astype(np.int64), return_index=True)
    return first.astype(np.int64)


def _rows(size: tuple[int, int], reading: Reading) -> int:
    width, height = _reduced_size(size, reading.short_side)
    return width * height


def _reduced_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, short_side: int) -> Image.Image:
    size = _reduced_size(image.size, short_side)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


class _Pool:
    """Blobs as `Images` reads them, as if they lay in one folder."""

    kind = "folder"

    def __init__(self, item: Item) -> None:
        self.name = item.name
        self._blobs: dict[PurePosixPath, Blob] = {
            PurePosixPath(label): blob for label, blob in zip(item.labels, item.blobs, strict=True)
        }
        self.paths = list(self._blobs)
        self.total_bytes = self.stored_bytes = sum(blob.count() for blob in item.blobs)

    def size_of(self, path: PurePosixPath) -> int:
        return self._blobs[path].count()

    def read(self, path: PurePosixPath) -> bytes:
        return self._blobs[path].read()

    def close(self) -> None:
        """Nothing is kept open."""


@contextmanager
def _images(item: Item, reading: Reading) -> Iterator[Images]:
    limits = reading.limits
    if item.kind is Kind.STILL:
        limits = replace(limits, max_pixels=PHOTOGRAPH_PIXELS * limits.max_pixels)
    path = item.blobs[0].path
    pool = ImageArchive(path, limits) if item.kind is Kind.ZIP else cast(ImageFolder, _Pool(item))
    try:
        yield Images(pool, limits)
    finally:
        pool.close()


@contextmanager
def _video(item: Item, reading: Reading) -> Iterator[Path]:
    """A path to open a video by: its own, or that of a copy out of its pack under a name of ours."""
    blob = item.blobs[0]
    if blob.size is None:
        yield blob.path
        return
    if blob.size > reading.limits.max_bytes:
        raise MediaError(
            f"It has {blob.size} bytes, more than the {reading.limits.max_bytes} allowed. Shorten or compress it.",
            slug="file-too-large",
        )
    with TemporaryDirectory(dir=reading.scratch) as folder:
        # What is said about the file names it, and a name that a pack brought along is not repeated.
        copy = Path(folder, "clip")
        with copy.open("wb") as target, blob.path.open("rb") as pack:
            pack.seek(blob.offset)
            left = blob.size
            while left and (data := pack.read(min(left, _PIECE_BYTES))):
                target.write(data)
                left -= len(data)
        yield copy
