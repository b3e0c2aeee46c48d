"""DAVIS 2016 and 2017, semi-supervised: J and F of every object, as the davis2017-evaluation toolkit scores them.

Layout: `JPEGImages/480p/SEQ/00000.jpg`, `Annotations/480p/SEQ/00000.png`, and `ImageSets/2017/val.txt` where there is
one. Whether it is one object (2016) or several (2017) the masks themselves say: 0 and 255, or ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

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
from model.evaluation.metrics import boundary_f, jaccard
from model.labels import Anchor, FrameResult, Label, indexed_png

_RESOLUTION = "480p"
_LISTS = ("ImageSets/2017/val.txt", "ImageSets/480p/val.txt", "ImageSets/2016/val.txt")


@dataclass(frozen=True)
class DavisClip(Clip):
    """A sequence.

    Attributes:
        masks: the truth of every frame.
        objects: the ids on the first frame; later ones are not known and not scored.
        single: masks are 0 and 255, and any value but 0 is the one object.
    """

    masks: tuple[Path, ...]
    objects: tuple[int, ...]
    single: bool


class Statistics(NamedTuple):
    """Mean, recall (share of frames above 0.5) and decay (first quarter of the frames less the last) of a measure."""

    mean: float
    recall: float
    decay: float


def statistics(values: Sequence[float] | NDArray[np.floating]) -> Statistics:
    """DAVIS's three numbers of a measure over frames. Neighbouring quarters share a frame, as in the toolkit."""
    array = np.asarray(values, np.float64)
    ends = np.floor(np.linspace(1, len(array), 5) + 0.5 + 1e-10).astype(int) - 1
    quarters = [array[a : b + 1].mean() for a, b in pairwise(ends)]
    return Statistics(float(array.mean()), float((array > 0.5).mean()), float(quarters[0] - quarters[3]))


class Davis(Benchmark[DavisClip]):
    """See the module."""

    name = "davis"
    protocol = (
        "DAVIS semi-supervised: J is intersection over union, F the boundary measure with a tolerance of 0.008 of the "
        "diagonal; the first and the last frame are not scored; numbers per object, then the mean over all objects of "
        "all sequences. Recall is the share of frames above 0.5, decay the first quarter's mean less the last's. 255 "
        "is background in the truth unless 0 and 255 are the first mask's only values."
    )
    columns = ("J&F", "J", "J-recall", "J-decay", "F", "F-recall", "F-decay")
    least_frames = 3
    layout = (
        "DAVIS has JPEGImages/480p/SEQUENCE/00000.jpg and Annotations/480p/SEQUENCE/00000.png; --root is the folder "
        "above both."
    )

    def select(self, wanted: Sequence[str] | None = None, frames: int | None = None) -> Selection[DavisClip]:
        masks = self._folder("Annotations", _RESOLUTION)
        names, origin = folders_in(masks), f"every folder in {masks}"
        absent: tuple[str, ...] = ()
        listed = next((path for path in map(self.root.joinpath, _LISTS) if path.is_file()), None)
        if wanted is not None:
            names, origin = chosen(names, wanted, masks), "as asked for"
        elif listed is not None:
            (names, absent), origin = present(list_of_names(listed), names), str(listed)
        self._folder("JPEGImages", _RESOLUTION)
        return self._checked(Selection(tuple(self._clip(name, frames) for name in names), origin, absent))

    def given(self, clip: DavisClip) -> Anchor:
        regions, void = indexed_png.split(read_png(clip.masks[0], clip.size))
        return Anchor(0, tuple(Label(identity, mask) for identity, mask in regions.items()), void)

    def truth(self, clip: DavisClip, frame: int) -> FrameResult:
        index_map = self._index_map(clip, frame)
        return FrameResult(frame, 0, tuple(as_truth(identity, index_map == identity) for identity in clip.objects))

    def score(self, clip: DavisClip, results: Iterable[FrameResult]) -> ClipScore:
        assert clip.size is not None
        nothing = np.zeros((clip.size[1], clip.size[0]), np.bool_)
        measured: dict[int, NDArray[np.float64]] = {}
        for result in results:
            if not 0 < result.frame < clip.frame_count - 1:
                continue
            found = {each.object: each.mask for each in result.objects}
            index_map = self._index_map(clip, result.frame)
            rows = []
            for identity in clip.objects:
                mask, truth = found.get(identity), index_map == identity
                mask = nothing if mask is None else mask
                rows.append((jaccard(mask, truth), boundary_f(mask, truth)))
            measured[result.frame] = np.array(rows, np.float64)
        by_object = np.stack([measured[frame] for frame in sorted(measured)], axis=2)  # objects x (J, F) x frames
        tally = np.array([[*statistics(j), *statistics(f)] for j, f in by_object])
        return ClipScore(
            name=clip.name,
            numbers=_numbers(tally.mean(axis=0)),
            frames={frame: float(rows.mean()) for frame, rows in measured.items()},
            details={
                "objects": {
                    str(identity): {**_numbers(row), "J-frames": j.round(4).tolist(), "F-frames": f.round(4).tolist()}
                    for identity, row, (j, f) in zip(clip.objects, tally, by_object, strict=True)
                },
                "scored_frames": sorted(measured),
            },
            tally=tally,
        )

    def mean(self, scores: Sequence[ClipScore]) -> dict[str, float]:
        return _numbers(np.concatenate([score.tally for score in scores]).mean(axis=0))

    def write(self, clip: DavisClip, results: Iterable[FrameResult], folder: Path) -> None:
        assert clip.size is not None
        for result in results:
            write_index_map(result, folder / clip.name, clip.masks[result.frame].name, clip.size)

    def _clip(self, name: str, frames: int | None) -> DavisClip:
        images = self.root / "JPEGImages" / _RESOLUTION / name
        folder = self.root / "Annotations" / _RESOLUTION / name
        masks, size = masks_of_folder(images, folder, frames)
        regions, _ = indexed_png.split(first := read_png(masks[0], size))
        if not regions:
            raise InputError(f"{masks[0]} marks no object, and propagation starts from it.")
        single = not np.setdiff1d(first, (0, 255)).size
        return DavisClip(name, images, folder, len(masks), size, masks, tuple(regions), single)

    def _index_map(self, clip: DavisClip, frame: int) -> NDArray[np.uint8]:
        index_map = read_png(clip.masks[frame], clip.size)
        return (index_map > 0).astype(np.uint8) if clip.single else index_map


def _numbers(row: NDArray[np.float64]) -> dict[str, float]:
    j, f = Statistics(*map(float, row[:3])), Statistics(*map(float, row[3:]))
    return dict(zip(Davis.columns, ((j.mean + f.mean) / 2, *j, *f), strict=True))
