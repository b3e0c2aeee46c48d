"""Opening a zip of images without trusting anything it says about itself."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from model.errors import MediaError
from model.video.limits import Limits

_MAX_RATIO = 200
_RATIO_FLOOR = 1 << 20
_DIRECTORY_BYTES_PER_ENTRY = 1024
_END_RECORD = b"PK\x05\x06"
_END_RECORD_64 = b"PK\x06\x06"


class Archive:
    """A checked, open zip file. Nothing is ever extracted to disk."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Open `path` and check its directory.

        Raises:
            MediaError: `bad-archive`, `too-many-frames` or `file-too-large`.
        """
        self._path = path
        _check_directory_size(path, limits)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError) as error:
            raise _bad(path, f"it cannot be opened ({error})") from error
        try:
            self._entries = self._checked(self._zip.infolist(), limits)
        except BaseException:
            self._zip.close()
            raise

    @property
    def paths(self) -> list[PurePosixPath]:
        """Paths of the files inside, folders and what macOS adds left out."""
        return list(self._entries)

    @property
    def total_bytes(self) -> int:
        """Unpacked size of all files, as declared; reading holds them to it."""
        return sum(entry.file_size for entry in self._entries.values())

    def size_of(self, path: PurePosixPath) -> int:
        """Unpacked size of one file, as declared; `read` holds it to that."""
        return self._entries[path].file_size

    def read(self, path: PurePosixPath) -> bytes:
        """The content of one file.

        Raises:
            MediaError: `bad-archive` where it is damaged or larger than declared.
        """
        entry = self._entries[path]
        try:
            with self._zip.open(entry) as file:
                data = file.read(entry.file_size + 1)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError, zlib.error) as error:
            raise _bad(self._path, f"{path} cannot be unpacked ({error})") from error
        if len(data) != entry.file_size:
            raise _bad(self._path, f"{path} does not have the size it declares")
        return data

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._zip.close()

    def _checked(self, entries: Iterable[zipfile.ZipInfo], limits: Limits) -> dict[PurePosixPath, zipfile.ZipInfo]:
        kept: dict[PurePosixPath, zipfile.ZipInfo] = {}
        total = 0
        for entry in entries:
            name = PurePosixPath(entry.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or ":" in name.parts[:1]:
                raise _bad(self._path, f"the name {entry.filename!r} points outside of it")
            mode = entry.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _bad(self._path, f"{entry.filename!r} is a link or device")
            if entry.is_dir() or "__MACOSX" in name.parts or name.name.startswith("."):
                continue
            if entry.flag_bits & 0x1:
                raise _bad(self._path, f"{entry.filename!r} is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _bad(self._path, f"{entry.filename!r} is packed in a way other than deflate")
            if entry.file_size > _RATIO_FLOOR and entry.file_size > _MAX_RATIO * max(1, entry.compress_size):
                raise _bad(self._path, f"{entry.filename!r} unpacks to over {_MAX_RATIO} times its size")
            total += entry.file_size
            if total > limits.max_bytes:
                raise MediaError(
                    f"{self._path.name} unpacks to more than the {limits.max_bytes} bytes allowed. Split it.",
                    slug="file-too-large",
                )
            if name in kept:
                raise _bad(self._path, f"the name {entry.filename!r} occurs twice")
            kept[name] = entry
        return kept


def is_archive(path: Path) -> bool:
    """Whether a file starts as a zip does."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", _END_RECORD)


def _check_directory_size(path: Path, limits: Limits) -> None:
    # `zipfile` reads the whole directory into memory, however long it says it is.
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 22 - 20 - 56))
        tail = file.read()
    at = tail.rfind(_END_RECORD)
    if at < 0 or len(tail) < at + 22:
        raise _bad(path, "its directory is missing, as after a broken transfer")
    count, length = int.from_bytes(tail[at + 10 : at + 12], "little"), int.from_bytes(tail[at + 12 : at + 16], "little")
    at_64 = tail.rfind(_END_RECORD_64)
    if at_64 >= 0 and len(tail) >= at_64 + 56:
        count = max(count, int.from_bytes(tail[at_64 + 32 : at_64 + 40], "little"))
        length = max(length, int.from_bytes(tail[at_64 + 40 : at_64 + 48], "little"))
    if length > (2 * limits.max_frames + 1000) * _DIRECTORY_BYTES_PER_ENTRY or length > size:
        raise _bad(path, f"its directory claims {count} entries in {length} bytes")
    if length // 46 > 2 * limits.max_frames + 1000:
        raise MediaError(
            f"{path.name} has more than the {limits.max_frames} frames allowed. Split it into parts.",
            slug="too-many-frames",
        )


def _bad(path: Path, what: str) -> MediaError:
    return MediaError(
        f"{path.name} is not an archive that can be used: {what}. Pack plain images into a new zip.", slug="bad-archive"
    )
