"""Evidence: what one frame tells about how far the label that arrived there can be trusted.

Every quantity is taken while a frame is labelled, from what is at hand then: the features of this frame and of the one
before, the soft maps on both, and a small portrait of the object on the anchor that it came from. None needs to know
how the map was made, so all presets share them. `model.confidence` turns them into a number from 0 to 1.

Work is bounded: of an object's cells at most `SAMPLES` are looked at, and they are compared with the cells around them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.channels import ChannelSet

NAMES = (
    "mass",
    "outline",
    "back",
    "kept",
    "likeness",
    "own",
    "found",
    "area",
    "spread",
    "memory",
)
"""The quantities, in the order of a row of evidence. Each lies in 0..1, and 1 speaks for the label:

mass: how decided the map is, sum p^2 / sum p, against the same of the anchor (its outline is soft as well).
outline: the map's border, sum |grad p| / sqrt(sum p), against the anchor's: ragged and scattered maps have more of it.
back: cells of the object, matched back into the frame before: how much of that label they find there.
kept: the other way, cells of the object on the frame before, matched into this frame.
likeness: mean of the best cosines to the object on its anchor.
own: share of cells that look more like the anchor's object than like what surrounds it there.
found: share of the portrait's cells that look more like cells of this label than like what surrounds it here.
area: area against the anchor.
spread: the cells' distance from their centre against the anchor's, for the area that they have.
memory: what is left of 1 when every frame since the anchor takes away by how much `back` and `kept` fall short; a label
    that looks like its anchor regains some of it with every frame.

Those that need the anchor are 0.5 where memory no longer holds one that speaks of the object.
"""

SAMPLES = 64
"""How many of an object's cells are looked at."""

_AROUND = 128  # how many of the cells around it
_MARGIN = 6  # in cells: how far "around" reaches
_UNSAID = 0.5
_REGAINED = 0.02  # of what memory lacks, with every frame
_NUMBER = {name: number for number, name in enumerate(NAMES)}


@dataclass(frozen=True, eq=False)
class Portrait:
    """An object on its anchor.

    Attributes:
        own: (n, C) features of its cells, at most `SAMPLES`.
        around: (m, C) features of cells around it.
        shape: of its soft map, as `_Shape` measures it.
    """

    own: Tensor
    around: Tensor
    shape: _Shape


@dataclass(frozen=True)
class _Shape:
    """Of one soft map, in cells."""

    area: float
    mass: float
    outline: float
    spread: float


