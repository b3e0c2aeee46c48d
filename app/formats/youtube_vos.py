"""YouTube-VOS: `Annotations/<video>/<frame>.png`, indexed as DAVIS's are, and `meta.json` with categories and frames.

`meta.json` is `{"videos": {<video>: {"objects": {"<id>": {"category": ..., "frames": ["00000", ...]}}}}}`, where
`frames` are those on which the object is seen. Overlapping objects and keypoints: as in `davis`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.formats import packing
from app.formats.documents import json_of
from model.labels import indexed_png

if TYPE_CHECKING:
    from app.formats.base import ExportInput


def write(given: ExportInput, path: Path) -> None:
    """The zip, the same bytes whenever it is built."""
    packing.write_zip(path, _entries(given), compress=False)


def _entries(given: ExportInput) -> Iterator[tuple[str, bytes]]:
    video = packing.folder_name(given.video_name)
    shape = (given.info.height, given.info.width)
    objects: dict[str, dict[str, Any]] = {
        str(object_.id): {"category": object_.name, "frames": []} for object_ in given.objects
    }
    for result in given.results():
        masks = {found.object: found.mask for found in result.objects if found.mask is not None}
        index_map = indexed_png.flatten(masks, shape=shape)
        stem = given.stem(result.frame)
        # What another object hides altogether is not on the picture either.
        for id_ in np.unique(index_map).tolist():
            if str(id_) in objects:
                objects[str(id_)]["frames"].append(stem)
        yield f"Annotations/{video}/{stem}.png", indexed_png.encode(index_map)
    yield "meta.json", json_of({"videos": {video: {"objects": objects}}}).encode()
