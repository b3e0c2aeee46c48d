"""What a run asks of kept features, and gives: which frames' are there, what they are, and new ones to keep.

Nothing here may fail a run or change its results. What is kept is what would be computed, bit by bit; what cannot be
read is computed; what cannot be written is not kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
import PIL
import torch
from torch import Tensor

from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept.folder import Folder
from model.kept.group import HEADER_BYTES, GroupReader, GroupWriter, frames_per_file
from model.video import FrameTable

log = logging.getLogger(__name__)

_OPEN_FILES = 32
# What may wait to be written. Beyond it frames are not kept: the disk is slower than the encoder, and nobody waits.
_WAITING_BYTES = 64 << 20


class KeptFeatures:
    """The features of one video by one model, in a folder that all videos, models and processes share.

    Args:
        folder: where they lie; best on a disk of this machine.
        max_bytes: how large the folder may become.
        video_sha256: of the bytes that the pixels are decoded from.
        table: the video's frame table, which says what picture an index means.
        model_sha256: of the checkpoint's file.
    """

    def __init__(
        self, folder: Path, max_bytes: int, *, video_sha256: str, table: FrameTable, model_sha256: str
    ) -> None:
        self._folder = Folder(folder, max_bytes)
        self._of = {
            "video": video_sha256,
            "table": hashlib.sha256(np.ascontiguousarray(table.pts).tobytes()).hexdigest(),
            "model": model_sha256,
            "av": av.__version__,
            "pillow": PIL.__version__,
        }

    def passage(self, extractor: FeatureExtractor, grid: Grid, frames: range) -> Passage:
        """One way through `frames`, in either direction; to be closed, or used in a `with` statement.

        What an earlier passage left is found; what this one keeps, the next one finds.
        """
        shape = (grid.rows, grid.columns, extractor.width)
        document = {
            **self._of,
            **extractor.build,
            "frame": [grid.width, grid.height],
            "working": [grid.working_width, grid.working_height],
            "shape": shape,
        }
        key = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        return Passage(self._folder, key, shape, extractor, frames)


class Passage:
    """One way through a range of frames: `find` says what is kept, `keep` adds to it.

    `find`, `keep` and `close` are for one thread; what `find` gives may be loaded in any other. Writing goes on in a
    thread of its own.
    """

    def __init__(
        self, folder: Folder, key: str, shape: tuple[int, int, int], extractor: FeatureExtractor, frames: range
    ) -> None:
        self._folder, self._key, self._shape = folder, key, shape
        self._device, self._dtype, self._half = extractor.device, extractor.dtype, extractor.half
        self._frame_bytes = 2 * shape[0] * shape[1] * shape[2]
        self._per_file = frames_per_file(self._frame_bytes)
        self._readers: OrderedDict[int, GroupReader] = OrderedDict()
        self._writer = _Writer(folder, key, self._frame_bytes, self._per_file, frames)
        self._found = self._added = 0
        if frames:
            low, high = min(frames[0], frames[-1]), max(frames[0], frames[-1])
            folder.touch(key, range(self._first(low), self._first(high) + 1, self._per_file))

    def find(self, index: int) -> KeptFrame | None:
        """The features of frame `index`, ready to be loaded, or None."""
        reader = self._reader(self._first(index))
        if reader is None or index not in reader:
            return None
        self._found += 1
        return KeptFrame(self, reader, index)

    def holds(self, index: int) -> bool:
        """Whether the features of frame `index` are there, as far as can be told without reading them."""
        reader = self._reader(self._first(index))
        return reader is not None and index in reader

    def load(self, index: int) -> Tensor | None:
        """The features of frame `index` as the extractor would give them, or None."""
        found = self.find(index)
        return None if found is None else found.load()

    def keep(self, index: int, features: Tensor) -> None:
        """Keeps what the extractor gave for frame `index`, in the course of time; nobody may write into it any more."""
        self._added += self._writer.add(index, features, self._half)

    def close(self) -> None:
        """Finishes what is being written. May be called twice."""
        self._readers.clear()
        self._writer.close()
        if self._found or self._added:
            log.info("kept features: those of %d frames were there, %d more are kept", self._found, self._added)
            self._found = self._added = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _first(self, index: int) -> int:
        return index - index % self._per_file

    def _reader(self, first: int) -> GroupReader | None:
        if first in self._readers:
            self._readers.move_to_end(first)
            return self._readers[first]
        try:
            reader = GroupReader(self._folder.file(self._key, first), self._key, self._frame_bytes)
        except (OSError, ValueError):
            return None
        self._readers[first] = reader
        if len(self._readers) > _OPEN_FILES:
            self._readers.popitem(last=False)
        return reader

    def _load(self, reader: GroupReader, index: int) -> Tensor | None:
        features = torch.empty(self._shape, dtype=self._half)
        if not reader.read_into(index, _bytes_of(features)):
            return None
        return features.to(device=self._device, dtype=self._dtype, non_blocking=True)


class KeptFrame:
    """The features of one frame, found but not read yet. They stay readable whatever becomes of the file's name."""

    def __init__(self, passage: Passage, reader: GroupReader, index: int) -> None:
        self._passage, self._reader, self._index = passage, reader, index

    def load(self) -> Tensor | None:
        """What the extractor would give, on its device and in its dtype; None where the file is damaged. Any thread."""
        return self._passage._load(self._reader, self._index)


