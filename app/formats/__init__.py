"""The one table of formats: results out, and labels of other tools in.

A new format is a module beside these and a row here; REST, the command line and the OpenAPI document follow.
"""

from __future__ import annotations

from app.formats import coco, davis, label_studio, overlay
from app.formats.base import LABEL_TYPES, ExportInput, Format, Imported, ImportInput
from model.errors import InputError

__all__ = ["EXPORTS", "FORMATS", "LABEL_TYPES", "ExportInput", "Format", "ImportInput", "Imported", "find_format"]

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format(
            "davis",
            "application/zip",
            "davis.zip",
            davis.write_zip,
            write_folder=davis.write_folder,
            label_types=("mask",),
        ),
        Format("coco", "application/json", "coco.json", coco.write, label_types=("mask", "box", "keypoints")),
        Format(
            "overlay",
            "video/mp4",
            "overlay.mp4",
            overlay.write,
            needs_frames=True,
            label_types=("mask", "box", "keypoints"),
        ),
        label_studio.FORMAT,
        label_studio.IMAGES_FORMAT,
    )
}
EXPORTS: dict[str, Format] = {name: format_ for name, format_ in FORMATS.items() if format_.write is not None}
"""Those that results are written in."""


def find_format(name: str) -> Format:
    """The format of that name that results are written in.

    Raises:
        InputError: `unknown-format`, naming those there are.
    """
    if name not in EXPORTS:
        known = ", ".join(EXPORTS)
        raise InputError(f"There is no format {name[:100]!r}. Choose one of: {known}.", slug="unknown-format")
    return EXPORTS[name]
