"""One file of kept features: some frames of one group, each frame's numbers as they lie in memory, with a checksum.

A file is a header of 8 KiB and the frames after it, in the order in which they came. The header is JSON, filled up with
zero bytes: `{"format": ..., "key": ..., "frame_bytes": ..., "frames": [[index, CRC-32], ...]}`. Whatever is not such a
file, or has another key, or is shorter than it says, counts as no file; a frame whose checksum differs as no frame.
"""

from __future__ import annotations

import json
import os
import weakref
import zlib
from pathlib import Path

FORMAT = "labelprop features 1"
HEADER_BYTES = 8192
# A file is large enough for the disk, and small enough that a killed process loses little.
_FILE_BYTES = 64 << 20
MAX_FRAMES = 256  # as many as the header has room for


def frames_per_file(frame_bytes: int) -> int:
    """How many neighbouring frame indices share a file: a power of two that depends on a frame's size alone."""
    fitting = max(1, min(MAX_FRAMES, _FILE_BYTES // max(1, frame_bytes)))
    return int(1 << (fitting.bit_length() - 1))


class GroupReader:
    """An open file of kept features. It stays readable when the file is replaced or evicted. Safe for many threads.

    Attributes:
        frames: the indices of the frames that it holds.
    """

    def __init__(self, path: Path, key: str, frame_bytes: int) -> None:
        """Open `path`.

        Raises:
            OSError: it is not there or cannot be read.
            ValueError: it is no whole file of this key.
        """
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._handle)
        self._frame_bytes = frame_bytes
        try:
            self._places = self._read_header(key)
        except BaseException:
            self._close()
            raise

    @property
    def frames(self) -> list[int]:
        return list(self._places)

    def __contains__(self, index: int) -> bool:
        return index in self._places

    def read_into(self, index: int, buffer: memoryview) -> bool:
        """Fills `buffer` with the numbers of frame `index`; False where they are not there or damaged."""
        if index not in self._places:
            return False
        place, checksum = self._places[index]
        try:
            count = os.preadv(self._handle, [buffer], HEADER_BYTES + place * self._frame_bytes)
        except OSError:
            return False
        return count == self._frame_bytes and zlib.crc32(buffer) == checksum

    def _read_header(self, key: str) -> dict[int, tuple[int, int]]:
        try:
            document = json.loads(os.pread(self._handle, HEADER_BYTES, 0).rstrip(b"\0"))
            frames = [(int(index), int(checksum)) for index, checksum in document["frames"]]
            fits = (document["format"], document["key"], document["frame_bytes"]) == (FORMAT, key, self._frame_bytes)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError("no file of kept features") from error
        if not fits or os.fstat(self._handle).st_size < HEADER_BYTES + len(frames) * self._frame_bytes:
            raise ValueError("kept features of something else, or cut short")
        return {index: (place, checksum) for place, (index, checksum) in enumerate(frames)}


class GroupWriter:
    """A file of kept features while it is being written, frame by frame. The header comes last.

    Args:
        handle: a file open for writing; the caller closes it, and gives it its name.
        key: what the features belong to.
        frame_bytes: size of one frame.
    """

    def __init__(self, handle: int, key: str, frame_bytes: int) -> None:
        self._handle, self._key, self._frame_bytes = handle, key, frame_bytes
        self.frames: dict[int, int] = {}

    @property
    def size(self) -> int:
        """Bytes of the file with the frames that were added so far."""
        return HEADER_BYTES + len(self.frames) * self._frame_bytes

    def add(self, index: int, data: memoryview) -> None:
        """Writes one frame; one that is already there stays.

        Raises:
            OSError: the disk is full, for example. The file is then of no use.
        """
        if index in self.frames:
            return
        _write_all(self._handle, data, self.size)
        self.frames[index] = zlib.crc32(data)

    def finish(self) -> None:
        """Writes the header and cuts off what was reserved in vain. Raises OSError."""
        document = {
            "format": FORMAT,
            "key": self._key,
            "frame_bytes": self._frame_bytes,
            "frames": list(self.frames.items()),
        }
        header = json.dumps(document, separators=(",", ":")).encode()
        assert len(header) <= HEADER_BYTES
        _write_all(self._handle, memoryview(header.ljust(HEADER_BYTES, b"\0")), 0)
        os.ftruncate(self._handle, self.size)


def _write_all(handle: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(handle, data, offset)
        data, offset = data[count:], offset + count
