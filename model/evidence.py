"""Evidence: what one frame tells about how far the label that arrived there can be trusted.

Every quantity is taken while a frame is labelled, from what is at hand then: the features of this frame and of the one
before, the soft maps on both, and a small portrait of the object on the anchor that it came from. None needs to know
how the map was made, so all presets share them. `model.confidence` turns them into a number from 0 to 1.

Work is bounded: of an object's cells at most `portraits.SAMPLES` are looked at, and they are compared with the cells
around them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.channels import ChannelSet
from model.nearby import most_alike
from model.portraits import AREA, MASS, OUTLINE, SAMPLES, SPREAD, Portraits, core, shapes, surroundings
from model.sampling import evenly
from model.side_by_side import Crew

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

_UNSAID = 0.5
_REGAINED = 0.02  # of what memory lacks, with every frame
_REGIONS = 16  # so many are compared with the whole frame before at a time


class Witness:
    """Gathers evidence along one direction of propagation, for all regions at once.

    Args:
        channels: what is carried. Only regions have evidence, all other rows stay 0.
        radius: in cells, how far a cell may have come from one frame to the next.
        device: where features and labels are.
        batched: whether cells are compared with the whole of a frame, for which nothing must be read back; else with
            the part that is within their reach, which is less work.
    """

    def __init__(
        self, channels: ChannelSet, radius: int, device: torch.device | None = None, *, batched: bool = False
    ) -> None:
        self._batched = batched
        self._device = device or torch.device("cpu")
        self._regions = [n for n, channel in enumerate(channels.channels) if channel.region]
        self._at = torch.tensor(self._regions, dtype=torch.int64, device=self._device)
        self._count, self._radius = len(channels), radius
        self._rows, self._columns = channels.grid.rows, channels.grid.columns
        self._before: tuple[Tensor, Tensor] | None = None
        self._portraits: dict[int, Portraits] = {}
        self._newest: tuple[list[tuple[int, bytes]], Portraits | None] = ([], None)
        self._memory = torch.ones(len(self._regions), device=self._device)
        self._crew = Crew()

    @property
    def memory(self) -> np.ndarray:
        """(C,) float32: what a checkpoint must hold beside the frames in memory."""
        memory = np.ones(self._count, np.float32)
        memory[self._regions] = self._memory.cpu().numpy()
        return memory

    def restore(self, memory: np.ndarray) -> None:
        """After `remember` has been called again for every frame in memory, oldest first."""
        self._memory = torch.from_numpy(np.array(memory, np.float32)[self._regions]).to(self._device)

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
        maps = self._maps(values)
        self._before = (features, maps)
        if self._portraits.pop(slot, None) is not None:
            self._newest = ([], None)
        shown = np.flatnonzero(given[self._regions])
        if len(shown):
            at = torch.from_numpy(shown).to(self._device)
            self._memory = self._memory.index_fill(0, at, 1.0)
            portraits = Portraits.of(features, maps[at].unflatten(1, (self._rows, self._columns)), known)
            self._portraits[slot] = portraits.placed(at, len(self._regions))
            self._newest = ([], None)

    def hear(self, features: Tensor, values: Tensor, anchors: Mapping[int, np.ndarray]) -> Tensor:
        """(channels, len(NAMES)) float32 evidence on a frame that is not yet remembered.

        Args:
            features: of the new frame, (rows, columns, C).
            values: (rows * columns, channels) soft labels that were carried there.
            anchors: by slot, latest last, the (channels,) bool that the anchor remembered there speaks for.
        """
        evidence = torch.zeros(self._count, len(NAMES), device=self._device)
        if self._before is None or not self._regions:
            return evidence
        now = self._maps(values)
        there = now.any(dim=1)
        sample = evenly(core(now), SAMPLES)
        found = self._followed(features, now, sample) | self._against(self._latest(anchors), features, now, sample)
        found = {name: value.clamp(0, 1) for name, value in found.items()}
        found["memory"] = torch.where(there, self._aged(found), self._memory)
        self._memory = found["memory"]
        rows = torch.stack([found[name] for name in NAMES], dim=1)
        return evidence.index_copy(0, self._at, torch.where(there[:, None], rows, 0.0))

    def _maps(self, values: Tensor) -> Tensor:
        """(R, cells) of (cells, channels)."""
        return values.T.index_select(0, self._at)

    def _aged(self, found: Mapping[str, Tensor]) -> Tensor:
        fallen = 1 - (found["back"] + found["kept"]) / 2
        memory = self._memory * (1 - fallen * fallen)
        return memory + _REGAINED * (torch.minimum(found["own"], found["found"]) - memory).clamp(min=0)

    def _latest(self, anchors: Mapping[int, np.ndarray]) -> Portraits | None:
        """Of each region the portrait on the latest anchor that speaks of it; None where there is none at all."""
        held = [(slot, told[self._regions]) for slot, told in anchors.items() if slot in self._portraits]
        key = [(slot, told.tobytes()) for slot, told in held]
        if key != self._newest[0]:
            latest: Portraits | None = None
            for slot, told in held:
                own = self._portraits[slot]
                own = replace(own, taken=own.taken & torch.from_numpy(told).to(self._device, non_blocking=True))
                latest = own if latest is None else own.over(latest)
            self._newest = (key, latest)
        return self._newest[1]

    def _followed(self, features: Tensor, now: Tensor, sample: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """What the frame before says: (R,) each.

        Args:
            sample: cells of the regions, as `evenly` gives them.
        """
        assert self._before is not None
        old_features, before = self._before
        flat, old = features.flatten(0, 1), old_features.flatten(0, 1)
        cells, count = sample
        back = _arrived(before.gather(1, self._best(flat, cells, count, old)), now.gather(1, cells), count)
        left, count = evenly(core(before), SAMPLES)
        kept = _arrived(now.gather(1, self._best(old, left, count, flat)), before.gather(1, left), count)
        return {"back": back, "kept": torch.where(before.any(dim=1), kept, 0.0)}

    def _against(
        self, portraits: Portraits | None, features: Tensor, now: Tensor, sample: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """What the anchors say of the sample: (R,) each, `_UNSAID` where there is none."""
        maps = now.unflatten(1, (self._rows, self._columns))
        shape = shapes(maps)
        unsaid = torch.full((len(now),), _UNSAID, device=now.device)
        mass = shape[:, MASS].float()
        if portraits is None:
            return {"mass": mass} | dict.fromkeys(("outline", "likeness", "own", "found", "area", "spread"), unsaid)
        flat, (cells, count) = features.flatten(0, 1), sample
        outside, outside_count = surroundings(maps)
        seen, ground = flat[cells], flat[outside]
        own = _greatest(seen, portraits.own, portraits.own_counts)
        around = _greatest(seen, portraits.around, portraits.around_counts)
        inner = _greatest(portraits.own, seen, count)
        outer = _greatest(portraits.own, ground, outside_count)
        even = _even(shape, portraits.shapes)
        said = {
            "mass": (shape[:, MASS] / portraits.shapes[:, MASS]).float(),
            "outline": even[:, OUTLINE].float(),
            "likeness": _mean(own, count),
            "own": _mean(_preferred(own, around), count),
            "found": _mean(_preferred(inner, outer), portraits.own_counts),
            "area": even[:, AREA].float(),
            "spread": even[:, SPREAD].float(),
        }
        return {
            name: torch.where(portraits.taken, value, mass if name == "mass" else unsaid)
            for name, value in said.items()
        }

    def _best(self, queries: Tensor, places: Tensor, count: Tensor, targets: Tensor) -> Tensor:
        """(R, SAMPLES): for the cells of one frame at `places`, the cell of the other within the radius most alike.

        Args:
            queries, targets: (cells, C) features.
            places: (R, SAMPLES), of which those in `count` (the same shape) matter.
        """
        if self._batched:
            return torch.cat([self._anywhere(queries, some, targets) for some in places.split(_REGIONS)])
        frame = targets.view(self._rows, self._columns, -1)

        def of_region(region: int) -> Tensor:
            found = places[region].clone()
            own = places[region][count[region]]  # they come first
            if len(own):
                best = most_alike(queries[own], own.numpy(), frame, self._radius)
                found[: len(own)] = torch.from_numpy(best)
            return found

        return torch.stack(self._crew.each(of_region, range(len(places))))

    def _anywhere(self, queries: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """(R, SAMPLES), by the whole frame: nothing needs to be known of where the cells lie."""
        flat = places.flatten()
        scores = (queries[flat] @ targets.T).float()
        rows, columns = (torch.arange(n, device=flat.device) for n in (self._rows, self._columns))
        far = self._far(flat // self._columns, flat % self._columns, rows, columns)
        return scores.masked_fill_(far, -1).argmax(dim=1).view_as(places)

    def _far(self, y: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(n, rows * columns) bool: which cells lie beyond the radius."""
        down, across = (rows - y[:, None]) ** 2, (columns - x[:, None]) ** 2
        return (down[:, :, None] + across[:, None, :]).flatten(1) > self._radius * self._radius