class _Writer:
    """Writes frames of one group after the other, in a thread that is started with the first frame."""

    def __init__(self, folder: Folder, key: str, frame_bytes: int, per_file: int, frames: range) -> None:
        self._folder, self._key, self._frame_bytes = folder, key, frame_bytes
        self._per_file, self._frames = per_file, frames
        self._began_ns = time.time_ns()
        self._pool: ThreadPoolExecutor | None = None
        self._room = threading.BoundedSemaphore(max(2, _WAITING_BYTES // frame_bytes))
        self._off = False
        self._group: _OpenGroup | None = None
        self._refused: int | None = None

    def add(self, index: int, features: Tensor, half: torch.dtype) -> bool:
        """Takes a frame to be written; False where it is not going to be."""
        if self._off or not self._room.acquire(blocking=False):
            return False
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "keep")
        self._pool.submit(self._guarded, index, features, half)
        return True

    def close(self) -> None:
        if self._pool is not None:
            self._pool.submit(self._finish_guarded)
            self._pool.shutdown()
            self._pool = None
        self._off = True

    def _guarded(self, index: int, features: Tensor, half: torch.dtype) -> None:
        try:
            if not self._off:
                self._write(index, features.detach().to(device="cpu", dtype=half).contiguous())
        except (OSError, RuntimeError, MemoryError) as error:
            self._give_up(error)
        finally:
            self._room.release()

    def _finish_guarded(self) -> None:
        try:
            self._finish()
        except (OSError, MemoryError) as error:
            self._give_up(error)

    def _write(self, index: int, features: Tensor) -> None:
        first = index - index % self._per_file
        if self._refused == first:
            return
        if self._group is None or self._group.first != first:
            self._finish()
            self._group = self._begin(first)
        if self._group is None:
            self._refused = first
            return
        self._group.writer.add(index, _bytes_of(features))

    def _begin(self, first: int) -> _OpenGroup | None:
        already = self._already(first)
        expected = {index for index in range(first, first + self._per_file) if index in self._frames}
        expected.update(already.frames if already else ())
        size = HEADER_BYTES + len(expected) * self._frame_bytes
        reserved = self._folder.reserve(size, self._began_ns)
        if reserved is None:
            return None
        handle, path = reserved
        return _OpenGroup(first, handle, path, GroupWriter(handle, self._key, self._frame_bytes))

    def _finish(self) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        try:
            self._join(group.writer, self._already(group.first))
            group.writer.finish()
            self._folder.place(group.path, self._key, group.first)
        finally:
            group.close()

    def _join(self, writer: GroupWriter, already: GroupReader | None) -> None:
        """Takes over the frames of the file that is there, so that it can be replaced."""
        buffer = memoryview(bytearray(self._frame_bytes))
        for index in already.frames if already else ():
            if index not in writer.frames and already is not None and already.read_into(index, buffer):
                writer.add(index, buffer)

    def _already(self, first: int) -> GroupReader | None:
        try:
            return GroupReader(self._folder.file(self._key, first), self._key, self._frame_bytes)
        except (OSError, ValueError):
            return None

    def _give_up(self, error: Exception) -> None:
        """Writes no more in this passage: the disk is full, or not ours."""
        self._off = True
        group, self._group = self._group, None
        if group is not None:
            group.close()
        log.warning("features are not kept any more in this pass: %s", error)


class _OpenGroup:
    """A group that is being written."""

    def __init__(self, first: int, handle: int, path: Path, writer: GroupWriter) -> None:
        self.first, self.path, self.writer = first, path, writer
        self._file = open(handle, "r+b", buffering=0)  # noqa: SIM115 (it lives as long as the group)

    def close(self) -> None:
        """Removes the file where it was not placed, and lets go of its lock."""
        self.path.unlink(missing_ok=True)
        self._file.close()


def _bytes_of(features: Tensor) -> memoryview:
    """The numbers of a contiguous tensor of two-byte numbers on the CPU, as they lie in memory."""
    return features.view(torch.int16).numpy().data.cast("B")
