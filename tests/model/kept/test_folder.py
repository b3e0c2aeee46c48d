from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.kept import folder as folder_module
from model.kept.folder import Folder

ROOT = Path(__file__).parents[3]
LATER = 1 << 63


def _put(folder: Folder, key: str, first: int, size: int, *, before_ns: int = LATER) -> bool:
    """Writes one file of that size; whether there was room."""
    reserved = folder.reserve(size, before_ns)
    if reserved is None:
        return False
    handle, path = reserved
    folder.place(path, key, first)
    os.close(handle)
    return True


def _held(folder: Folder) -> set[tuple[str, int]]:
    return {(path.parent.name, int(path.stem)) for path in folder.path.glob("*/*.features")}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Room for 1,000 bytes."""
    return Folder(tmp_path / "features", 1000)


def test_the_least_recently_used_goes_first(folder: Folder) -> None:
    for first in range(4):
        assert _put(folder, "a", first, 250)
    folder.touch("a", range(1))
    assert _put(folder, "b", 0, 300)
    assert _held(folder) == {("a", 0), ("a", 3), ("b", 0)}
    assert folder.size() == 800


def test_the_bound_holds_from_the_moment_of_reserving(folder: Folder) -> None:
    assert _put(folder, "a", 0, 500)
    reserved = folder.reserve(700, LATER)
    assert reserved is not None
    assert _held(folder) == set()
    assert folder.size() == 700
    assert folder.reserve(301, LATER) is None  # what is being written is not evicted
    os.close(reserved[0])


def test_what_was_used_since_is_not_evicted(folder: Folder) -> None:
    assert _put(folder, "old", 0, 400)
    began = time.time_ns()
    assert _put(folder, "new", 0, 400, before_ns=began)
    assert _put(folder, "new", 1, 400, before_ns=began)
    assert _held(folder) == {("new", 0), ("new", 1)}
    assert not _put(folder, "new", 2, 400, before_ns=began)
    assert _held(folder) == {("new", 0), ("new", 1)}


def test_nothing_is_evicted_in_vain(folder: Folder) -> None:
    assert _put(folder, "old", 0, 300)
    began = time.time_ns()
    assert _put(folder, "new", 0, 600, before_ns=began)
    assert not _put(folder, "new", 1, 900, before_ns=began)
    assert not _put(folder, "larger than all", 0, 1001)
    assert _held(folder) == {("old", 0), ("new", 0)}


def test_a_smaller_bound_takes_hold_with_the_next_file(folder: Folder) -> None:
    for first in range(4):
        assert _put(folder, "a", first, 250)
    smaller = Folder(folder.path, 400)
    assert _put(smaller, "b", 0, 100)
    assert smaller.size() <= 400
    assert ("b", 0) in _held(smaller)


def test_a_key_without_files_leaves_no_folder(folder: Folder) -> None:
    assert _put(folder, "a", 0, 900)
    assert _put(folder, "b", 0, 900)
    assert not (folder.path / "a").exists()


def test_what_a_killed_process_left_goes_with_the_next_file(folder: Folder) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from model.kept.folder import Folder
assert Folder(Path(sys.argv[1]), 1000).reserve(900, 1 << 63) is not None
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], env=environment, check=False)
    assert done.returncode == -9
    assert [path.stat().st_size for path in (folder.path / "tmp").iterdir()] == [900]
    assert _put(folder, "a", 0, 800)
    assert list((folder.path / "tmp").iterdir()) == []


def test_foreign_files_are_left_alone(folder: Folder) -> None:
    (folder.path / "a").mkdir(parents=True)
    for name in ("notes.txt", "x.features"):
        (folder.path / "a" / name).write_bytes(b"x" * 5000)
    assert _put(folder, "a", 0, 900)
    assert _put(folder, "a", 1, 900)
    assert _held(Folder(folder.path / "none", 1)) == set()
    assert {path.name for path in (folder.path / "a").iterdir()} == {"notes.txt", "x.features", "00000001.features"}


def test_a_process_that_stands_still_with_the_lock_holds_up_no_other(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_LOCK_TIMEOUT_S", 0.01)
    folder.path.mkdir()
    handle = os.open(folder.path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(TimeoutError):
        folder.reserve(10, LATER)
    os.close(handle)
    assert _put(folder, "a", 0, 10)


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "none", 100)
    folder.touch("a", range(10))
    assert folder.size() == 0
    assert not folder.path.exists()
