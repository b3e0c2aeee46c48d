"""The folder of kept features: bounded in bytes, the least recently used files go first, shared by any processes.

Below it lie one folder for each key and `tmp` for files that are being written. A file appears whole, by a rename. A
file in `tmp` is locked as long as its writer lives, has its full size from the beginning, and counts: so the bound
holds for all processes together, and what a killed one left is found out by its missing lock.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TMP, _LOCK, _SUFFIX = "tmp", "lock", ".features"
_LOCK_TIMEOUT_S = 5.0  # it is held for milliseconds


@dataclass(frozen=True)
class _Held:
    path: Path
    size: int
    used_ns: int


class Folder:
    """A folder of kept features.

    Args:
        path: made when the first file is written. It belongs to this class alone.
        max_bytes: how large all files together may become.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes

    def file(self, key: str, first: int) -> Path:
        """Where the group that begins with frame `first` lies, if it does."""
        return self.path / key / f"{first:08d}{_SUFFIX}"

    def touch(self, key: str, firsts: range) -> None:
        """Marks the files of these groups as used now."""
        now = time.time_ns()
        with suppress(OSError):
            for path, first in self._files_of(key):
                if first in firsts:
                    with suppress(OSError):
                        os.utime(path, ns=(now, now))

    def size(self) -> int:
        """Bytes of all files, those included that are being written."""
        if not self.path.is_dir():
            return 0
        with self._locked():
            return sum(held.size for held in [*self._held(), *self._unfinished()])

    def reserve(self, count: int, used_before_ns: int) -> tuple[int, Path] | None:
        """A new, locked file of `count` bytes in `tmp`, other files evicted for it; None where there is no room.

        Args:
            count: its size.
            used_before_ns: only files that were last used before this time are evicted. A video that is larger than the
                whole folder would otherwise push out its own first frames with its last ones, in every run anew.

        Returns:
            The open file, to be closed by the caller once it is placed or discarded, and its path.

        Raises:
            OSError: nothing can be written there.
        """
        if count > self.max_bytes:
            return None
        with self._locked():
            held = sorted(self._held(), key=lambda one: one.used_ns)
            excess = (
                sum(one.size for one in held) + sum(one.size for one in self._unfinished()) + count - self.max_bytes
            )
            evicted = []
            for one in held:
                if excess <= 0 or one.used_ns >= used_before_ns:
                    break
                evicted.append(one)
                excess -= one.size
            if excess > 0:
                return None
            for one in evicted:
                _evict(one.path)
            return self._new_file(count)

    def place(self, temporary: Path, key: str, first: int) -> None:
        """Gives a finished file its name, as used now. Raises OSError."""
        now = time.time_ns()
        os.utime(temporary, ns=(now, now))
        target = self.file(key, first)
        with self._locked():  # not while another process removes the folder because it was empty
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _wait_for_lock(handle)
            yield
        finally:
            os.close(handle)

    def _new_file(self, count: int) -> tuple[int, Path]:
        (self.path / _TMP).mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path / _TMP)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.ftruncate(handle, count)
        except BaseException:
            os.close(handle)
            Path(name).unlink(missing_ok=True)
            raise
        return handle, Path(name)

    def _held(self) -> Iterator[_Held]:
        for key in _names(self.path):
            if key in (_TMP, _LOCK):
                continue
            for path, _ in self._files_of(key):
                with suppress(OSError):
                    stat = path.stat()
                    yield _Held(path, stat.st_size, stat.st_mtime_ns)

    def _unfinished(self) -> Iterator[_Held]:
        """Files that are being written; what a killed process left is removed on the way."""
        for name in _names(self.path / _TMP):
            path = self.path / _TMP / name
            with suppress(OSError):
                stat = path.stat()
                if _abandoned(path):
                    path.unlink()
                else:
                    yield _Held(path, stat.st_size, stat.st_mtime_ns)

    def _files_of(self, key: str) -> Iterator[tuple[Path, int]]:
        for name in _names(self.path / key):
            first = name.removesuffix(_SUFFIX)
            if name.endswith(_SUFFIX) and first.isdecimal():
                yield self.path / key / name, int(first)


def _wait_for_lock(handle: int) -> None:
    """Locks an open file. Raises TimeoutError: a process that was stopped while it held the lock holds up no other."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("the folder of kept features stays locked") from None
            time.sleep(0.002)


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _evict(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # if it was the last one


def _abandoned(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