def joined(forward: np.ndarray, backward: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Both directions' evidence on a frame, weighted as their maps are.

    Args:
        forward, backward: (channels, len(NAMES)).
        shares: per channel, how much the backward direction counts.
    """
    share = np.asarray(shares, np.float32)[:, None]
    mixed = (1 - share) * forward + share * backward
    return np.where(share > 0, mixed, forward).astype(np.float32)


def _arrived(there: Tensor, here: Tensor, count: Tensor) -> Tensor:
    return _mean((there / here.clamp(min=1e-9)).clamp(max=1), count)


def _mean(values: Tensor, count: Tensor) -> Tensor:
    """(R,) of (R, n), over those that count."""
    return (values * count).sum(dim=1) / count.sum(dim=1).clamp(min=1)


def _greatest(cells: Tensor, others: Tensor, count: Tensor) -> Tensor:
    """(R, n): of each cell the greatest similarity to the others that count."""
    return (cells @ others.mT).float().masked_fill(~count[:, None], -math.inf).amax(dim=2)


def _preferred(first: Tensor, second: Tensor) -> Tensor:
    return ((first > second).float() + (first >= second).float()) / 2


def _even(a: Tensor, b: Tensor) -> Tensor:
    """1 where two sizes are equal, towards 0 as one outgrows the other."""
    largest = torch.maximum(a, b)
    return torch.where(largest > 0, torch.minimum(a, b) / largest.clamp(min=1e-9), 1.0)
