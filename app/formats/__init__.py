"""The one table of formats: results out, and labels of other tools in.

A new format is a module beside these and a row here; REST, the command line and the OpenAPI document follow. Modules
are loaded when their format is first used, so that a long table costs nobody's start.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from app.formats.base import LABEL_TYPES, ExportInput, Format, Imported, ImportInput
from app.formats.options import ExportOptions, choose_options, split_variant, variant_filename, variant_name
from model.errors import InputError

__all__ = [
    "EXPORTS",
    "FORMATS",
    "IMPORTS",
    "LABEL_TYPES",
    "ExportInput",
    "ExportOptions",
    "Format",
    "ImportInput",
    "Imported",
    "choose_options",
    "find_format",
    "find_reader",
    "find_variant",
    "variant_filename",
    "variant_name",
]


def _late(target: str) -> Callable[..., Any]:
    """The function `module:name` of this package, whose module is loaded when it is first called."""
    module, name = target.split(":")

    def call(*args: Any) -> Any:
        return getattr(import_module(f"app.formats.{module}"), name)(*args)

    return call


_JSON, _XML, _ZIP = "application/json", "application/xml", "application/zip"
_MASK, _POLYGON, _BOX, _POINTS = ("mask",), ("polygon",), ("box",), ("keypoints",)
_ALL = ("mask", "box", "keypoints")

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format(
            "davis", _ZIP, "davis.zip", _late("davis:write_zip"), _late("davis:write_folder"),
            read=_late("davis:read"), label_types=_MASK,
        ),
        Format(
            "youtube-vos", _ZIP, "youtube-vos.zip", _late("youtube_vos:write"),
            read=_late("davis:read"), label_types=_MASK,
        ),
        Format(
            "coco", _JSON, "coco.json", _late("coco:write"),
            read=_late("coco_reader:read"), label_types=LABEL_TYPES,
        ),
        Format("coco-video", _JSON, "coco-video.json", _late("coco_video:write"), label_types=_MASK + _BOX),
        Format(
            "coco-keypoints", _JSON, "coco-keypoints.json", _late("coco_keypoints:write"),
            read=_late("coco_reader:read"), label_types=_ALL,
        ),
        Format(
            "yolo-seg", _ZIP, "yolo-seg.zip", _late("yolo_seg:write"),
            read=_late("yolo_seg:read"), label_types=_POLYGON, options=("tolerance",),
        ),
        Format(
            "yolo-pose", _ZIP, "yolo-pose.zip", _late("yolo_pose:write"),
            read=_late("yolo_pose:read"), label_types=_BOX + _POINTS,
        ),
        Format(
            "yolo-box", _ZIP, "yolo-box.zip", _late("yolo_box:write"),
            read=_late("yolo_box:read"), label_types=_BOX,
        ),
        Format("mots", "text/plain", "mots.txt", _late("mots:write"), label_types=_MASK),
        Format(
            "labelme", _ZIP, "labelme.zip", _late("labelme:write"),
            read=_late("labelme:read"), label_types=LABEL_TYPES, options=("tolerance",),
        ),
        Format("csv", "text/csv", "results.csv", _late("csv_table:write"), label_types=_BOX + _POINTS),
        Format("npz", "application/x-npz", "results.npz", _late("npz:write"), label_types=_ALL),
        Format(
            "overlay", "video/mp4", "overlay.mp4", _late("overlay:write"),
            needs_frames=True, label_types=_ALL, options=("outline", "opacity", "names", "confidence"),
        ),
        Format(
            "cvat", _XML, "cvat.xml", _late("cvat:write"),
            read=_late("cvat:read"), label_types=LABEL_TYPES,
        ),
        Format(
            "cvat-polygons", _XML, "cvat-polygons.xml", _late("cvat:write_polygons"),
            label_types=_POLYGON + _BOX + _POINTS, options=("tolerance",),
        ),
        Format(
            "label-studio", _JSON, "label-studio.json", _late("label_studio:write"),
            read=_late("label_studio:read"), label_types=LABEL_TYPES,
        ),
        Format(
            "label-studio-images", _JSON, "label-studio-images.json", _late("label_studio:write_images"),
            label_types=_ALL,
        ),
    )
}  # fmt: skip
EXPORTS: dict[str, Format] = {name: format_ for name, format_ in FORMATS.items() if format_.write is not None}
"""Those that results are written in."""

IMPORTS: dict[str, Format] = {name: format_ for name, format_ in FORMATS.items() if format_.read is not None}
"""Those that labels are read from."""


def find_format(name: str) -> Format:
    """The format of that name that results are written in.

    Raises:
        InputError: `unknown-format`, naming those there are.
    """
    if name not in EXPORTS:
        known = ", ".join(EXPORTS)
        raise InputError(f"There is no format {name[:100]!r}. Choose one of: {known}.", slug="unknown-format")
    return EXPORTS[name]


def find_reader(name: str) -> Format:
    """The format of that name that labels are read from.

    Raises:
        InputError: `invalid-request`, naming those there are.
    """
    if name not in IMPORTS:
        detail = f"Labels are not read from a format {name[:100]!r}. Choose one of: {', '.join(IMPORTS)}."
        raise InputError(detail, slug="invalid-request", pointer="/format")
    return IMPORTS[name]


def find_variant(name: str) -> tuple[Format, ExportOptions]:
    """The format and the options that `variant_name` made this name of.

    Raises:
        InputError: `unknown-format` or `invalid-request`.
    """
    format_name, options = split_variant(name)
    format_ = find_format(format_name)
    return format_, choose_options(format_, options)
