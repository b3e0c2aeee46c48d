"""Whether a file is shorter than its own outermost structure says: a broken upload, seen without decoding."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

# Some writers miscount by a pad byte or two.
_TOLERANCE = 16
_MAX_BOXES = 1_000_000
_BOXES = frozenset(
    {
        b"ftyp",
        b"styp",
        b"moov",
        b"moof",
        b"mdat",
        b"mfra",
        b"sidx",
        b"ssix",
        b"free",
        b"skip",
        b"wide",
        b"uuid",
        b"meta",
    }
    | {b"udta", b"emsg", b"prft", b"pnot", b"pdin"}
)


def is_cut_short(path: Path, format_name: str) -> bool:
    """Check the outermost boxes (MP4, MOV), chunks (AVI) or segment (Matroska, WebM) against the file's size.

    Containers without such a structure (MPEG-TS) and live recordings with an open end are never cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if "mp4" in format_name:
            end = _end_of_boxes(file, size)
        elif format_name == "avi":
            end = _end_of_chunks(file, size)
        elif "matroska" in format_name:
            end = _end_of_segment(file)
        else:
            return False
    return end > size + _TOLERANCE


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    at = 0
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in _BOXES:  # some cameras append what is no box
            return at
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file; anything else is padding after the last box
            return size
        at += length
        if at >= size:
            return at
    return at


def _end_of_chunks(file: BinaryIO, size: int) -> int:
    at = 0
    while True:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF" or len(head) < 8:
            return at
        length = int.from_bytes(head[4:], "little")
        if length == 0:  # a recorder that never came back to fill it in
            return size
        at += 8 + length + length % 2
        if at >= size:
            return at


def _end_of_segment(file: BinaryIO) -> int:
    head = file.read(4096)
    header, at = _ebml_size(head, 4)
    at += header or 0
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start = _ebml_size(head, at + 4)
    return 0 if length is None else start + length


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """(value, index behind it) of a variable-length integer; None for an unknown size."""
    if at >= len(data) or data[at] == 0:
        return None, at + 1
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & ((1 << (7 * width)) - 1)
    return (None if value == (1 << (7 * width)) - 1 else value), at + width
