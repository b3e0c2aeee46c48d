"""DAVIS: one indexed PNG per frame, pixel value = object id, in the palette of DAVIS and VOC.

Objects that overlap cannot both be shown: the higher id wins. Keypoints are not part of this format.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.labels import indexed_png

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_zip(given: ExportInput, path: Path) -> None:
    """A zip of the PNGs, the same bytes whenever it is built."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _pictures(given):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


def write_folder(given: ExportInput, folder: Path) -> None:
    """The PNGs, straight into `folder`."""
    for name, data in _pictures(given):
        (folder / name).write_bytes(data)


def _pictures(given: ExportInput) -> Iterator[tuple[str, bytes]]:
    shape = (given.info.height, given.info.width)
    for result in given.results():
        masks = {object_.object: object_.mask for object_ in result.objects if object_.mask is not None}
        index_map = indexed_png.flatten(masks, shape=shape) if masks else np.zeros(shape, np.uint8)
        yield f"{given.stem(result.frame)}.png", indexed_png.encode(index_map)
