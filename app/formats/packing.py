"""Zips whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_zip(path: Path, entries: Iterable[tuple[str, bytes]], *, compress: bool = True) -> None:
    """Writes entries as they come, so that no more than one is in memory.

    Args:
        path: of the zip.
        entries: names and contents.
        compress: False for what is packed already, such as PNG.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            archive.writestr(entry_of(name, compress=compress), data)


def entry_of(name: str, *, compress: bool) -> zipfile.ZipInfo:
    """The head of an entry: one date for all, an ordinary file."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    return entry


def folder_name(name: str) -> str:
    """A video's name as the name of one folder, without its ending."""
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", name)
    return re.sub(r"[^\w.-]+", "_", stem).strip("._")[:100] or "video"
