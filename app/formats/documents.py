"""JSON that is written piece by piece, the same text whenever it is written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import IO, Any


def json_of(value: Any) -> str:
    """Compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_list(file: IO[str], name: str, items: Iterable[dict[str, Any]]) -> None:
    """Adds a list to an object that is being written, an item a line, none of which is kept."""
    file.write(f',\n"{name}":[')
    for i, item in enumerate(items):
        file.write((",\n" if i else "\n") + json_of(item))
    file.write("]")
