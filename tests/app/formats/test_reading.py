"""Files that attack: what a zip may do, and how large things may be."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from app.formats import reading
from app.formats.reading import open_path
from model.errors import InputError


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("00000.png")
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([("../../etc/00000.png", b"x")], "points outside of it"),
        ([("/etc/00000.png", b"x")], "points outside of it"),
        ([("a\\..\\b.png", b"x")], "points outside of it"),
        ([(link(), b"/etc/passwd")], "is a link"),
        ([("00000.png", bytes(3 << 20))], "unpacks to over 200 times its size"),
        ([("a.png", b"x"), ("a.png", b"y")], "occurs twice"),
        ([(".hidden", b"x")], "holds no files"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_attack_are_refused(tmp_path: Path, entries: list, match: str) -> None:
    path = zipped(tmp_path / "a.zip", *entries)
    with pytest.raises(InputError, match=match) as caught, open_path(path):
        pass
    assert caught.value.slug == "bad-annotations"


def test_a_zip_is_bounded_in_files_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", *((f"{k}.txt", os.urandom(100)) for k in range(1100)))
    with pytest.raises(InputError) as caught, open_path(path, max_files=40):
        pass
    assert caught.value.slug == "bad-annotations"
    monkeypatch.setattr(reading, "MAX_BYTES", 100_000)
    with pytest.raises(InputError, match="unpacks to more than"), open_path(path):
        pass


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"PK\x05\x06" + b"\xff" * 18])
def test_a_damaged_zip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError) as caught, open_path(tmp_path / "a.zip"):
        pass
    assert caught.value.slug == "bad-annotations"


def test_an_entry_that_lies_about_its_size(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a.txt", bytes(1000)))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with open_path(path) as files, pytest.raises(InputError) as caught:
        files.read(PurePosixPath("a.txt"))
    assert caught.value.slug == "bad-annotations"


def test_one_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(2000))
    with open_path(tmp_path / "a.txt") as files, pytest.raises(InputError, match="at most 1000 are read"):
        files.read(PurePosixPath("a.txt"), max_bytes=1000)


def test_a_folder_is_read_like_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels" / ".git").mkdir(parents=True)
    (tmp_path / "labels" / "1.txt").write_bytes(b"x")
    (tmp_path / "labels" / ".git" / "2.txt").write_bytes(b"x")
    with open_path(tmp_path) as files:
        assert [str(path) for path in files.paths] == ["labels/1.txt"]
        assert files.read(files.paths[0]) == b"x"
        assert not files.single
    monkeypatch.setattr(reading, "MAX_BYTES", 0)
    with pytest.raises(InputError, match="have more than 0 bytes"), open_path(tmp_path):
        pass
    with pytest.raises(InputError, match="cannot be read"), open_path(tmp_path / "nothing"):
        pass


@pytest.mark.parametrize("name", ["davis", "coco", "labelme", "yolo-seg", "yolo-box", "yolo-pose"])
def test_every_reader_refuses_rubbish_with_a_reason(read_file: Callable, name: str) -> None:
    inner = io.BytesIO()
    zipfile.ZipFile(inner, "w").close()
    for data in (b"", b"\x00" * 50, b"hello", b"\xff" * 9, b"{}", b"[]", b"null", b"<a/>", inner.getvalue()):
        for files in ({"00001.png": data}, {"00001.json": data, "2.txt": data}):
            with pytest.raises(InputError) as caught:
                read_file(name, files)
            assert caught.value.slug == "bad-annotations"
            assert caught.value.detail
