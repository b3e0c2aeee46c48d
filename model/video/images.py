"""Folders and zips of images as videos: natural order of names, all of one size as shown."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from model.errors import MediaError
from model.video.acceptance import WHOLE_BUDGET_PIXELS, duration_ms
from model.video.archive import Archive
from model.video.limits import Limits
from model.video.orientation import Orientation
from model.video.table import FrameTable
from model.video.types import VideoInfo

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
# Times need a spacing even where nobody has said how fast the images follow each other.
DEFAULT_FPS = Fraction(25)
_EXIF_ORIENTATION = 0x0112
# An uncompressed BMP with an alpha channel, and what may surround it.
_BYTES_PER_PIXEL, _HEADER_BYTES = 4, 1 << 20
# Images decode about ten times slower than video.
_WHOLE_BUDGET_PIXELS = WHOLE_BUDGET_PIXELS // 10
_SPOTS = (0.25, 0.5, 0.75)
# What Pillow raises for hostile and damaged files.
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


class ImageFolder:
    """The images of one folder on disk."""

    kind = "folder"

    def __init__(self, path: Path, limits: Limits) -> None:
        """List `path`; see `Images` for what else is checked."""
        self._path = path
        self._limits = limits
        self.name = path.name
        self.paths = [PurePosixPath(entry.name) for entry in path.iterdir() if entry.is_file() and _is_image(entry)]
        self.total_bytes = self.stored_bytes = sum((path / name).stat().st_size for name in self.paths)

    def size_of(self, path: PurePosixPath) -> int:
        """Bytes of one image; 0 where it is gone, which reading it will tell."""
        file = self._path / path
        return file.stat().st_size if file.exists() else 0

    def read(self, path: PurePosixPath) -> bytes:
        """The content of one image. Raises `MediaError` where it is gone."""
        try:
            return (self._path / path).read_bytes()
        except OSError as error:
            raise MediaError(f"{path} cannot be read: {error.strerror}.", slug="damaged-video") from error

    def close(self) -> None:
        """Nothing to do."""


class ImageArchive:
    """The images of one zip file, all from one folder inside it."""

    kind = "zip"

    def __init__(self, path: Path, limits: Limits) -> None:
        """Open `path`. Raises as `Archive` does."""
        self._archive = Archive(path, limits)
        self.name = path.name
        self.paths = [entry for entry in self._archive.paths if _is_image(entry)]
        self.total_bytes = self._archive.total_bytes
        self.stored_bytes = path.stat().st_size

    def size_of(self, path: PurePosixPath) -> int:
        """Bytes of one image, as declared."""
        return self._archive.size_of(path)

    def read(self, path: PurePosixPath) -> bytes:
        """The content of one image. Raises `MediaError` where it is damaged."""
        return self._archive.read(path)

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


class Images:
    """Images in natural order of their names, each decoded on demand."""

    def __init__(self, pool: ImageFolder | ImageArchive, limits: Limits) -> None:
        """Order and check the names of a pool of images, and the first image's size.

        Raises:
            MediaError: `no-frames`, `too-many-frames`, `file-too-large`, `bad-archive` (several folders, or two images
                whose exports would have one name), `frame-too-large` or `damaged-video`.
        """
        self._pool = pool
        self._limits = limits
        self._paths = sorted(pool.paths, key=_natural)
        _check_names(pool, self._paths, limits)
        self.size: tuple[int, int] | None = None
        self.size, self.format, self.orientation = self._head(0)

    @property
    def names(self) -> tuple[str, ...]:
        """File names without their folder, in order."""
        return tuple(path.name for path in self._paths)

    def probe(self, fps: Fraction | None) -> tuple[VideoInfo, FrameTable]:
        """Check every image's size and decode the first, the last and some between; all of them where they are few.

        Raises:
            MediaError: `frame-size-changed`, `frame-too-large`, `damaged-video`, `bad-archive` or `video-too-long`.
        """
        table = self.table(fps)
        info = self.info(table, fps)
        if info.duration_ms > 1000 * self._limits.max_seconds:
            raise MediaError(
                f"At this rate the images last longer than the {self._limits.max_seconds:g} seconds allowed. "
                "Split them or raise fps.",
                slug="video-too-long",
            )
        count = len(self._paths)
        whole = count * info.width * info.height <= _WHOLE_BUDGET_PIXELS
        decoded = set(range(count)) if whole else {0, *(int(spot * count) for spot in _SPOTS), count - 1}
        for index in range(count):
            if index in decoded:
                self.decode(index)
            else:
                self._head(index)
        return info, table

    def table(self, fps: Fraction | None) -> FrameTable:
        """Evenly spaced times; every image can be decoded by itself."""
        count = len(self._paths)
        pts = np.arange(count, dtype=np.int64)
        return FrameTable(pts, np.ones(count, dtype=np.bool_), 1 / (fps or DEFAULT_FPS), names=self.names)

    def info(self, table: FrameTable, fps: Fraction | None) -> VideoInfo:
        """The facts; `fps` is None where nobody stated it, though times are then those of `DEFAULT_FPS`."""
        assert self.size is not None
        return VideoInfo(
            container=self._pool.kind,
            codec=self.format.lower(),
            width=self.size[0],
            height=self.size[1],
            frame_count=table.frame_count,
            duration_ms=duration_ms(table, fps or DEFAULT_FPS),
            fps=fps,
            sample_aspect_ratio=Fraction(1),
            rotation=self.orientation.rotation,
            bytes=self._pool.stored_bytes,
        )

    def decode(self, index: int) -> NDArray[np.uint8]:
        """Image `index` as (height, width, 3) uint8 RGB, EXIF orientation applied.

        Raises:
            MediaError: `damaged-video`, `bad-archive`, `frame-size-changed` or `frame-too-large`, naming the file.
        """
        image, orientation = self._open(index)
        try:
            with image:
                pixels = np.array(_eight_bit(image).convert("RGB"))
        except _FAULTS as error:
            raise self._damaged(index, error) from error
        return orientation.apply(pixels)

    def content_sha256(self) -> str:
        """A digest of all images' bytes in their order; their names and what else lies beside them do not count.

        Raises:
            MediaError: `damaged-video` or `bad-archive`, where an image is gone.
        """
        digest = hashlib.sha256()
        for path in self._paths:
            data = self._pool.read(path)
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()

    def close(self) -> None:
        """Close the archive, if it is one."""
        self._pool.close()

    def _head(self, index: int) -> tuple[tuple[int, int], str, Orientation]:
        image, orientation = self._open(index)
        with image:
            return orientation.shown_size(*image.size), str(image.format), orientation

    def _open(self, index: int) -> tuple[ImageFile.ImageFile, Orientation]:
        """Open image `index` and check its size; no pixel is decoded yet."""
        path = self._paths[index]
        if self._pool.size_of(path) > _BYTES_PER_PIXEL * self._limits.max_pixels + _HEADER_BYTES:
            raise self._too_large(index, "more bytes than an image")
        data = self._pool.read(path)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise self._too_large(index, f"more pixels than the {self._limits.max_pixels}") from error
        except UnidentifiedImageError as error:
            raise self._damaged(index, f"it is none of {', '.join(FORMATS)}") from error
        except _FAULTS as error:
            raise self._damaged(index, error) from error
        width, height = image.size
        if width * height > self._limits.max_pixels:
            raise self._too_large(index, f"{width}x{height} pixels, more than the {self._limits.max_pixels}")
        try:
            # Not `image.getexif()`: that of a PNG decodes the whole picture to look behind it.
            orientation = Orientation.of_exif(Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1))
        except _FAULTS as error:
            raise self._damaged(index, error) from error
        shown = orientation.shown_size(width, height)
        if self.size is not None and shown != self.size:
            raise MediaError(
                f"{path.name} is {shown[0]}x{shown[1]}, but the first image is {self.size[0]}x{self.size[1]}. "
                "All images must have one size.",
                slug="frame-size-changed",
            )
        return image, orientation

    def _damaged(self, index: int, why: object) -> MediaError:
        return MediaError(
            f"The image {self._paths[index].name} cannot be decoded ({why}). Replace it.", slug="damaged-video"
        )

    def _too_large(self, index: int, what: str) -> MediaError:
        return MediaError(
            f"The image {self._paths[index].name} has {what} allowed. Scale it down.", slug="frame-too-large"
        )


def _natural(path: PurePosixPath) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.stem.lower())
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)], path.name


def _is_image(path: PurePosixPath | Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _check_names(pool: ImageFolder | ImageArchive, paths: list[PurePosixPath], limits: Limits) -> None:
    if not paths:
        raise MediaError(
            f"{pool.name} has no images. Accepted are files ending in {', '.join(sorted(SUFFIXES))}.", slug="no-frames"
        )
    if len(paths) > limits.max_frames:
        raise MediaError(
            f"{pool.name} has more than the {limits.max_frames} frames allowed. Split it into parts.",
            slug="too-many-frames",
        )
    if pool.total_bytes > limits.max_bytes:
        raise MediaError(
            f"The images of {pool.name} have more than the {limits.max_bytes} bytes allowed. Split or compress them.",
            slug="file-too-large",
        )
    folders = {path.parent for path in paths}
    if len(folders) > 1:
        raise MediaError(
            f"{pool.name} has images in several folders ({_some(sorted(str(folder) for folder in folders))}). "
            "Pack the frames of one video into one folder.",
            slug="bad-archive",
        )
    stems = sorted(path.stem for path in paths)
    twice = [a for a, b in pairwise(stems) if a == b]
    if twice:
        raise MediaError(
            f"{pool.name} has several images named {twice[0]!r}. Keep one of each; exports are named after them.",
            slug="bad-archive",
        )


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image
