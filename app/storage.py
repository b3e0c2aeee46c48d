"""Files: one store for videos, results and exports.

A key is a relative path of plain segments, such as `jobs/local/j_1f.../0/spec.json`. `Store` is the whole contract; a
second kind of store (S3 through obstore) has to offer these methods and nothing else: whole-object writes that appear
at once or not at all, reads, listings by prefix, and a local copy of what must be a file (media, served exports).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_SCRATCH = ".tmp"
_TRIES = 8


class Store(Protocol):
    """Where files live. Keys are relative paths with `/` between plain segments."""

    def write_atomic(self, key: str, data: bytes) -> None:
        """Stores `data` under `key`, durably: a reader sees all of it or what was there before."""

    def open_write(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A context that yields a binary file and stores it under `key` when the block ends without an exception."""

    def scratch(self) -> AbstractContextManager[Path]:
        """A context that yields an empty local directory, gone afterwards; what is made there is cheap to `adopt`."""

    def adopt(self, path: Path, key: str) -> None:
        """Moves the local file or folder `path` into the store under `key`."""

    def read(self, key: str) -> bytes:
        """The whole object; raises FileNotFoundError."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under exactly `key`."""

    def list(self, prefix: str) -> list[str]:
        """The keys of all objects below `prefix`, sorted; empty when there are none."""

    def delete_tree(self, prefix: str) -> None:
        """Removes the object `prefix` and everything below it; what is not there is no error."""

    def local_path(self, key: str) -> Path:
        """A local file with the object's content (for media and for serving ranges); raises FileNotFoundError."""


class LocalStore:
    """A store in one local directory, made when first used.

    Args:
        root: the directory. Half-written files live in a subdirectory of it, so that a rename is atomic.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def write_atomic(self, key: str, data: bytes) -> None:
        with self.open_write(key) as file:
            file.write(data)

    @contextmanager
    def open_write(self, key: str) -> Iterator[BinaryIO]:
        target = self._path(key)
        scratch = self.root / _SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=scratch)
        try:
            with os.fdopen(handle, "wb") as file:
                # mkstemp makes files private to the user; the store's take the umask as any other file does.
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                yield file
            _place(Path(name), target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        directory = self._scratch_directory()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def adopt(self, path: Path, key: str) -> None:
        target = self._path(key)
        try:
            _place(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another filesystem: copied to ours first, so that the last step is a rename all the same.
            with self.scratch() as scratch:
                copy = scratch / "copy"
                shutil.copytree(path, copy) if path.is_dir() else shutil.copyfile(path, copy)
                _place(copy, target)
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def read(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        start = self._path(prefix) if prefix else self.root
        found = (path.relative_to(self.root) for path in start.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in found if path.parts[0] != _SCRATCH)

    def delete_tree(self, prefix: str) -> None:
        path = self._path(prefix)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        # Folders left empty above it go too, so that a deleted job leaves nothing behind.
        for parent in path.parents:
            if parent == self.root or not _remove_if_empty(parent):
                break

    def local_path(self, key: str) -> Path:
        path = self._path(key)
        if not path.exists():
            raise FileNotFoundError(key)
        return path

    def sweep(self, older_than_s: float) -> None:
        """Removes half-written files of processes that were killed, once they are older than `older_than_s` seconds."""
        limit = time.time() - older_than_s
        for path in (self.root / _SCRATCH).glob("*"):
            try:
                if path.stat().st_mtime < limit:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            except FileNotFoundError:
                continue

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError(f"not a key of the store: {key!r}")
        return self.root.joinpath(*segments)

    def _scratch_directory(self) -> Path:
        scratch = self.root / _SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=scratch))


def _place(source: Path, target: Path) -> None:
    """Renames `source` to `target`, durably."""
    if source.is_file():
        _sync(source)
    for _ in range(_TRIES):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except FileNotFoundError:
            if not source.exists():
                raise
            # A delete of a neighbour removed the empty folder between the two calls.
            continue
        _sync(target.parent)
        return
    raise FileNotFoundError(target)


def _umask() -> int:
    # Reading the umask means setting it, which races with other threads; the kernel's own answer does not.
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_if_empty(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
