"""COCO for video, as YouTube-VIS has it: one annotation per object, with one segmentation per frame or null.

`videos` has one entry whose `file_names` are the frames with results; `segmentations`, `bboxes` and `areas` are lists
over them. Beyond YouTube-VIS's own fields the video carries `frame_indices`, `time_ms` and `fps`, an annotation
`track_id` (the object's id) and `scores` (the confidence per frame). Keypoints are not part of this format.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from app.formats.categories import Category, numbered
from app.formats.coco import category_document
from app.formats.documents import json_of, write_list
from model.labels import FrameResult, ObjectResult, rle
from model.labels.raster import tight_box

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_VIDEO_ID = 1
_IN_MEMORY = 1 << 20


@dataclass
class _Track:
    """One object's lists as they grow: a column of the results, which come by rows.

    Attributes:
        segmentations: JSON text, on the disk where it becomes large.
        boxes: one per frame, or None.
        areas: one per frame, or None.
        scores: one per frame, or None.
    """

    segmentations: IO[str]
    boxes: list[list[float] | None] = field(default_factory=list)
    areas: list[int | float | None] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)

    def add(self, found: ObjectResult | None) -> None:
        box = None if found is None or not found.visible else _box(found)
        mask = None if found is None or box is None else found.mask
        text = "null" if mask is None else json_of(rle.encode(mask))
        self.segmentations.write((",\n" if self.boxes else "") + text)
        self.boxes.append(box)
        self.areas.append(None if box is None else round(box[2] * box[3], 2) if mask is None else int(mask.sum()))
        self.scores.append(None if found is None or box is None else found.confidence)


def write(given: ExportInput, path: Path) -> None:
    """The document, as UTF-8 JSON, the same bytes whenever it is built."""
    categories = {object_.id: Category(object_.name, (), ()) for object_ in given.objects}
    ids = numbered(categories.values(), 1)
    with ExitStack() as stack:
        tracks = {id_: _Track(stack.enter_context(_spooled(path.parent))) for id_ in categories}
        frames, times = _fill(tracks, given.results())
        file = stack.enter_context(path.open("w", encoding="utf-8"))
        file.write('{"info":' + json_of({"description": given.video_name, "job": given.job_id, "version": "1.0"}))
        write_list(file, "videos", [_video(given, frames, times)])
        write_list(file, "categories", (category_document(category, id_) for category, id_ in ids.items()))
        file.write(',\n"annotations":[')
        shown = [id_ for id_, track in tracks.items() if any(track.boxes)]
        for number, id_ in enumerate(shown, start=1):
            head = {"id": number, "video_id": _VIDEO_ID, "track_id": id_, "category_id": ids[categories[id_]]}
            size = {"iscrowd": 0, "width": given.info.width, "height": given.info.height, "length": len(frames)}
            lists = {"bboxes": tracks[id_].boxes, "areas": tracks[id_].areas, "scores": tracks[id_].scores}
            file.write((",\n" if number > 1 else "\n") + json_of({**head, **size, **lists})[:-1])
            file.write(',"segmentations":[')
            tracks[id_].segmentations.seek(0)
            shutil.copyfileobj(tracks[id_].segmentations, file)
            file.write("]}")
        file.write("]}\n")


def _spooled(folder: Path) -> IO[str]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY, mode="w+", encoding="utf-8", dir=str(folder))


def _fill(tracks: Mapping[int, _Track], results: Iterator[FrameResult]) -> tuple[list[int], list[int]]:
    """Goes through the results once; returns the frames and their times."""
    frames, times = [], []
    for result in results:
        by_id = {found.object: found for found in result.objects}
        for id_, track in tracks.items():
            track.add(by_id.get(id_))
        frames.append(result.frame)
        times.append(result.time_ms)
    return frames, times


def _video(given: ExportInput, frames: list[int], times: list[int]) -> dict[str, Any]:
    info = given.info
    return {
        "id": _VIDEO_ID,
        "name": given.video_name,
        "width": info.width,
        "height": info.height,
        "length": len(frames),
        "fps": None if info.fps is None else round(float(info.fps), 6),
        "file_names": [given.image_name(frame) for frame in frames],
        "frame_indices": frames,
        "time_ms": times,
    }


def _box(found: ObjectResult) -> list[float] | None:
    box = found.box if found.mask is None else tight_box(found.mask)
    return None if box is None else list(box)
