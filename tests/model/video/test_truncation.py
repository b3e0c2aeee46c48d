from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model.video.truncation import is_cut_short

NAMES = {"a.mp4": "mov,mp4,m4a,3gp,3g2,mj2", "a.mkv": "matroska,webm", "a.avi": "avi"}


@pytest.mark.parametrize("name", NAMES)
def test_whole_and_cut(tmp_path: Path, clip: Callable[..., Path], name: str) -> None:
    path = clip(tmp_path / name, codec="mpeg4", frames=20)
    whole = path.read_bytes()
    assert not is_cut_short(path, NAMES[name])
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert is_cut_short(path, NAMES[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tail", [bytes(1000), b"\xff" * 1000, b"SEFT" * 100, b"x"])
def test_what_a_camera_appends_is_no_damage(tmp_path: Path, clip: Callable[..., Path], name: str, tail: bytes) -> None:
    path = clip(tmp_path / name, codec="mpeg4", frames=20)
    path.write_bytes(path.read_bytes() + tail)
    assert not is_cut_short(path, NAMES[name])


def test_a_stream_without_structure_is_never_cut(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(b"G" * 100)
    assert not is_cut_short(tmp_path / "a.ts", "mpegts")


def test_headers_that_make_no_sense_end_the_search(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"\x00" * 7, b"\x00\x00\x00\x01moov" + bytes(8), b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x00"):
        path.write_bytes(content)
        for format_name in NAMES.values():
            assert not is_cut_short(path, format_name)
