from __future__ import annotations

import io
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import pytest
from PIL import Image

from model.errors import MediaError
from model.video import Limits, probe


@pytest.fixture(scope="module")
def png(picture: Callable[..., np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).save(buffer, "PNG")
    return buffer.getvalue()


def refused(path: Path, slug: str = "bad-archive", **limits: int) -> str:
    with pytest.raises(MediaError) as raised:
        probe(path, limits=Limits(**limits))
    assert raised.value.slug == slug, raised.value.detail
    return raised.value.detail


@pytest.mark.parametrize("name", ["../0.png", "a/../../0.png", "/etc/0.png", "..\\0.png", "C:\\0.png", "a\\0.png"])
def test_names_that_point_outside(tmp_path: Path, png: bytes, name: str) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", png)
        archive.writestr(name, png)
    assert "outside" in refused(tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_links(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        entry = ZipInfo("0.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    assert "link" in refused(tmp_path / "a.zip")


def test_encrypted(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("0.png", png)
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refused(path)


def test_slow_packing(tmp_path: Path, png: bytes) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_BZIP2) as archive:
        archive.writestr("0.png", png)
    assert "deflate" in refused(tmp_path / "a.zip")


def test_bomb(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(50_000_000))
    assert "200 times" in refused(tmp_path / "a.zip")


def test_total_size(tmp_path: Path, png: bytes) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"{i}.png", png + bytes(900_000))
    assert "unpacks to more" in refused(tmp_path / "a.zip", "file-too-large", max_bytes=10_000_000)


@pytest.mark.parametrize("claim", [10, 10_000_000])
def test_an_entry_that_lies_about_its_size(tmp_path: Path, png: bytes, claim: int) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("0.png", png + np.random.default_rng(0).bytes(100_000))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", claim)
    path.write_bytes(data)
    refused(path)


def test_a_wrong_checksum(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w", ZIP_STORED) as archive:
        archive.writestr("0.png", png)
    data = bytearray(path.read_bytes())
    data[data.index(png) + len(png) // 2] ^= 0xFF
    path.write_bytes(data)
    assert "0.png" in refused(path)


def test_one_name_twice(tmp_path: Path, png: bytes) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", png)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("0.png", png)
    assert "twice" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.95])
def test_cut_short(tmp_path: Path, png: bytes, part: float) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w") as archive:
        for i in range(5):
            archive.writestr(f"{i}.png", png)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(path)


def test_a_directory_of_too_many_entries_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w") as archive:
        for i in range(3000):
            archive.writestr(f"{i}.png", b"")
    refused(path, "too-many-frames", max_frames=500)


def test_a_directory_that_claims_to_be_huge(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("0.png", png)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x05\x06") + 12
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    assert "claims" in refused(path)


def test_random_damage_never_escapes(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"{i}.png", png)
    original = path.read_bytes()
    rng = np.random.default_rng(3)
    outcomes = set()
    for _ in range(300):
        data = bytearray(original)
        for at in rng.integers(0, len(data), rng.integers(1, 5)):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            info, _ = probe(path)
            outcomes.add(info.frame_count)
        except MediaError as error:
            outcomes.add(error.slug)
    assert "bad-archive" in outcomes
