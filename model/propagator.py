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
from torch import Tensor
from torch.nn import functional as F

from model.affinity import Matches, WindowMemory
from model.channels import AnchorMaps, ChannelSet
from model.decoding import decode
from model.evidence import Witness
from model.features import FeatureExtractor
from model.geometry import Grid
from model.labels import Anchor, FrameResult, LabelObject
from model.presets import Preset
from model.video import Frame

# How a memory frame came to know a channel.
_UNKNOWN, _PROPAGATED, _PRESENT, _ABSENT = range(4)


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
    """A frame in memory: its index, whether it is an anchor, and how it knows each channel."""

    frame: int
    anchor: bool
    kinds: np.ndarray  # (C,) uint8
    known_cells: Tensor | None = field(default=None)  # (rows, columns) bool; None: all


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
        self._memory = WindowMemory(
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
        cells = self._grid.rows * self._grid.columns
        self._labels = torch.zeros(slots, cells, len(channels), device=device)
        self._slots: list[_Remembered | None] = [None] * slots
        self._order: list[int] = []  # slots, oldest frame first
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
        grid = Grid.fit(width, height, preset.working_size)
        return cls(extractor, ChannelSet(objects, anchors, grid), preset)

    def run(self, frames: Iterable[Frame]) -> Iterator[FrameResult]:
        """Labels frames as they come: nothing ahead of the present frame is needed or looked at."""
        for frame in frames:
            soft = self.step(frame)
            yield decode(self._channels, soft.frame, frame.time_ms, soft.values, soft.known, soft.evidence)

    @torch.inference_mode()
    def step(self, frame: Frame, features: Tensor | None = None) -> SoftMaps:
        """Takes the next frame in this direction: labels it from memory, then remembers it.

        On an anchor's frame the channels that the anchor gives are the anchor's own.

        Args:
            features: the frame's, where they were computed ahead.
        """
        if features is None:
            features = self._extractor(frame.image, self._grid)
        values = self._carry(features)
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
        self._remember(
            _Remembered(frame.index, given is not None, kinds, given.known if given else None), features, values
        )
        shape = (len(self._channels), self._grid.rows, self._grid.columns)
        return SoftMaps(frame.index, values.T.reshape(shape).cpu(), kinds != _UNKNOWN, evidence)

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
            "witness": self._witness.memory,
        }

    def restore(self, state: Mapping[str, np.ndarray], read: Callable[[int], Frame]) -> None:
        """Continues from `state`, exactly as if never interrupted.

        Args:
            state: what `state()` gave after some frame.
            read: gives the frame of an index; called for the frames in memory only.
        """
        for position, slot in enumerate(state["slots"].tolist()):
            cells = torch.from_numpy(state["known_cells"][position])
            remembered = _Remembered(
                int(state["frames"][position]),
                bool(state["anchors"][position]),
                state["kinds"][position].copy(),
                None if bool(cells.all()) else cells,
            )
            features = self._extractor(read(remembered.frame).image, self._grid)
            values = torch.from_numpy(state["labels"][position]).to(self._labels.device).float() / 255
            self._put(slot, remembered, features, values)
        self._witness.restore(state["witness"])

    def _carry(self, features: Tensor) -> Tensor:
        """(cells, C): the memory's labels brought to the new frame."""
        values = torch.zeros_like(self._labels[0])
        groups = self._groups()
        if not groups:
            return values
        active = [self._active(slots, members) for slots, members in groups.items()]
        found = self._memory.matches(features, list(groups), active)
        for matches, members in zip(found, groups.values(), strict=True):
            if matches:
                self._transfer(values, matches, members)
        return values

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
            counts[: -self._preset.recent_frames] &= kinds[: -self._preset.recent_frames] != _PROPAGATED
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
        recent = self._order[max(0, len(self._order) - (self._preset.recent_frames - 1)) :]
        return {*anchors, *recent}

    def _put(self, slot: int, remembered: _Remembered, features: Tensor, values: Tensor) -> None:
        self._memory.write(slot, features, remembered.known_cells)
        self._witness.remember(slot, features, values, remembered.kinds == _PRESENT, remembered.known_cells)
        self._labels[slot] = values
        self._slots[slot] = remembered
        self._order.append(slot)

    def _held(self, slot: int) -> _Remembered:
        held = self._slots[slot]
        assert held is not None
        return held

    def _flat(self, maps: Tensor) -> Tensor:
        return maps.flatten(1).T.to(self._labels.device)
