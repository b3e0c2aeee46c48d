"""Boxes in the layout of OTB: success AUC and precision at 20 pixels of one tracked box a sequence.

Layout: `SEQ/img/0001.jpg` and `SEQ/groundtruth_rect.txt`, one line `x,y,width,height` a frame (commas, tabs or spaces)
in MATLAB's coordinates, where the first pixel is 1: one less is our own pixel border. Where several targets were marked
in one video, `groundtruth_rect.1.txt` and so on are sequences of their own, `SEQ-1`, as OTB names them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.benchmark import Benchmark, Clip, ClipScore, Selection, chosen, folders_in, image_names
from model.labels import Anchor, FrameResult, Label, LabelObject, ObjectResult, colour_of, raster
from model.labels.types import Box

THRESHOLDS = np.linspace(0, 1, 21)
"""Overlaps at which success is counted: 0, 0.05 ... 1."""

NEAR_PIXELS = 20.0
_FILE = "groundtruth_rect.txt"
_FILES = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")
_TARGET = 1


@dataclass(frozen=True)
class BoxClip(Clip):
    """A sequence; `boxes` are in our coordinates, None where the file gives no box (zeros or NaN)."""

    boxes: tuple[Box | None, ...]


def overlap(a: Box | None, b: Box) -> float:
    """Intersection over union of two boxes (x, y, width, height); 0 where there is none."""
    if a is None:
        return 0.0
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, across) * max(0.0, down)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def distance(a: Box | None, b: Box) -> float:
    """Pixels between the centres of two boxes; infinite where there is none."""
    if a is None:
        return math.inf
    return math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2)


def success_curve(overlaps: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """(21,) the share of frames whose overlap is above each of `THRESHOLDS`; its mean is the AUC, 20/21 at best."""
    return (np.asarray(overlaps, np.float64)[:, None] > THRESHOLDS).mean(axis=0)


class Boxes(Benchmark[BoxClip]):
    """See the module."""

    name = "boxes"
    protocol = (
        "OTB, one pass: the first frame's box is given, the propagated region's tight box is predicted. AUC is the "
        "mean over 21 thresholds (0, 0.05 ... 1) of the share of frames whose overlap is above it, so 20/21 is the "
        "most; precision is the share of frames whose centre is at most 20 pixels off. All frames with a true box are "
        "scored, the given one too, as OTB's toolkit does; each sequence counts the same."
    )
    columns = ("AUC", "precision@20")
    least_frames = 2
    layout = f"OTB has SEQUENCE/img/0001.jpg and SEQUENCE/{_FILE}; --root is the folder above the sequences."

    def select(self, wanted: Sequence[str] | None = None, frames: int | None = None) -> Selection[BoxClip]:
        files = self._files()
        origin = f"every {_FILE} in {self.root}" if wanted is None else "as asked for"
        names = chosen(list(files), wanted, self.root)
        return self._checked(Selection(tuple(self._clip(name, files[name], frames) for name in names), origin))

    def given(self, clip: BoxClip) -> Anchor:
        box, size = clip.boxes[0], clip.size
        assert box is not None
        assert size is not None
        box = _within(box, size)
        return Anchor(0, (Label(_TARGET, raster.box(*box, size[1], size[0]), box),))

    def truth(self, clip: BoxClip, frame: int) -> FrameResult:
        box = clip.boxes[frame]
        return FrameResult(frame, 0, (ObjectResult(_TARGET, box is not None, 1.0, None, box, (), "anchor"),))

    def score(self, clip: BoxClip, results: Iterable[FrameResult]) -> ClipScore:
        overlaps: dict[int, float] = {}
        distances: dict[int, float] = {}
        for result in results:
            truth = clip.boxes[result.frame]
            if truth is not None:
                box = _box(result)
                overlaps[result.frame] = overlap(box, truth)
                distances[result.frame] = distance(box, truth)
        curve = success_curve(list(overlaps.values()))
        near = float(np.mean([each <= NEAR_PIXELS for each in distances.values()]))
        numbers = {"AUC": float(curve.mean()), "precision@20": near}
        details = {
            "success_curve": curve.round(4).tolist(),
            "scored_frames": list(overlaps),
            "overlaps": [round(each, 4) for each in overlaps.values()],
        }
        return ClipScore(clip.name, numbers, overlaps, details, tally=(float(curve.mean()), near))

    def mean(self, scores: Sequence[ClipScore]) -> dict[str, float]:
        means = np.mean([score.tally for score in scores], axis=0)
        return dict(zip(self.columns, map(float, means), strict=True))

    def write(self, clip: BoxClip, results: Iterable[FrameResult], folder: Path) -> None:
        """`SEQ.txt` as trackers' results are kept: a line a frame, MATLAB's coordinates, NaN where there is none."""
        lines = []
        for result in results:
            x, y, width, height = _box(result) or (math.nan,) * 4
            lines.append(f"{x + 1:g},{y + 1:g},{width:g},{height:g}\n")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{clip.name}.txt").write_text("".join(lines))

    def object(self, identity: int) -> LabelObject:
        return LabelObject(identity, "target", colour_of(identity))

    def shown(self, result: FrameResult) -> FrameResult:
        return replace(result, objects=tuple(replace(found, mask=None) for found in result.objects))

    def _files(self) -> dict[str, Path]:
        """The file of boxes of every sequence by the sequence's name."""
        files = {}
        for folder in folders_in(self.root):
            for path in sorted((self.root / folder).iterdir()):
                if found := _FILES.fullmatch(path.name):
                    files[f"{folder}-{found[1]}" if found[1] else folder] = path
        return files

    def _clip(self, name: str, path: Path, frames: int | None) -> BoxClip:
        images = path.parent / "img"
        names, size = image_names(images)
        boxes = _read(path)
        if len(boxes) != len(names):
            raise InputError(
                f"{path} has {len(boxes)} boxes, but {images} has {len(names)} images. Keep the images that the boxes "
                "belong to (some OTB sequences start or end within their folder)."
            )
        if boxes[0] is None:
            raise InputError(f"{path} gives no box on its first line, and propagation starts from it.")
        if not _centres_within(boxes[0], size):
            raise InputError(f"{path}: the first box lies outside the frames of {size[0]} x {size[1]} pixels.")
        boxes = boxes[:frames]
        return BoxClip(name, images, path, len(boxes), size, tuple(boxes))


def _read(path: Path) -> list[Box | None]:
    boxes: list[Box | None] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            x, y, width, height = (float(part) for part in re.split(r"[,\s]+", line.strip()))
        except ValueError:
            raise InputError(f"{path}, line {number}: a box is four numbers, x, y, width and height.") from None
        real = all(map(math.isfinite, (x, y, width, height))) and width > 0 and height > 0
        boxes.append((x - 1, y - 1, width, height) if real else None)
    if not boxes:
        raise InputError(f"{path} is empty; it should hold a box a line.")
    return boxes


def _within(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box that lies on the frame: a label may not reach beyond it."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    return left, top, min(box[0] + box[2], size[0]) - left, min(box[1] + box[3], size[1]) - top


def _centres_within(box: Box, size: tuple[int, int]) -> bool:
    x, y, width, height = _within(box, size)
    return width > 0 and height > 0 and bool(raster.box(x, y, width, height, size[1], size[0]).any())


def _box(result: FrameResult) -> Box | None:
    return next((found.box for found in result.objects if found.object == _TARGET and found.visible), None)
