from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools import mask as reference

from app.formats import mots
from model.labels import FrameResult, LabelObject, ObjectResult
from model.rendered import RenderedClip


def read(path: Path) -> list[tuple[int, int, int, np.ndarray]]:
    """As the format's own tools do it (mots_common/io.py): fields by spaces, pycocotools for the mask, no overlaps."""
    rows = []
    used: dict[int, np.ndarray] = {}
    for line in path.read_text().splitlines():
        frame, track, class_id, height, width, counts = line.split(" ")
        mask = reference.decode({"size": [int(height), int(width)], "counts": counts.encode()}).astype(bool)
        if int(frame) in used:
            assert not (used[int(frame)] & mask).any()
        used[int(frame)] = used.get(int(frame), np.zeros_like(mask)) | mask
        rows.append((int(frame), int(track), int(class_id), mask))
    return rows


def test_lines_are_read_as_the_formats_tools_read_them(
    export_input: Callable, clip: RenderedClip, tmp_path: Path
) -> None:
    mots.write(export_input(), tmp_path / "a.txt")
    rows = read(tmp_path / "a.txt")
    assert {(track, class_id) for _, track, class_id, _ in rows} == {(1001, 1), (2002, 2)}
    assert sorted({frame for frame, *_ in rows}) == list(range(12))
    for frame, track, _, mask in rows:
        assert np.array_equal(mask, clip.mask(frame) == track % 1000)


def test_masks_never_overlap_and_class_ten_is_left_out(export_input: Callable, tmp_path: Path) -> None:
    objects = tuple(LabelObject(id_, f"class {id_}", (0, 0, 0)) for id_ in range(1, 13))
    masks = [np.zeros((64, 96), bool) for _ in objects]
    for k, mask in enumerate(masks):
        mask[:, 2 * k : 2 * k + 4] = True
    found = [ObjectResult(o.id, True, 1.0, mask, None, (), "anchor") for o, mask in zip(objects, masks, strict=True)]
    hidden = ObjectResult(1, True, 1.0, masks[11], None, (), "anchor")
    results = [FrameResult(4, 160, tuple(found)), FrameResult(5, 200, (hidden, found[11]))]
    mots.write(export_input(results, objects=objects), tmp_path / "a.txt")
    rows = read(tmp_path / "a.txt")
    assert [class_id for frame, _, class_id, _ in rows if frame == 4] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]
    assert [track for frame, track, *_ in rows if frame == 5] == [13012], "what is hidden altogether has no line"