class Witness:
    """Gathers evidence along one direction of propagation.

    Args:
        channels: what is carried. Keypoints have a confidence of their own; their rows of evidence stay 0.
        radius: in cells, how far a cell may have come from one frame to the next.
    """

    def __init__(self, channels: ChannelSet, radius: int) -> None:
        self._regions = [n for n, channel in enumerate(channels.channels) if channel.keypoint is None]
        self._count, self._radius = len(channels), radius
        self._rows, self._columns = channels.grid.rows, channels.grid.columns
        self._before: tuple[Tensor, Tensor] | None = None
        self._portraits: dict[int, dict[int, Portrait]] = {}
        self._memory = np.ones(self._count, np.float32)

    @property
    def memory(self) -> np.ndarray:
        """(C,) float32: what a checkpoint must hold beside the frames in memory."""
        return self._memory.copy()

    def restore(self, memory: np.ndarray) -> None:
        """After `remember` has been called again for every frame in memory, oldest first."""
        self._memory = np.array(memory, np.float32)

    def remember(
        self, slot: int, features: Tensor, values: Tensor, given: np.ndarray, known: Tensor | None = None
    ) -> None:
        """Keeps what is needed of a frame: it becomes the one before, and an anchor leaves portraits.

        Args:
            slot: where memory holds the frame; what was known under this number is forgotten.
            features: (rows, columns, C), L2-normalised.
            values: (rows * columns, channels) soft labels.
            given: (channels,) bool, those that an anchor shows on this frame.
            known: (rows, columns) bool, False for void cells, which belong to no portrait; None where there are none.
        """
        self._before = (features, values)
        self._portraits.pop(slot, None)
        self._memory[given] = 1
        there = [n for n in self._regions if given[n] and values[:, n].any()]
        found = {n: self._portrait(features, values[:, n], known) for n in there}
        if found:
            self._portraits[slot] = found

    def hear(self, features: Tensor, values: Tensor, anchors: Mapping[int, np.ndarray]) -> np.ndarray:
        """(channels, len(NAMES)) float32 evidence on a frame that is not yet remembered.

        Args:
            features: of the new frame, (rows, columns, C).
            values: (rows * columns, channels) soft labels that were carried there.
            anchors: by slot, latest last, the (channels,) bool that the anchor remembered there speaks for.
        """
        evidence = np.zeros((self._count, len(NAMES)), np.float32)
        if self._before is None:
            return evidence
        for number in self._regions:
            portrait = self._newest_portrait(number, anchors)
            if not values[:, number].any():
                continue
            row = self._row(features, values[:, number], self._before[0], self._before[1][:, number], portrait)
            row["memory"] = self._aged(float(self._memory[number]), row)
            self._memory[number] = row["memory"]
            for name, value in row.items():
                evidence[number, _NUMBER[name]] = value
        return evidence

    @staticmethod
    def _aged(memory: float, row: Mapping[str, float]) -> float:
        fallen = 1 - (row["back"] + row["kept"]) / 2
        memory *= 1 - fallen * fallen
        return memory + _REGAINED * max(0.0, min(row["own"], row["found"]) - memory)

    def _newest_portrait(self, number: int, anchors: Mapping[int, np.ndarray]) -> Portrait | None:
        held = [self._portraits[slot] for slot, told in anchors.items() if slot in self._portraits and told[number]]
        return next((portraits[number] for portraits in reversed(held) if number in portraits), None)

    def _row(
        self, features: Tensor, now: Tensor, old_features: Tensor, before: Tensor, portrait: Portrait | None
    ) -> dict[str, float]:
        flat, old = features.flatten(0, 1), old_features.flatten(0, 1)
        cells = self._sample(_core(now), SAMPLES)
        shape = self._shape(now)
        row = dict.fromkeys(NAMES, _UNSAID) | {"mass": shape.mass, "kept": 0.0}
        row["back"] = _arrived(before[self._best(flat[cells], cells, old)], now[cells])
        if before.any():
            left = self._sample(_core(before), SAMPLES)
            row["kept"] = _arrived(now[self._best(old[left], left, flat)], before[left])
        if portrait is not None:
            row |= self._against(portrait, flat, now, cells, shape)
        return {name: min(1.0, max(0.0, value)) for name, value in row.items()}

    def _against(self, portrait: Portrait, flat: Tensor, now: Tensor, cells: Tensor, shape: _Shape) -> dict[str, float]:
        own, around = _greatest(flat[cells], portrait.own), _greatest(flat[cells], portrait.around)
        outside = flat[self._sample(self._ring(now), _AROUND)]
        return {
            "mass": shape.mass / portrait.shape.mass,
            "outline": _even(portrait.shape.outline, shape.outline),
            "likeness": float(own.mean()),
            "own": _preferred(own, around),
            "found": _preferred(_greatest(portrait.own, flat[cells]), _greatest(portrait.own, outside)),
            "area": _even(shape.area, portrait.shape.area),
            "spread": _even(shape.spread, portrait.shape.spread),
        }

    def _portrait(self, features: Tensor, values: Tensor, known: Tensor | None) -> Portrait:
        flat = features.flatten(0, 1)
        cells = self._sample(_core(values), SAMPLES)
        ring = self._ring(values)
        seen = ring if known is None else ring & known.to(ring.device).reshape(-1)
        around = self._sample(seen if bool(seen.any()) else ring, _AROUND)
        return Portrait(flat[cells], flat[around], self._shape(values))

    def _shape(self, values: Tensor) -> _Shape:
        values = values.double()  # so that the order of a sum, which threads may change, leaves no trace
        area = float(values.sum())
        picture = values.view(self._rows, self._columns)
        outline = float(picture.diff(dim=0).abs().sum() + picture.diff(dim=1).abs().sum())
        across, down = picture.sum(dim=0), picture.sum(dim=1)
        variance = sum(_variance(profile, area) for profile in (across, down))
        return _Shape(
            area=area,
            mass=float((values * values).sum()) / area,
            outline=outline / math.sqrt(area),
            spread=math.sqrt((variance + 1 / 6) / area),  # a cell has an extent of its own
        )

    def _ring(self, values: Tensor) -> Tensor:
        """(cells,) bool: near the object and not of it; all but it where it leaves nothing near."""
        picture = values.view(self._rows, self._columns) > 0.1
        near = torch.nn.functional.max_pool2d(picture[None].float(), 2 * _MARGIN + 1, 1, _MARGIN)[0] > 0
        ring = (near & ~picture).reshape(-1)
        return ring if bool(ring.any()) else values <= values.min()

    @staticmethod
    def _sample(chosen: Tensor, most: int) -> Tensor:
        """Flat indices of at most so many of the cells, evenly among them."""
        cells = chosen.nonzero()[:, 0]
        if len(cells) <= most:
            return cells
        return cells[(torch.arange(most, device=cells.device) * len(cells)) // most]

    def _best(self, queries: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """For cells at `places`, the flat index of the cell of a frame within the radius that is most alike."""
        y, x = places // self._columns, places % self._columns
        top, left = max(0, int(y.min()) - self._radius), max(0, int(x.min()) - self._radius)
        bottom = min(self._rows, int(y.max()) + self._radius + 1)
        right = min(self._columns, int(x.max()) + self._radius + 1)
        window = targets.view(self._rows, self._columns, -1)[top:bottom, left:right]
        scores = (queries @ window.flatten(0, 1).T).float()
        across = (torch.arange(left, right, device=x.device) - x[:, None]) ** 2
        down = (torch.arange(top, bottom, device=y.device) - y[:, None]) ** 2
        far = (down[:, :, None] + across[:, None, :]).flatten(1) > self._radius * self._radius
        index = scores.masked_fill_(far, -1).argmax(dim=1)
        width = right - left
        return (index // width + top) * self._columns + index % width + left


def joined(forward: np.ndarray, backward: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Both directions' evidence on a frame, weighted as their maps are.

    Args:
        forward, backward: (channels, len(NAMES)).
        shares: per channel, how much the backward direction counts.
    """
    share = np.asarray(shares, np.float32)[:, None]
    mixed = (1 - share) * forward + share * backward
    return np.where(share > 0, mixed, forward).astype(np.float32)


def _core(values: Tensor) -> Tensor:
    """(cells,) bool: the cells that belong to the object, however faint its map is as a whole."""
    return values >= values.max().clamp(max=1.0) / 2


def _arrived(there: Tensor, here: Tensor) -> float:
    return float((there / here).clamp(max=1).mean())


def _greatest(cells: Tensor, others: Tensor) -> Tensor:
    return (cells @ others.T).float().amax(dim=1)


def _preferred(first: Tensor, second: Tensor) -> float:
    return float(((first > second).float() + (first >= second).float()).mean()) / 2


def _even(a: float, b: float) -> float:
    """1 where two sizes are equal, towards 0 as one outgrows the other."""
    return min(a, b) / max(a, b) if max(a, b) > 0 else 1.0


def _variance(profile: Tensor, total: float) -> float:
    place = torch.arange(len(profile), device=profile.device, dtype=profile.dtype)
    mean = float((profile * place).sum()) / total
    return float((profile * (place - mean) ** 2).sum()) / total
