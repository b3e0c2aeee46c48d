"""Propagation in one direction: frames in, soft maps out, with a memory that does not grow.

The loop is the one of UVC and CRW: every new frame's cells are matched to a memory of labelled and recent frames, and
what the matched cells were labelled arrives as a weighted mean. Memory holds the first anchor and the anchors nearest
to the present, and a ring of the most recent frames; everything else is forgotten, however long the video is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.affinity import Matches
from model.batched import BatchedMemory
from model.channels import AnchorMaps, ChannelSet
from model.compared import Compared
from model.decoding import decode
from model.download import Download
from model.errors import InputError
from model.evidence import Witness
from model.features import FeatureExtractor
from model.following import FollowingMemory
from model.geometry import Grid
from model.labels import Anchor, FrameResult, LabelObject
from model.localisation import Localiser, nearest, search
from model.lookahead import encode_ahead, until_unreadable
from model.padded import WindowSettings
from model.presets import Preset
from model.roster import ABSENT, PRESENT, PROPAGATED, UNKNOWN, Remembered, Roster
from model.steadying import on_object, steadied
from model.uploads import Uploads
from model.video import Frame
from model.window_memory import WindowMemory

# The share of a lost object's cells that must agree where it is.
_FOUND_AGAIN = 0.3
# How many frames a GPU is ahead of what is read back from it.
_IN_FLIGHT = 8


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


class Propagator:
    """Carries a job's channels through frames that come in one direction, ascending or descending.

    Objects may first appear on any anchor; each is carried as if memory held only the frames that know it, at one
    affinity's cost for all of them. After an anchor corrects a channel, the propagated frames before it no longer count
    for that channel, and after an anchor says that it is gone, nothing before that counts.

    On a GPU nothing is read back while a frame is worked on, so that the host can be several frames ahead of it.

    Args:
        extractor: the encoder on its device.
        channels: what is carried.
        preset: every setting of the computation.
        batched: whether everything is done as on a GPU, which is told nothing that it would have to be asked for; None:
            where the device is one.
    """

    def __init__(
        self, extractor: FeatureExtractor, channels: ChannelSet, preset: Preset, *, batched: bool | None = None
    ) -> None:
        self._extractor, self._channels, self._preset = extractor, channels, preset
        self._grid, device = channels.grid, extractor.device
        self._compared = Compared(extractor, preset)
        self._roster = Roster(len(channels), len(channels.anchors), preset)
        slots = self._roster.slots
        batched = device.type != "cpu" if batched is None else batched
        self._memory = self._new_memory(slots, batched)
        self._upload = Uploads(device)
        self._localiser = Localiser(channels, device)
        # Where each object was on the frames in memory, and where it was last seen in this direction.
        self._places = torch.full((slots, len(self._localiser), 6), torch.nan, device=device)
        self._last = self._places[0].clone()
        self._shares: dict[int, Tensor] = {}  # of the anchors in memory, one map an object
        self._steps = 0
        cells = self._grid.rows * self._grid.columns
        self._labels = torch.zeros(slots, cells, len(channels), device=device)
        self._keypoints = [n for n, channel in enumerate(channels.channels) if channel.keypoint is not None]
        homes = channels.homes()
        self._homes = [region for region, _ in homes]
        self._held = torch.tensor([held for _, held in homes], dtype=torch.float32, device=device)
        self._witness = Witness(channels, preset.radius, device, batched=batched)

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
        grid = Grid.of(preset, width, height)
        return cls(extractor, ChannelSet(objects, anchors, grid, box_sides=preset.box_sides), preset)

    def run(self, frames: Iterable[Frame]) -> Iterator[FrameResult]:
        """Labels frames as they come: on a CPU nothing ahead of the present one is needed or looked at, on a GPU up to
        16 frames, which are encoded several together and not waited for one by one."""
        times: dict[int, int] = {}

        def noted() -> Iterator[tuple[Frame, Tensor]]:
            for frame, features in encode_ahead(self._extractor, self._grid, frames, workers=0):
                times[frame.index] = frame.time_ms
                yield frame, features

        for soft in self.steps(noted()):
            yield decode(
                self._channels,
                soft.frame,
                times.pop(soft.frame),
                soft.values,
                soft.known,
                soft.evidence,
                declare_gone=self._preset.declares_gone,
            )

    def steps(self, frames: Iterable[tuple[Frame, Tensor | None]]) -> Iterator[SoftMaps]:
        """Takes frames with their features, or None, in this direction, and gives what `step` gives, in order.

        A GPU is given the next frames before the present one's maps are read back from it. All frames that were taken
        are given back, also before an error of reading them.

        Raises:
            InputError: where `frames` raises one.
        """
        ahead = 0 if self._labels.device.type == "cpu" else _IN_FLIGHT
        waiting: deque[Download] = deque()
        unreadable: InputError | None = None
        for read in until_unreadable(frames):
            if isinstance(read, InputError):
                unreadable = read
                break
            waiting.append(self.advance(*read))
            if len(waiting) > ahead:
                yield _soft(waiting.popleft())
        while waiting:
            yield _soft(waiting.popleft())
        if unreadable is not None:
            raise unreadable

    def step(self, frame: Frame, features: Tensor | None = None) -> SoftMaps:
        """Takes the next frame in this direction: labels it from memory, then remembers it.

        On an anchor's frame the channels that the anchor gives are the anchor's own.

        Args:
            features: the frame's, where they were computed ahead.
        """
        return _soft(self.advance(frame, features))

    @torch.inference_mode()
    def advance(self, frame: Frame, features: Tensor | None) -> Download:
        """As `step`, without waiting for a GPU: soft maps and evidence are on their way."""
        if features is None:
            features = self._extractor(frame.image, self._grid)
        features = self._compared(features)
        values = self._steady(self._carry(features))
        kinds = np.where(self._roster.known(), PROPAGATED, UNKNOWN).astype(np.uint8)
        given: AnchorMaps | None = None
        if frame.index in self._channels.anchors:
            given = self._channels.maps(frame.index)
            mine = self._upload(np.flatnonzero(given.given).tolist())
            values = values.index_copy(1, mine, self._flat(given.values).index_select(1, mine))
            kinds[given.given] = np.where(given.present, PRESENT, ABSENT)[given.given]
            self._roster.overrule(kinds)
        # Memory holds labels in eight bits, like a mask: shares below 1/510 end here instead of creeping through the
        # whole frame, which is what lets tiles without any label be left out, and a checkpoint is small and exact.
        values = (values * 255).round() / 255
        evidence = self._witness.hear(features, values, self._roster.told())
        known_cells = given.known if given else None
        remembered = Remembered(frame.index, given is not None, kinds, self._steps, known_cells)
        self._put(self._roster.make_room(), remembered, features, values)
        self._steps += 1
        return Download((self._maps(values), evidence), (frame.index, kinds != UNKNOWN))

    def state(self) -> dict[str, np.ndarray]:
        """What the next step needs, without the features: those are computed anew from the frames."""
        order = self._roster.order
        held = [self._roster[slot] for slot in order]
        cells = (self._grid.rows, self._grid.columns)
        everywhere = torch.ones(cells, dtype=torch.bool)
        known = [everywhere if r.known_cells is None else r.known_cells for r in held]
        count = len(held)
        return {
            "slots": np.array(order, np.int64),
            "frames": np.array([r.frame for r in held], np.int64),
            "anchors": np.array([r.anchor for r in held], bool),
            "kinds": np.array([r.kinds for r in held], np.uint8).reshape(count, len(self._channels)),
            "labels": (self._labels[order] * 255).round().byte().cpu().numpy(),
            "known_cells": np.array([k.numpy() for k in known], bool).reshape(count, *cells),
            "steps": np.array([*(r.step for r in held), self._steps], np.int64),
            "last": self._last.cpu().numpy().copy(),
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
            remembered = Remembered(
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
            self._put(slot, remembered, self._compared(features), values)
        self._steps = int(state["steps"][-1])
        self._last = torch.from_numpy(state["last"].copy()).to(self._labels.device)
        self._witness.restore(state["witness"])

    def _new_memory(self, slots: int, batched: bool) -> BatchedMemory | FollowingMemory | WindowMemory:
        preset, sizes = self._preset, (self._grid.rows, self._grid.columns, self._compared.width, slots)
        settings: WindowSettings = {
            "radius": preset.radius,
            "top_k": preset.top_k,
            "temperature": preset.temperature,
            "dtype": self._extractor.dtype,
        }
        if batched:
            return BatchedMemory(*sizes, **settings, device=self._extractor.device)
        return FollowingMemory(*sizes, **settings) if preset.follow else WindowMemory(*sizes, **settings)

    def _carry(self, features: Tensor) -> Tensor:
        """(cells, C): the memory's labels brought to the new frame."""
        values = torch.zeros_like(self._labels[0])
        groups = self._roster.groups()
        if not groups:
            return values
        for matches, members in zip(self._match(features, groups), groups.values(), strict=True):
            if matches:
                values = self._transfer(values, matches, members)
        return values

    def _match(self, features: Tensor, groups: Mapping[tuple[int, ...], list[int]]) -> list[list[Matches]]:
        """For each group of channels, where the new frame's cells match."""
        moved = self._moved(features) if self._preset.follow else None
        favour = dict.fromkeys(self._roster.anchors(), self._preset.anchor_favour)
        slots = list(groups)
        if isinstance(self._memory, BatchedMemory):
            return self._memory.matches(features, slots, moved, favour)
        active = [self._active(slots, members) for slots, members in groups.items()]
        if isinstance(self._memory, FollowingMemory):
            assert moved is not None
            return self._memory.matches(features, slots, active, moved.numpy(), favour)
        return self._memory.matches(features, slots, active)

    def _steady(self, values: Tensor) -> Tensor:
        """(cells, C) with keypoints on their objects and near where they were before, if the preset says so."""
        sigma, order = self._preset.keypoint_step, self._roster.order
        if sigma is None or not self._keypoints or not order:
            return values
        points = self._upload(self._keypoints)
        before = self._labels[order[-1]].index_select(1, points)
        regions = values.index_select(1, self._upload(self._homes))
        arrived = on_object(values.index_select(1, points), regions, self._held)
        return values.index_copy(1, points, steadied(arrived, before, self._grid.columns, sigma))

    def _moved(self, features: Tensor) -> Tensor:
        """(slots, tile rows, tile columns, 2): how far what a tile shows has moved since each slot's frame."""
        memory = self._memory
        assert not isinstance(memory, WindowMemory)
        self._look_again(features)
        tiles = nearest(self._last, memory.tile, memory.tile_rows, memory.tile_columns)
        apart = (self._last[:, :2] - self._places[:, :, :2]).round().nan_to_num().long()
        return apart[:, tiles]

    def _look_again(self, features: Tensor) -> None:
        """Looks for every object in the whole frame by the latest anchor that shows it.

        Where enough of it is found beyond the windows' reach of where it was last, it is there: it has come back, or
        what was followed was not it.
        """
        assert not isinstance(self._memory, WindowMemory)
        shown: dict[int, list[int]] = {}
        for number, members in enumerate(self._localiser.members):
            slot = self._roster.shown_by(members)
            if slot is not None:
                shown.setdefault(slot, []).append(number)
        for slot, numbers in shown.items():
            those = self._upload(numbers)
            shares = self._shares[slot].index_select(0, those)
            batched = isinstance(self._memory, BatchedMemory)
            found = search(features, self._memory.read(slot), shares, batched=batched)
            moved = found.moved.index_select(1, self._upload((0, 1, 0, 0, 1, 1)))
            there = self._places[slot].index_select(0, those) + moved
            last = self._last.index_select(0, those)
            # Said so that an object that was never seen in this direction, at NaN, counts as far away.
            near = torch.hypot(*(there - last)[:, :2].unbind(1)) <= self._preset.radius
            goes = (found.agreement >= _FOUND_AGAIN) & ~near & ~there[:, 0].isnan()
            self._last = self._last.index_copy(0, those, torch.where(goes[:, None], there, last))

    def _maps(self, values: Tensor) -> Tensor:
        """(cells, C) to (C, rows, columns): the way back from `_flat`."""
        return values.T.reshape(len(self._channels), self._grid.rows, self._grid.columns)

    def _transfer(self, values: Tensor, matches: list[Matches], members: list[int]) -> Tensor:
        """(cells, C): the values with what the matches bring to some of the channels."""
        cells = torch.cat([match.cells for match in matches])
        weights = torch.cat([match.weights for match in matches])
        sources = torch.cat([match.sources for match in matches])
        labels = self._labels.flatten(0, 1)
        if len(members) == values.shape[1]:
            return values.index_copy(0, cells, F.embedding_bag(sources, labels, per_sample_weights=weights, mode="sum"))
        those = self._upload(members)
        labels = labels.index_select(1, those)
        carried = F.embedding_bag(sources, labels, per_sample_weights=weights, mode="sum")
        return values.index_put((cells[:, None], those), carried)

    def _active(self, slots: Sequence[int], members: list[int]) -> Tensor:
        """(slots, rows, columns) bool: cells that carry any of the channels."""
        labels = self._labels[list(slots)]
        if len(members) < len(self._channels):
            labels = labels[:, :, members]
        return (labels > 0).any(dim=2).unflatten(1, (self._grid.rows, self._grid.columns))

    def _put(self, slot: int, remembered: Remembered, features: Tensor, values: Tensor) -> None:
        self._memory.write(slot, features, remembered.known_cells)
        self._witness.remember(slot, features, values, remembered.kinds == PRESENT, remembered.known_cells)
        self._labels[slot] = values
        if self._preset.follow:
            maps = self._maps(values)
            places = self._localiser.places(maps)
            self._places[slot] = places
            self._shares.pop(slot, None)
            if remembered.anchor:
                self._shares[slot] = self._localiser.shares(maps)
            self._last = torch.where(places[:, :1].isnan(), self._last, places)
        self._roster.put(slot, remembered)

    def _flat(self, maps: Tensor) -> Tensor:
        return maps.flatten(1).T.to(self._labels.device, non_blocking=True)


def _soft(told: Download) -> SoftMaps:
    (values, evidence), (frame, known) = told.result()
    return SoftMaps(frame, values, known, evidence.numpy())
