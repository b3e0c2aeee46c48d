"""MOTS: one line per object and frame, `time_frame id class_id img_height img_width rle`.

As in the format's description (Voigtlaender et al., "MOTS: Multi-Object Tracking and Segmentation", CVPR 2019): frames
are counted from 0 (KITTI's way), `id` is `class_id * 1000` plus the object's id, and `rle` is COCO's compressed text.
Classes are the objects' names in the order of the objects, numbered from 1 without 10, which stands for regions to be
ignored. Masks must not overlap: the higher id wins. Objects without a mask are not part of this format.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from model.labels import FrameResult, indexed_png, rle

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_IGNORED_CLASS = 10


def write(given: ExportInput, path: Path) -> None:
    """The text, the same bytes whenever it is built."""
    classes = _classes(given)
    with path.open("w", encoding="ascii", newline="\n") as file:
        for result in given.results():
            file.writelines(_lines(result, classes))


def _classes(given: ExportInput) -> dict[int, int]:
    names = list(dict.fromkeys(object_.name for object_ in given.objects))
    numbers = [number for number in range(1, len(names) + 2) if number != _IGNORED_CLASS]
    by_name = dict(zip(names, numbers, strict=False))
    return {object_.id: by_name[object_.name] for object_ in given.objects}


def _lines(result: FrameResult, classes: dict[int, int]) -> Iterator[str]:
    masks = {found.object: found.mask for found in result.objects if found.mask is not None and found.visible}
    if not masks:
        return
    index_map = indexed_png.flatten(masks)
    for id_ in sorted(masks):
        mask = index_map == id_
        if mask.any():
            encoded = rle.encode(mask)
            height, width = encoded["size"]
            class_id = classes[id_]
            yield f"{result.frame} {class_id * 1000 + id_} {class_id} {height} {width} {encoded['counts']}\n"
