"""COCO keypoints: the document of `coco`, with those categories and annotations alone that have keypoints.

This is what readers of person keypoints expect: every category lists `keypoints` and `skeleton`, every annotation
`keypoints` and `num_keypoints`. Where an object has no region, `bbox` and `area` are those of its visible points.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.formats.categories import categories_of
from app.formats.coco import write_document

if TYPE_CHECKING:
    from app.formats.base import ExportInput


def write(given: ExportInput, path: Path) -> None:
    """The document, as UTF-8 JSON, the same bytes whenever it is built."""
    with_points = {id_: category for id_, category in categories_of(given).items() if category.points}
    write_document(given, path, with_points, keypoints_only=True)
