"""Uploads: bytes to a directory of their own, counted and hashed; a check in a child process; then the store.

An upload that fails at any point leaves nothing behind. One that a killed process left is swept at the next start.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.files import VideoFiles
from app.ids import new_id
from app.media import MediaDesk
from app.multipart import batches
from app.problems import Problem
from app.records.videos import VideoRecord, Videos
from app.storage import Store
from model.video import VideoInfo

_ABANDONED_S = 24 * 3600.0


class Upload:
    """One file on its way in; a `Sink` for `app.multipart`. Use as a context: leaving it removes what is still there.

    Args:
        root: the directory for uploads; this one gets a fresh directory in it, of a name chosen here.
        max_bytes: refuse more than this many bytes.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.id = new_id("v_")
        self.folder = root / self.id
        self.path = self.folder / "upload"  # the name that messages show
        self.table = self.folder / "table.npz"
        self.max_bytes = max_bytes
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._info: VideoInfo | None = None

    def __enter__(self) -> Upload:
        self.folder.mkdir(parents=True, mode=0o700)
        self._file = self.path.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def sha256(self) -> str:
        """Of the bytes so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Appends bytes.

        Raises:
            Problem: `file-too-large` beyond the cap, `storage-full` where the disk is.
        """
        self.bytes += len(data)
        if self.bytes > self.max_bytes:
            raise too_large(self.max_bytes)
        try:
            self._file.write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Problem("storage-full", "There is no room left for this file. Nothing was stored.") from None
        self._hash.update(data)

    def close(self) -> None:
        """Called after the last byte: everything is on its way to the disk."""
        self._file.flush()

    def check(self, desk: MediaDesk, *, fps: Fraction | None = None) -> VideoInfo:
        """Checks the file in a child process, once it is complete. Blocks; call it in a thread.

        Raises:
            MediaError: the file cannot be used.
            Problem: `empty-upload`, or what `MediaDesk.probe` raises.
        """
        self._file.close()
        if self.bytes == 0:
            raise Problem("empty-upload", "The upload has no bytes. Send the file as the body or as a multipart part.")
        self._info = desk.probe(self.path, self.table, fps=fps)
        return self._info

    def keep(self, owner: str, *, store: Store, videos: Videos) -> VideoRecord:
        """Makes the checked file a video of `owner`; whatever goes wrong, all of it is stored or nothing."""
        assert self._info is not None, "check first"
        record = VideoRecord(id=self.id, owner=owner, sha256=self.sha256, **self._info.to_json())
        files = VideoFiles(store, owner, self.id)
        try:
            store.adopt(self.path, files.media)
            store.adopt(self.table, files.table)
            videos.create(record)
        except BaseException:
            store.delete_tree(files.prefix)
            raise
        return record


async def receive(request: Request, upload: Upload) -> None:
    """Streams the raw body of a request into `upload`.

    Raises:
        Problem: `file-too-large` (before a byte is read, where the length is announced), `upload-incomplete`.
    """
    check_announced(request, upload.max_bytes)
    async for batch in batches(request):
        await run_in_threadpool(upload.write, batch)
    upload.close()


def check_announced(request: Request, max_bytes: int, *, extra: int = 0) -> None:
    """Refuses a request whose `Content-Length` is already above the cap, by more than what surrounds the file.

    Raises:
        Problem: `file-too-large`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes + extra:
        raise too_large(max_bytes)


def too_large(max_bytes: int) -> Problem:
    """The problem of a file above the cap."""
    return Problem("file-too-large", f"The file has more than the {max_bytes} bytes that this service accepts.")


def sweep(root: Path, *, older_than_s: float = _ABANDONED_S) -> None:
    """Removes uploads that a killed process left, once nothing was written to them for `older_than_s` seconds."""
    limit = time.time() - older_than_s
    for folder in root.glob("v_*"):
        try:
            if max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < limit:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue
