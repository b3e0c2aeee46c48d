"""CVAT: its own XML, version 1.1. Out: CVAT for video. In: CVAT for video and CVAT for images.

Two formats go out, because CVAT has no tracks of masks (see `app.formats.cvat_tracks`):

- `cvat` has the exact masks, one shape a frame, as CVAT itself writes masks in this format. CVAT drops the groups of
  masks on import, so that objects of one label can no longer be told apart there.
- `cvat-polygons` has one track of polygons for every object, which CVAT imports as such; an outline is within the
  option `tolerance` of the mask's.

Boxes, points and skeletons are tracks in both. Either is read back; an object's id is its `group_id`.
"""

from __future__ import annotations

from pathlib import Path

from app.formats import cvat_write
from app.formats.base import ExportInput
from app.formats.cvat_read import read

__all__ = ["read", "write", "write_polygons"]


def write(given: ExportInput, path: Path) -> None:
    """Writes `cvat`; see `app.formats.cvat_write`."""
    cvat_write.write(given, path)


def write_polygons(given: ExportInput, path: Path) -> None:
    """Writes `cvat-polygons`."""
    cvat_write.write(given, path, polygons=True)
