"""Propagation in one direction: frames in, soft maps out, with a memory that does not grow.

The loop is the one of UVC and CRW: every new frame's cells are matched to a memory of labelled and recent frames, and
what the matched cells were labelled arrives as a weighted mean. Memory holds the first anchor and the anchors nearest
to the present, and a ring of the most recent frames; everything else is forgotten, however long the video is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.affinity import Matches, WindowMemory
from model.channels import AnchorMaps, ChannelSet
from model.decoding import decode
from model.evidence import Witness
from model.features import FeatureExtractor, centred
from model.following import FollowingMemory
from model.geometry import Grid
from model.labels import Anchor, FrameResult, LabelObject
from model.localisation import Localiser, Places, nearest, search
from model.presets import Preset
from model.steadying import steadied
from model.video import Frame

# How a memory frame came to know a channel.
_UNKNOWN, _PROPAGATED, _PRESENT, _ABSENT = range(4)
# The share of a lost object's cells that must agree where it is.
_FOUND_AGAIN = 0.3


@dataclass(frozen=True, eq=False)
class SoftMaps:
    """What one direction says about one frame.

    Attributes:
        frame: the frame's index.
        values: (C, rows, columns) float32 in 0..1.
        known: (C,) bool, False for channels of which this direction has not yet seen an anchor (their values are 0).
        evidence: (C, len(model.evidence.NAMES)) float32, what speaks for each channel's map; None where nobody asked.
    """

    frame: int
    values: Tensor
    known: np.ndarray
    evidence: np.ndarray | None = None


@dataclass(eq=False)
class _Remembered:
    """A frame in memory: its index, whether it is an anchor, how it knows each channel, and which step it was."""

    frame: int
    anchor: bool
    kinds: np.ndarray  # (C,) uint8
    step: int
    known_cells: Tensor | None = field(default=None)  # (rows, columns) bool; None: all
    places: Places | None = field(default=None)  # where memory follows objects


class Propagator:
    """Carries a job's channels through frames that come in one direction, ascending or descending.

    Objects may first appear on any anchor; each is carried as if memory held only the frames that know it, at one
    affinity's cost for all of them. After an anchor corrects a channel, the propagated frames before it no longer count
    for that channel, and after an anchor says that it is gone, nothing before that counts.

    Args:
        extractor: the encoder on its device.
        channels: what is carried.
        preset: every setting of the computation.
    """

    def __init__(self, extractor: FeatureExtractor, channels: ChannelSet, preset: Preset) -> None:
        self._extractor, self._channels, self._preset = extractor, channels, preset
        self._grid = channels.grid
        slots = max(1, min(len(channels.anchors), preset.anchor_frames)) + preset.recent_frames
        device = extractor.device
        self._memory = (FollowingMemory if preset.follow else WindowMemory)(
            self._grid.rows,
            self._grid.columns,
            extractor.channels,
            slots,
            radius=preset.radius,
            top_k=preset.top_k,
            temperature=preset.temperature,
            dtype=extractor.dtype,
            device=device,
        )
        self._localiser = Localiser(channels)
        # Where each object was last seen in this direction, and how many frames this one has taken.
        self._last: Places = np.full((len(self._localiser), 6), np.nan, np.float32)
        self._steps = 0
        self._shares: dict[int, Tensor] = {}  # of the anchors in memory, one map an object
        cells = self._grid.rows * self._grid.columns
        self._labels = torch.zeros(slots, cells, len(channels), device=device)
        self._slots: list[_Remembered | None] = [None] * slots
        self._order: list[int] = []  # slots, oldest frame first
        self._keypoints = [n for n, channel in enumerate(channels.channels) if channel.keypoint is not None]
        self._witness = Witness(channels, preset.radius)

    @classmethod
    def for_video(
        cls,
        extractor: FeatureExtractor,
        preset: Preset,
        objects: Sequence[LabelObject],
        anchors: Sequence[Anchor],
        *,
        width: int,
        height: int,
    ) -> Propagator:
        """A propagator for frames of this size."""
        return cls(extractor, ChannelSet(objects, anchors, Grid.of(preset, width, height)), preset)

    def run(self, frames: Iterable[Frame]) -> Iterator[FrameResult]:
        """Labels frames as they come: nothing ahead of the present frame is needed or looked at."""
        for frame in frames:
            soft = self.step(frame)
            yield decode(
                self._channels,
                soft.frame,
                frame.time_ms,
                soft.values,
                soft.known,
                soft.evidence,
                declare_gone=self._preset.declares_gone,
            )

    @torch.inference_mode()
    def step(self, frame: Frame, features: Tensor | None = None) -> SoftMaps:
        """Takes the next frame in this direction: labels it from memory, then remembers it.

        On an anchor's frame the channels that the anchor gives are the anchor's own.

        Args:
            features: the frame's, where they were computed ahead.
        """
        if features is None:
            features = self._extractor(frame.image, self._grid)
        features = self._seen(features)
        values = self._steady(self._carry(features))
        kinds = np.where(self._known(), _PROPAGATED, _UNKNOWN).astype(np.uint8)
        given: AnchorMaps | None = None
        if frame.index in self._channels.anchors:
            given = self._channels.maps(frame.index)
            values[:, torch.from_numpy(given.given)] = self._flat(given.values)[:, torch.from_numpy(given.given)]
            kinds[given.given] = np.where(given.present, _PRESENT, _ABSENT)[given.given]
            self._overrule(kinds)
        # Memory holds labels in eight bits, like a mask: shares below 1/510 end here instead of creeping through the
        # whole frame, which is what lets tiles without any label be left out, and a checkpoint is small and exact.
        values = (values * 255).round() / 255
        told = {slot: self._held(slot).kinds == _PRESENT for slot in self._order}
        evidence = self._witness.hear(features, values, told)
        known_cells = given.known if given else None
        self._remember(_Remembered(frame.index, given is not None, kinds, self._steps, known_cells), features, values)
        self._steps += 1
        return SoftMaps(frame.index, self._maps(values).cpu(), kinds != _UNKNOWN, evidence)

    def state(self) -> dict[str, np.ndarray]:
        """What the next step needs, without the features: those are computed anew from the frames."""
        held = [(slot, self._held(slot)) for slot in self._order]
        cells = (self._grid.rows, self._grid.columns)
        everywhere = torch.ones(cells, dtype=torch.bool)
        known = [everywhere if r.known_cells is None else r.known_cells for _, r in held]
        count = len(held)
        return {
            "slots": np.array([slot for slot, _ in held], np.int64),
            "frames": np.array([r.frame for _, r in held], np.int64),
            "anchors": np.array([r.anchor for _, r in held], bool),
            "kinds": np.array([r.kinds for _, r in held], np.uint8).reshape(count, len(self._channels)),
            "labels": (self._labels[self._order] * 255).round().byte().cpu().numpy(),
            "known_cells": np.array([k.numpy() for k in known], bool).reshape(count, *cells),
            "steps": np.array([*(r.step for _, r in held), self._steps], np.int64),
            "last": self._last.copy(),
            "witness": self._witness.memory,
        }

    def restore(
        self,
        state: Mapping[str, np.ndarray],
        read: Callable[[int], Frame],
        load: Callable[[int], Tensor | None] = lambda index: None,
    ) -> None:
        """Continues from `state`, exactly as if never interrupted.

        Args:
            state: what `state()` gave after some frame.
            read: gives the frame of an index; called for the frames in memory only.
            load: gives the features of an index where they were kept.
        """
        for position, slot in enumerate(state["slots"].tolist()):
            cells = torch.from_numpy(state["known_cells"][position])
            remembered = _Remembered(
                int(state["frames"][position]),
                bool(state["anchors"][position]),
                state["kinds"][position].copy(),
                int(state["steps"][position]),
                None if bool(cells.all()) else cells,
            )
            features = load(remembered.frame)
            if features is None:
                features = self._extractor(read(remembered.frame).image, self._grid)
            values = torch.from_numpy(state["labels"][position]).to(self._labels.device).float() / 255
            self._put(slot, remembered, self._seen(features), values)
        self._steps, self._last = int(state["steps"][-1]), state["last"].copy()
        self._witness.restore(state["witness"])

    def _seen(self, features: Tensor) -> Tensor:
        return centred(features) if self._preset.centred else features

    def _carry(self, features: Tensor) -> Tensor:
        """(cells, C): the memory's labels brought to the new frame."""
        values = torch.zeros_like(self._labels[0])
        groups = self._groups()
        if not groups:
            return values
        active = [self._active(slots, members) for slots, members in groups.items()]
        if isinstance(self._memory, FollowingMemory):
            anchors = [slot for slot in self._order if self._held(slot).anchor]
            favour = dict.fromkeys(anchors, self._preset.anchor_favour)
            found = self._memory.matches(features, list(groups), active, self._moved(features), favour)
        else:
            found = self._memory.matches(features, list(groups), active)
        for matches, members in zip(found, groups.values(), strict=True):
            if matches:
                self._transfer(values, matches, members)
        return values

    def _steady(self, values: Tensor) -> Tensor:
        """(cells, C) with keypoints near where they were on the frame before, if the preset says so."""
        sigma, points = self._preset.keypoint_step, self._keypoints
        if sigma is not None and points and self._order:
            before = self._labels[self._order[-1]]
            values[:, points] = steadied(values[:, points], before[:, points], self._grid.columns, sigma)
        return values

    def _moved(self, features: Tensor) -> NDArray[np.int64]:
        """(slots, tile rows, tile columns, 2): how far what a tile shows has moved since each slot's frame."""
        assert isinstance(self._memory, FollowingMemory)
        self._look_again(features)
        tiles = nearest(self._last, self._memory.tile, self._memory.tile_rows, self._memory.tile_columns)
        moved = np.zeros((len(self._slots), *tiles.shape, 2), np.int64)
        for slot in self._order:
            places = self._held(slot).places
            assert places is not None
            apart = np.nan_to_num(np.rint(self._last[:, :2] - places[:, :2])).astype(np.int64)
            moved[slot] = apart[tiles]
        return moved

    def _look_again(self, features: Tensor) -> None:
        """Looks for every object in the whole frame by the latest anchor that shows it.

        Where enough of it is found beyond the windows' reach of where it was last, it is there: it has come back, or
        what was followed was not it.
        """
        assert isinstance(self._memory, FollowingMemory)
        for number in range(len(self._localiser)):
            slot = self._shown_by(number)
            if slot is None:
                continue
            sighting = search(features, self._memory.read(slot), self._shares[slot][number])
            if sighting is None or sighting.agreement < _FOUND_AGAIN:
                continue
            places = self._held(slot).places
            assert places is not None
            moved = np.array([sighting.down, sighting.right], np.float32)
            there = places[number] + moved[[0, 1, 0, 0, 1, 1]]
            # Said so that an object that was never seen in this direction, at NaN, counts as far away.
            if not np.hypot(*(there - self._last[number])[:2]) <= self._preset.radius:
                self._last[number] = there

    def _shown_by(self, number: int) -> int | None:
        """The latest anchor's slot that shows an object; None where the latest that speaks of it says it is gone."""
        members = self._localiser.members[number]
        for slot in reversed(self._order):
            held = self._held(slot)
            if held.anchor and (held.kinds[members] == _ABSENT).any():
                return None
            if held.anchor and (held.kinds[members] == _PRESENT).any():
                places = held.places
                return None if places is None or np.isnan(places[number, 0]) else slot
        return None

    def _maps(self, values: Tensor) -> Tensor:
        """(cells, C) to (C, rows, columns): the way back from `_flat`."""
        return values.T.reshape(len(self._channels), self._grid.rows, self._grid.columns)

    def _transfer(self, values: Tensor, matches: list[Matches], members: list[int]) -> None:
        cells = torch.cat([match.cells for match in matches])
        weights = torch.cat([match.weights for match in matches])
        sources = torch.cat([match.sources for match in matches])
        whole = len(members) == values.shape[1]
        labels = self._labels.flatten(0, 1)
        labels = labels if whole else labels[:, members].contiguous()
        carried = F.embedding_bag(sources, labels, per_sample_weights=weights, mode="sum")
        if whole:
            values[cells] = carried
        else:
            values[cells[:, None], torch.tensor(members, device=values.device)] = carried

    def _groups(self) -> dict[tuple[int, ...], list[int]]:
        """Channels by the slots that count for them.

        An anchor that outlives the recent frames counts for the channels that it speaks of, and not for those that were
        merely propagated onto it: labelling one object does not change another's result.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        if self._order:
            kinds = np.array([self._held(slot).kinds for slot in self._order])
            counts = kinds != _UNKNOWN
            recent = self._recent()
            outlived = np.array([slot not in recent for slot in self._order])
            counts[outlived] &= kinds[outlived] != _PROPAGATED
            for channel in range(len(self._channels)):
                slots = tuple(s for s, does in zip(self._order, counts[:, channel], strict=True) if does)
                if slots:
                    groups.setdefault(slots, []).append(channel)
        return groups

    def _active(self, slots: Sequence[int], members: list[int]) -> Tensor:
        """(slots, rows, columns) bool: cells that carry any of the channels."""
        labels = self._labels[list(slots)]
        if len(members) < len(self._channels):
            labels = labels[:, :, members]
        return (labels > 0).any(dim=2).unflatten(1, (self._grid.rows, self._grid.columns))

    def _known(self) -> np.ndarray:
        known = np.zeros(len(self._channels), bool)
        for slot in self._order:
            known |= self._held(slot).kinds != _UNKNOWN
        return known

    def _overrule(self, kinds: np.ndarray) -> None:
        """An anchor's word on a channel replaces what was propagated before it, and its contrary."""
        for slot in self._order:
            before = self._held(slot).kinds
            forgotten = (kinds == _PRESENT) & (before != _PRESENT)
            forgotten |= (kinds == _ABSENT) & (before != _ABSENT)
            before[forgotten] = _UNKNOWN

    def _remember(self, remembered: _Remembered, features: Tensor, values: Tensor) -> None:
        kept = self._kept()
        free = [slot for slot in range(len(self._slots)) if slot not in kept]
        self._order = [slot for slot in self._order if slot in kept]
        self._put(free[0], remembered, features, values)

    def _kept(self) -> set[int]:
        """The slots that stay beside the frame that is about to be remembered as the most recent one."""
        limit = self._preset.anchor_frames
        anchors = [slot for slot in self._order if self._held(slot).anchor]
        if len(anchors) > limit:
            anchors = anchors[:1] + anchors[len(anchors) - (limit - 1) :]
        return {*anchors, *self._recent(room=1)}

    def _recent(self, *, room: int = 0) -> list[int]:
        """The slots of the recent frames: the latest, and of those before them the ones `spacing` apart.

        Args:
            room: how many of them are left for frames to come.
        """
        preset = self._preset
        count = preset.recent_frames - room
        latest = count if preset.latest_frames is None else min(count, preset.latest_frames - room)
        first = max(0, len(self._order) - latest)
        older = [slot for slot in self._order[:first] if self._held(slot).step % preset.spacing == 0]
        return [*older[max(0, len(older) - (count - latest)) :], *self._order[first:]]

    def _put(self, slot: int, remembered: _Remembered, features: Tensor, values: Tensor) -> None:
        self._memory.write(slot, features, remembered.known_cells)
        self._witness.remember(slot, features, values, remembered.kinds == _PRESENT, remembered.known_cells)
        self._labels[slot] = values
        if self._preset.follow:
            maps = self._maps(values)
            remembered.places = self._localiser.places(maps)
            self._shares.pop(slot, None)
            if remembered.anchor:
                self._shares[slot] = self._localiser.shares(maps)
            here = ~np.isnan(remembered.places[:, 0])
            self._last[here] = remembered.places[here]
        self._slots[slot] = remembered
        self._order.append(slot)

    def _held(self, slot: int) -> _Remembered:
        held = self._slots[slot]
        assert held is not None
        return held

    def _flat(self, maps: Tensor) -> Tensor:
        return maps.flatten(1).T.to(self._labels.device)
