"""The one reader of media: video files, folders of images and zips of images, all through `VideoSource`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Self

from model.errors import MediaError
from model.video.acceptance import describe, first_frame, probe_file
from model.video.archive import is_archive
from model.video.cursor import Cursor
from model.video.images import ImageArchive, ImageFolder, Images
from model.video.limits import Limits
from model.video.media import Media
from model.video.orientation import Orientation
from model.video.table import FrameTable
from model.video.types import Frame, VideoInfo

DEFAULT_LIMITS = Limits()
_MAX_IDLE_CURSORS = 2


class VideoSource(ABC):
    """An open video: frames by index, in ascending runs or one at a time.

    Attributes:
        info: its facts.
        table: its frame table.
    """

    info: VideoInfo
    table: FrameTable

    @abstractmethod
    def frames(self, start: int = 0, end: int | None = None, stride: int = 1) -> Iterator[Frame]:
        """Frames of `range(start, end, stride)`, ascending, under their true indices; `end` None is the video's end.

        Frames are decoded as the iterator is advanced, and none is kept. Several iterators may be open at once.

        Raises:
            ValueError: the range does not lie within the video, or `stride` is not positive.
            MediaError: `frame-unreadable`, naming the index, where a frame does not decode, after those before it.
        """

    @abstractmethod
    def frame(self, index: int) -> Frame:
        """One frame.

        Raises:
            IndexError: there is no such frame.
            MediaError: `frame-unreadable`, naming the index.
        """

    def later(self, index: int) -> Frame:
        """One frame that is decoded only if its image is asked for. Raises IndexError: there is no such frame."""
        if not 0 <= index < self.table.frame_count:
            raise IndexError(f"frame {index} of {self.table.frame_count}")
        return Frame(index, self.table.time_ms(index), lambda: self.frame(index).image)

    @abstractmethod
    def content_sha256(self) -> str:
        """A digest of what the pixels are decoded from: all bytes of the file, or of a folder's images in their order.

        Raises:
            OSError, MediaError: it cannot be read any more.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file. May be called twice; the source cannot be read afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _range(self, start: int, end: int | None, stride: int) -> range:
        count = self.table.frame_count
        end = count if end is None else end
        if not 0 <= start <= end <= count or stride < 1:
            raise ValueError(f"range({start}, {end}, {stride}) does not lie within the {count} frames of the video")
        return range(start, end, stride)


def probe(
    path: str | PathLike[str], *, limits: Limits = DEFAULT_LIMITS, fps: Fraction | None = None
) -> tuple[VideoInfo, FrameTable]:
    """The full acceptance check of a video file, a folder or a zip of images. `fps` is for images only.

    It decodes frames of a hostile file: run it in a process that can be killed (`python -m model.video.child`).

    Raises:
        MediaError: `not-a-video`, `no-video-stream`, `no-frames`, `damaged-video`, `frame-size-changed`,
            `file-too-large`, `frame-too-large`, `too-many-frames`, `video-too-long` or `bad-archive`.
        FileNotFoundError: there is nothing at `path`.
    """
    path = _existing(path)
    if _holds_images(path):
        images = _open_images(path, limits)
        try:
            return images.probe(fps)
        finally:
            images.close()
    return probe_file(path, limits)


def open_video(
    path: str | PathLike[str],
    *,
    table: FrameTable | None = None,
    limits: Limits = DEFAULT_LIMITS,
    fps: Fraction | None = None,
) -> VideoSource:
    """Open a video file, a folder or a zip of images for reading.

    Args:
        path: what to open.
        table: the frame table that `probe` gave; without it the video is probed first.
        limits: caps, checked again while reading.
        fps: rate of a folder or zip of images; video files state their own. Give it again with a `table` made with it.

    Raises:
        MediaError: as `probe`; also `damaged-video` where the file is not the one that `table` was made from.
        FileNotFoundError: there is nothing at `path`.
    """
    path = _existing(path)
    if _holds_images(path):
        return _ImageSource(path, table, limits, fps)
    if table is None:
        _, table = probe_file(path, limits)
    return _FileSource(path, table, limits)


class _FileSource(VideoSource):
    def __init__(self, path: Path, table: FrameTable, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._closed = False
        self._idle: list[Cursor] = []
        self.table = table
        with Media(path, limits, exact=True, skip_to_keyframe=bool(table.keyframe.any())) as media:
            first = first_frame(media)
            self._size = media.size
            self._orientation = Orientation.of_frame(first)
            self.info = describe(media, first, table)

    def frames(self, start: int = 0, end: int | None = None, stride: int = 1) -> Iterator[Frame]:
        return self._frames(self._range(start, end, stride))

    def frame(self, index: int) -> Frame:
        if not 0 <= index < self.table.frame_count:
            raise IndexError(f"frame {index} of {self.table.frame_count}")
        with closing(self._frames(range(index, index + 1))) as frames:
            return next(frames)

    def content_sha256(self) -> str:
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _frames(self, indices: range) -> Generator[Frame]:
        # Every run of frames has a cursor of its own, so that runs do not disturb each other.
        cursor = self._cursor()
        try:
            for index in indices:
                picture = cursor.read(index)
                image = cursor.media.to_rgb(picture, self._orientation)
                yield Frame(index, self.table.time_ms(index), image)
        finally:
            if self._closed or len(self._idle) >= _MAX_IDLE_CURSORS:
                cursor.close()
            else:
                self._idle.append(cursor)

    def _cursor(self) -> Cursor:
        if self._closed:
            raise ValueError("the video source is closed")
        if self._idle:
            return self._idle.pop()
        cursor = Cursor(self._path, self.table, self._limits)
        cursor.media.size = self._size
        return cursor


class _ImageSource(VideoSource):
    def __init__(self, path: Path, table: FrameTable | None, limits: Limits, fps: Fraction | None) -> None:
        self._images = _open_images(path, limits)
        try:
            if table is None:
                self.info, self.table = self._images.probe(fps)
                return
            if table.names != self._images.names:
                raise MediaError(
                    f"The images of {path.name} are not those that were accepted. Upload them anew.",
                    slug="damaged-video",
                )
            self.table = table
            self.info = self._images.info(table, fps)
        except BaseException:
            self._images.close()
            raise

    def frames(self, start: int = 0, end: int | None = None, stride: int = 1) -> Iterator[Frame]:
        indices = self._range(start, end, stride)
        return (self.frame(index) for index in indices)

    def frame(self, index: int) -> Frame:
        if not 0 <= index < self.table.frame_count:
            raise IndexError(f"frame {index} of {self.table.frame_count}")
        try:
            image = self._images.decode(index)
        except MediaError as error:
            raise MediaError(f"Frame {index} cannot be read. {error.detail}", slug="frame-unreadable") from error
        return Frame(index, self.table.time_ms(index), image)

    def content_sha256(self) -> str:
        return self._images.content_sha256()

    def close(self) -> None:
        self._images.close()


def _existing(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if not (path.is_dir() or path.is_file()):
        raise MediaError(f"{path.name} is neither a file nor a folder.")
    return path


def _holds_images(path: Path) -> bool:
    return path.is_dir() or is_archive(path)


def _open_images(path: Path, limits: Limits) -> Images:
    if path.is_file() and path.stat().st_size > limits.max_bytes:
        raise MediaError(f"{path.name} has more than the {limits.max_bytes} bytes allowed.", slug="file-too-large")
    pool = ImageFolder(path, limits) if path.is_dir() else ImageArchive(path, limits)
    try:
        return Images(pool, limits)
    except BaseException:
        pool.close()
        raise
