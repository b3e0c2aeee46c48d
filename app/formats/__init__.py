"""Exports: the one table of formats. Each is a pure function of the canonical results.

A new format is a module beside these and a row here; REST, the command line and the OpenAPI document follow.
"""

from __future__ import annotations

from app.formats import coco, davis, overlay
from app.formats.base import ExportInput, Format
from model.errors import InputError

__all__ = ["FORMATS", "ExportInput", "Format", "find_format"]

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format("davis", "application/zip", "davis.zip", davis.write_zip, write_folder=davis.write_folder),
        Format("coco", "application/json", "coco.json", coco.write),
        Format("overlay", "video/mp4", "overlay.mp4", overlay.write, needs_frames=True),
    )
}


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: `unknown-format`, naming those there are.
    """
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"There is no format {name[:100]!r}. Choose one of: {known}.", slug="unknown-format")
    return FORMATS[name]
