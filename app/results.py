"""Canonical results: the one place where a job's results are written and read.

Format (schema 1). A job covers the frames `frame_indices`; the k-th of them has *position* k. Positions are cut into
chunks of `chunk_frames`: chunk c holds positions `c * chunk_frames` up to `(c + 1) * chunk_frames`, exclusive. Its
results lie in one file for each direction that made some of them,

    {prefix}/results/{direction}-{chunk:06d}.jsonl.gz

where direction is `f` (the forward pass) or `b` (frames before the first anchor, made by the backward pass). Where the
first anchor lies inside a chunk, that chunk has a part in each file; no frame is in both. A file is gzip without name
or time, so that equal results are equal bytes. Its first line is a header,

    {"schema_version": 1, "direction": "f", "chunk": 0, "chunk_frames": 16, "frames": 16}

and each line after it is one result (`model.labels.jsonio.result_to_json`), ascending by frame. Files are written whole
and renamed; everything else (JSON over REST, PNG, exports) is a pure function of them.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from app.files import JobFiles
from app.storage import Store
from model.labels import FrameResult
from model.labels.jsonio import result_from_json, result_to_json

if TYPE_CHECKING:
    from app.records.jobs import JobRecord

__all__ = ["SCHEMA_VERSION", "Direction", "JobFiles", "ResultStore", "open_results"]

SCHEMA_VERSION = 1
Direction = Literal["f", "b"]
_DIRECTIONS: tuple[Direction, ...] = ("f", "b")
_GZIP = 16 + zlib.MAX_WBITS
_HEADER_BYTES = 4096


class ResultStore:
    """The results of one revision of a job.

    Args:
        store: where the files lie.
        prefix: the revision's folder (`JobFiles.prefix`).
        frame_indices: the frames that the job covers, ascending.
        chunk_frames: how many positions a chunk covers; pinned when the job is accepted.
        cached_chunks: how many decoded files are kept in memory.
    """

    def __init__(
        self, store: Store, prefix: str, frame_indices: range, chunk_frames: int, *, cached_chunks: int = 4
    ) -> None:
        if frame_indices.step < 1 or chunk_frames < 1:
            raise ValueError("frames must ascend and a chunk must hold at least one")
        self.store = store
        self.prefix = f"{prefix}/results"
        self.frame_indices = frame_indices
        self.chunk_frames = chunk_frames
        self._cached_chunks = cached_chunks
        self._cache: OrderedDict[str, dict[int, dict[str, Any]]] = OrderedDict()

    @property
    def chunk_count(self) -> int:
        """How many chunks the whole job has."""
        return -(-len(self.frame_indices) // self.chunk_frames)

    def chunk_of(self, frame: int) -> int:
        """The chunk that holds `frame`; raises ValueError for a frame that the job does not cover."""
        return self.frame_indices.index(frame) // self.chunk_frames

    def frames_of(self, chunk: int) -> range:
        """The frames that `chunk` covers, ascending."""
        return self.frame_indices[chunk * self.chunk_frames : (chunk + 1) * self.chunk_frames]

    def key(self, direction: Direction, chunk: int) -> str:
        """The key of one file."""
        return f"{self.prefix}/{direction}-{chunk:06d}.jsonl.gz"

    def write_chunk(self, direction: Direction, chunk: int, results: Iterable[FrameResult]) -> None:
        """Stores what `direction` made of `chunk`, in any order; replaces an earlier write of the same part.

        Raises:
            ValueError: a result lies outside the chunk, or a frame comes twice.
        """
        by_frame: dict[int, FrameResult] = {}
        covered = self.frames_of(chunk)
        for result in results:
            if result.frame not in covered or result.frame in by_frame:
                raise ValueError(f"frame {result.frame} does not belong to chunk {chunk}, or comes twice")
            by_frame[result.frame] = result
        header = {
            "schema_version": SCHEMA_VERSION,
            "direction": direction,
            "chunk": chunk,
            "chunk_frames": self.chunk_frames,
            "frames": len(by_frame),
        }
        lines = [header, *(result_to_json(by_frame[frame]) for frame in sorted(by_frame))]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        key = self.key(direction, chunk)
        self.store.write_atomic(key, packer.compress(text.encode()) + packer.flush())
        self._cache.pop(key, None)

    def read(self, frame: int) -> FrameResult | None:
        """The result of the frame with that true index, or None while there is none."""
        document = self.read_json(frame)
        return None if document is None else result_from_json(document)

    def read_json(self, frame: int) -> dict[str, Any] | None:
        """The result of that frame as the stored JSON document, or None while there is none."""
        if frame not in self.frame_indices:
            return None
        chunk = self.chunk_of(frame)
        for direction in _DIRECTIONS:
            found = self._load(self.key(direction, chunk)).get(frame)
            if found is not None:
                return found
        return None

    def iter(self, start: int = 0, limit: int | None = None) -> Iterator[FrameResult]:
        """Results in frame order over what exists, from the true frame index `start` on, at most `limit` of them."""
        return (result_from_json(document) for document in self.iter_json(start, limit))

    def iter_json(self, start: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """As `iter`, yielding the stored JSON documents."""
        left = len(self.frame_indices) if limit is None else limit
        stored = set(self.store.list(self.prefix))
        first = max(0, -(-(start - self.frame_indices.start) // self.frame_indices.step)) // self.chunk_frames
        for chunk in range(first, self.chunk_count):
            if left <= 0:
                return
            keys = [key for key in (self.key(direction, chunk) for direction in _DIRECTIONS) if key in stored]
            documents = {frame: document for key in keys for frame, document in self._load(key).items()}
            for frame in sorted(documents):
                if frame >= start and left > 0:
                    left -= 1
                    yield documents[frame]

    def count(self) -> int:
        """How many frames have a result."""
        return sum(_header(self.store.read(key))["frames"] for key in self.store.list(self.prefix))

    def _load(self, key: str) -> dict[int, dict[str, Any]]:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        try:
            packed = self.store.read(key)
        except FileNotFoundError:
            # Not remembered: a running job writes it later.
            return {}
        header, *documents = [json.loads(line) for line in zlib.decompress(packed, _GZIP).splitlines()]
        _check_schema(header)
        self._cache[key] = {document["frame"]: document for document in documents}
        while len(self._cache) > self._cached_chunks:
            self._cache.popitem(last=False)
        return self._cache[key]


def open_results(store: Store, job: JobRecord) -> ResultStore:
    """The results of a job as its record pins them: range, stride and chunk size."""
    options = job.options
    frames = range(options["start"], options["end"], options["stride"])
    return ResultStore(store, JobFiles(store, job.owner, job.id, job.revision).prefix, frames, job.chunk_frames)


def _header(packed: bytes) -> dict[str, Any]:
    # Only the first line is unpacked: a chunk of large masks is not worth decoding to be counted.
    text = zlib.decompressobj(_GZIP).decompress(packed, _HEADER_BYTES)
    header: dict[str, Any] = json.loads(text.split(b"\n", 1)[0])
    _check_schema(header)
    return header


def _check_schema(header: dict[str, Any]) -> None:
    if header["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"results of schema {header['schema_version']}; this version reads {SCHEMA_VERSION}")
