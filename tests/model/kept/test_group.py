from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from model.kept.group import HEADER_BYTES, MAX_FRAMES, GroupReader, GroupWriter, frames_per_file

KEY, FRAME_BYTES = "a" * 64, 96


def _content(index: int) -> bytes:
    return bytes((7 * index + at) % 256 for at in range(FRAME_BYTES))


def _write(path: Path, frames: Mapping[int, bytes], *, reserve: int = 0) -> Path:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(handle, reserve)
        writer = GroupWriter(handle, KEY, FRAME_BYTES)
        for index, data in frames.items():
            writer.add(index, memoryview(data))
        writer.finish()
    finally:
        os.close(handle)
    return path


def _read(reader: GroupReader, index: int) -> bytes | None:
    buffer = bytearray(FRAME_BYTES)
    return bytes(buffer) if reader.read_into(index, memoryview(buffer)) else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three frames that came in descending order, as on the way back."""
    return _write(tmp_path / "group", {i: _content(i) for i in (14, 12, 3)}, reserve=1 << 16)


def test_what_was_written_is_read_under_its_index(path: Path) -> None:
    reader = GroupReader(path, KEY, FRAME_BYTES)
    assert sorted(reader.frames) == [3, 12, 14]
    assert [_read(reader, i) for i in (3, 12, 14)] == [_content(i) for i in (3, 12, 14)]
    assert 4 not in reader
    assert _read(reader, 4) is None
    assert path.stat().st_size == HEADER_BYTES + 3 * FRAME_BYTES  # and not what was reserved


def test_a_frame_is_written_once(tmp_path: Path) -> None:
    handle = os.open(tmp_path / "group", os.O_RDWR | os.O_CREAT)
    writer = GroupWriter(handle, KEY, FRAME_BYTES)
    writer.add(5, memoryview(_content(5)))
    writer.add(5, memoryview(_content(6)))
    writer.finish()
    os.close(handle)
    assert _read(GroupReader(tmp_path / "group", KEY, FRAME_BYTES), 5) == _content(5)


def test_the_header_has_room_for_the_most_frames_and_the_highest_indices(tmp_path: Path) -> None:
    most = {10**9 + i: _content(i) for i in range(MAX_FRAMES)}
    reader = GroupReader(_write(tmp_path / "group", most), KEY, FRAME_BYTES)
    assert _read(reader, 10**9 + 255) == _content(255)


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 3 * FRAME_BYTES - 1])
def test_a_truncated_file_is_none(path: Path, size: int) -> None:
    os.truncate(path, size)
    with pytest.raises(ValueError, match="kept features"):
        GroupReader(path, KEY, FRAME_BYTES)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 20000, b"something else", b"[" * 9000, b'{"format": "labelprop features 1"}', b"\xff\xfe" * 9000],
)
def test_a_foreign_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "group").write_bytes(content)
    with pytest.raises(ValueError, match="kept features"):
        GroupReader(tmp_path / "group", KEY, FRAME_BYTES)


def test_another_key_or_size_is_none(path: Path) -> None:
    for key, size in (("b" * 64, FRAME_BYTES), (KEY, FRAME_BYTES - 2)):
        with pytest.raises(ValueError, match="something else"):
            GroupReader(path, key, size)


def test_damage_costs_the_frame_that_it_hit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + FRAME_BYTES + 40)  # in the second of the three
        file.write(b"\xaa")
    reader = GroupReader(path, KEY, FRAME_BYTES)
    assert [_read(reader, i) for i in (14, 12, 3)] == [_content(14), None, _content(3)]


def test_no_file_is_left_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    GroupReader(path, KEY, FRAME_BYTES)
    with pytest.raises(ValueError, match="something else"):
        GroupReader(path, "b" * 64, FRAME_BYTES)
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_stays_readable_when_it_is_gone(path: Path) -> None:
    reader = GroupReader(path, KEY, FRAME_BYTES)
    path.unlink()
    assert _read(reader, 3) == _content(3)


def test_a_full_disk_is_an_error(
    tmp_path: Path, files_no_larger_than: Callable[[int], AbstractContextManager[None]]
) -> None:
    handle = os.open(tmp_path / "group", os.O_RDWR | os.O_CREAT)
    writer = GroupWriter(handle, KEY, FRAME_BYTES)
    with files_no_larger_than(HEADER_BYTES + 40), pytest.raises(OSError, match="large"):
        writer.add(0, memoryview(_content(0)))
    os.close(handle)


@pytest.mark.parametrize(
    ("frame_bytes", "frames"),
    [(1, 256), (24 << 10, 256), (1 << 20, 64), (60 * 107 * 512, 16), (20 << 20, 2), (1 << 30, 1)],
)
def test_frames_of_one_size_always_share_files_alike(frame_bytes: int, frames: int) -> None:
    assert frames_per_file(frame_bytes) == frames
