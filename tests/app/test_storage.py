from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app.storage import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_reads_what_was_written(store: LocalStore) -> None:
    store.write_atomic("jobs/local/j_1/0/spec.json", b"{}")
    assert store.read("jobs/local/j_1/0/spec.json") == b"{}"
    assert store.exists("jobs/local/j_1/0/spec.json")
    assert not store.exists("jobs/local/j_1/0")
    assert store.list("jobs") == ["jobs/local/j_1/0/spec.json"]
    assert store.local_path("jobs/local/j_1/0/spec.json").read_bytes() == b"{}"


def test_what_is_not_there_is_told(store: LocalStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("a/b")
    with pytest.raises(FileNotFoundError):
        store.local_path("a/b")
    assert store.list("a") == []
    store.delete_tree("a")


def test_a_broken_write_leaves_what_was_there_and_nothing_else(store: LocalStore) -> None:
    store.write_atomic("a/b", b"old")
    with pytest.raises(ZeroDivisionError), store.open_write("a/b") as file:
        file.write(b"half" * (1 // 0 if file.write(b"half") else 0))
    assert store.read("a/b") == b"old"
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["b"]


def test_readers_never_see_half_a_write(store: LocalStore) -> None:
    store.write_atomic("k", b"0" * 100_000)
    done = threading.Event()

    def write() -> None:
        for number in range(50):
            store.write_atomic("k", str(number % 10).encode() * 100_000)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        assert len(set(store.read("k"))) == 1
        assert len(store.read("k")) == 100_000
    thread.join()


def test_delete_leaves_no_empty_folders_and_spares_the_neighbours(store: LocalStore) -> None:
    store.write_atomic("jobs/local/j_1/0/results/f", b"")
    store.write_atomic("jobs/local/j_2/0/spec.json", b"")
    store.delete_tree("jobs/local/j_1")
    assert store.list("") == ["jobs/local/j_2/0/spec.json"]
    assert not (store.root / "jobs/local/j_1").exists()
    store.delete_tree("jobs/local/j_2/0/spec.json")
    assert not (store.root / "jobs").exists()


@pytest.mark.parametrize(
    "key", ["../x", "/etc/passwd", "a/../b", "a//b", ".", "..", ".tmp/x", "a\x00b", "a/b\n", "ä", ""]
)
def test_keys_cannot_leave_the_store(store: LocalStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        store.write_atomic(key, b"")
    with pytest.raises(ValueError, match="not a key"):
        store.read(key)


def test_adopts_files_and_folders(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inside").write_bytes(b"2")
    store.adopt(tmp_path / "file", "v/file")
    store.adopt(tmp_path / "folder", "v/folder")
    assert (store.read("v/file"), store.read("v/folder/inside")) == (b"1", b"2")
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "folder").exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second filesystem")
def test_adopts_from_another_filesystem(store: LocalStore) -> None:
    source = Path(f"/dev/shm/labelprop-test-{os.getpid()}")
    source.write_bytes(b"1")
    store.adopt(source, "v/file")
    assert store.read("v/file") == b"1"
    assert not source.exists()
    assert store.list("") == ["v/file"]


def test_scratch_goes_away(store: LocalStore) -> None:
    with store.scratch() as folder:
        (folder / "x").write_bytes(b"1")
        store.adopt(folder / "x", "kept")
    assert not folder.exists()
    assert store.list("") == ["kept"]


def test_sweep_removes_only_what_is_old(store: LocalStore) -> None:
    store.write_atomic("kept", b"")
    old, new = store.root / ".tmp/old", store.root / ".tmp/new"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))
    store.sweep(3600)
    assert (old.exists(), new.exists(), store.exists("kept")) == (False, True, True)


def test_files_are_as_readable_as_the_umask_allows(store: LocalStore) -> None:
    before = os.umask(0o027)
    try:
        store.write_atomic("k", b"")
    finally:
        os.umask(before)
    assert store.local_path("k").stat().st_mode & 0o777 == 0o640
