"""NPZ: arrays for Python, read with `numpy.load("results.npz")` (without pickle), one array at a time.

n frames, m objects in the order of `object_ids`, k keypoints in the order of `keypoint_names`:

- `frames` (n,) int64 true indices, `time_ms` (n,) int64
- `object_ids` (m,) int64, `object_names` (m,) text, `keypoint_names` (k,) text
- `visible` (n, m) bool, `confidence` (n, m) float32, `anchor` (n, m) bool: whether a person gave it
- `boxes` (n, m, 4) float32 `x, y, width, height`, NaN where there is none
- `keypoints` (n, m, k, 4) float32 `x, y, visible, confidence`, NaN where there is none
- `masks/<frame>` (m, height, width) bool, one array per frame with any mask: `data[f"masks/{frame}"]`
"""

from __future__ import annotations

import io
import zipfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.formats.categories import categories_of
from app.formats.packing import entry_of
from model.labels import FrameResult, ObjectResult
from model.labels.raster import tight_box

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_NOTHING = float("nan")


def write(given: ExportInput, path: Path) -> None:
    """The archive, the same bytes whenever it is built. One frame's masks are in memory at a time."""
    ids = [object_.id for object_ in given.objects]
    points = list(dict.fromkeys(name for category in categories_of(given).values() for name in category.points))
    columns = _Columns(ids, points)
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, values: NDArray) -> None:
            file = io.BytesIO()
            np.lib.format.write_array(file, values, allow_pickle=False)
            archive.writestr(entry_of(f"{name}.npy", compress=True), file.getvalue())

        for result in given.results():
            columns.add(result)
            masks = {found.object: found.mask for found in result.objects if found.mask is not None}
            if masks:
                empty = np.zeros((given.info.height, given.info.width), np.bool_)
                add(f"masks/{result.frame}", np.stack([masks.get(id_, empty) for id_ in ids]))
        for name, values in columns.arrays().items():
            add(name, values)
        add("object_ids", np.array(ids, np.int64))
        add("object_names", np.array([object_.name for object_ in given.objects], np.str_))
        add("keypoint_names", np.array(points, np.str_))


class _Columns:
    """Everything but masks, frame after frame, as flat numbers."""

    def __init__(self, ids: Sequence[int], points: Sequence[str]) -> None:
        self._ids, self._points = ids, points
        self._frames, self._times = array("q"), array("q")
        self._visible, self._anchor = bytearray(), bytearray()
        self._confidence, self._boxes, self._keypoints = array("f"), array("f"), array("f")

    def add(self, result: FrameResult) -> None:
        self._frames.append(result.frame)
        self._times.append(result.time_ms)
        by_id = {found.object: found for found in result.objects}
        for id_ in self._ids:
            found = by_id.get(id_)
            self._visible.append(found is not None and found.visible)
            self._anchor.append(found is not None and found.source == "anchor")
            self._confidence.append(_NOTHING if found is None else found.confidence)
            self._boxes.extend(_box(found))
            placed = {} if found is None else {point.name: point for point in found.keypoints}
            for name in self._points:
                point = placed.get(name)
                values = (_NOTHING,) * 4 if point is None else (point.x, point.y, point.visible, point.confidence)
                self._keypoints.extend(values)

    def arrays(self) -> dict[str, NDArray]:
        n, m, k = len(self._frames), len(self._ids), len(self._points)
        return {
            "frames": np.array(self._frames, np.int64),
            "time_ms": np.array(self._times, np.int64),
            "visible": np.array(self._visible, np.bool_).reshape(n, m),
            "anchor": np.array(self._anchor, np.bool_).reshape(n, m),
            "confidence": np.array(self._confidence, np.float32).reshape(n, m),
            "boxes": np.array(self._boxes, np.float32).reshape(n, m, 4),
            "keypoints": np.array(self._keypoints, np.float32).reshape(n, m, k, 4),
        }


def _box(found: ObjectResult | None) -> tuple[float, float, float, float]:
    if found is None or not found.visible:
        return (_NOTHING,) * 4
    box = found.box or (None if found.mask is None else tight_box(found.mask))
    return box or (_NOTHING,) * 4
