"""VIP (Video Instance-level Parsing, its fine part): mean intersection over union of 20 classes of people's parts.

Layout (VIP_Fine): `Images/VIDEO/FRAME.jpg`, `Annotations/Category_ids/VIDEO/FRAME.png`, `lists/val_videos.txt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.benchmark import (
    Benchmark,
    Clip,
    ClipScore,
    Selection,
    as_truth,
    chosen,
    folders_in,
    list_of_names,
    masks_of_folder,
    present,
    read_png,
    write_index_map,
)
from model.labels import Anchor, FrameResult, Label, LabelObject, colour_of, indexed_png

CLASSES = (
    "background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks", "pants", "gloves", "scarf",
    "skirt", "torso-skin", "face", "right-arm", "left-arm", "right-leg", "left-leg", "right-shoe", "left-shoe",
)  # fmt: skip
_LIST = "lists/val_videos.txt"


@dataclass(frozen=True)
class VipClip(Clip):
    """A video; `masks` are the classes of every frame."""

    masks: tuple[Path, ...]


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(20, 20) pixels by true class and predicted class; pixels whose true value is no class are left out."""
    count = len(CLASSES)
    counted = truth < count
    pairs = truth[counted].astype(np.int64) * count + predicted[counted]
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def intersection_over_union(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """(20,) of each class; NaN for one that is neither true nor predicted anywhere."""
    right = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


class Vip(Benchmark[VipClip]):
    """See the module."""

    name = "vip"
    protocol = (
        "VIP as UVC scores it: the first frame's classes are given; one confusion matrix over all pixels of all "
        "frames, the given one included, of 20 classes with the background; the mean of the classes' intersection over "
        "union, classes that never occur left out. Classes that are not on the first frame cannot be carried and count "
        "as missed."
    )
    columns = ("mIoU", "pixel-accuracy")
    least_frames = 2
    layout = (
        "VIP_Fine has Images/VIDEO/*.jpg, Annotations/Category_ids/VIDEO/*.png and lists/val_videos.txt; --root is the "
        "folder above these."
    )

    def select(self, wanted: Sequence[str] | None = None, frames: int | None = None) -> Selection[VipClip]:
        masks = self._folder("Annotations", "Category_ids")
        self._folder("Images")
        listed = self.root / _LIST
        if wanted is None and not listed.is_file():
            raise InputError(f"There is no {listed} to say which videos are evaluated. Add it, or name --sequences.")
        here, origin = folders_in(masks), "as asked for"
        absent: tuple[str, ...] = ()
        if wanted is None:
            (names, absent), origin = present(list_of_names(listed), here), str(listed)
        else:
            names = chosen(here, wanted, masks)
        return self._checked(Selection(tuple(self._clip(name, frames) for name in names), origin, absent))

    def given(self, clip: VipClip) -> Anchor:
        index_map = read_png(clip.masks[0], clip.size)
        labels = tuple(Label(identity, index_map == identity) for identity in _classes_of(index_map))
        void = index_map >= len(CLASSES)
        return Anchor(0, labels, void if void.any() else None)

    def truth(self, clip: VipClip, frame: int) -> FrameResult:
        index_map = read_png(clip.masks[frame], clip.size)
        return FrameResult(frame, 0, tuple(as_truth(each, index_map == each) for each in _classes_of(index_map)))

    def score(self, clip: VipClip, results: Iterable[FrameResult]) -> ClipScore:
        assert clip.size is not None
        total = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
        frames: dict[int, float] = {}
        for result in results:
            masks = {found.object: found.mask for found in result.objects if found.mask is not None}
            predicted = indexed_png.flatten(masks, shape=(clip.size[1], clip.size[0]))
            matrix = confusion(read_png(clip.masks[result.frame], clip.size), predicted)
            total += matrix
            if result.frame:
                frames[result.frame] = _numbers(matrix)["mIoU"]
        return ClipScore(clip.name, _numbers(total), frames, {"classes": _by_class(total)}, tally=total)

    def mean(self, scores: Sequence[ClipScore]) -> dict[str, float]:
        return _numbers(sum(score.tally for score in scores))

    def write(self, clip: VipClip, results: Iterable[FrameResult], folder: Path) -> None:
        assert clip.size is not None
        for result in results:
            write_index_map(result, folder / clip.name, clip.masks[result.frame].name, clip.size)

    def object(self, identity: int) -> LabelObject:
        return LabelObject(identity, CLASSES[identity], colour_of(identity))

    def _clip(self, name: str, frames: int | None) -> VipClip:
        images, folder = self.root / "Images" / name, self.root / "Annotations" / "Category_ids" / name
        masks, size = masks_of_folder(images, folder, frames)
        if not _classes_of(read_png(masks[0], size)):
            raise InputError(f"{masks[0]} marks no class, and propagation starts from it.")
        return VipClip(name, images, folder, len(masks), size, masks)


def _classes_of(index_map: NDArray[np.uint8]) -> list[int]:
    return [int(value) for value in np.unique(index_map) if 0 < value < len(CLASSES)]


def _numbers(matrix: NDArray[np.int64]) -> dict[str, float]:
    every = matrix.sum()
    if not every:
        return dict.fromkeys(Vip.columns, math.nan)
    return {
        "mIoU": float(np.nanmean(intersection_over_union(matrix))),
        "pixel-accuracy": float(np.diag(matrix).sum() / every),
    }


def _by_class(matrix: NDArray[np.int64]) -> dict[str, float | None]:
    shares = intersection_over_union(matrix)
    return {name: None if np.isnan(s) else round(float(s), 4) for name, s in zip(CLASSES, shares, strict=True)}
