"""The roster of memory: which frames are held in which slots, what each knows of every channel, and which stay.

Bookkeeping on the host, in numbers that are known before a frame is looked at. Features and labels are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from model.presets import Preset

UNKNOWN, PROPAGATED, PRESENT, ABSENT = range(4)
"""How a memory frame came to know a channel."""


@dataclass(eq=False)
class Remembered:
    """A frame in memory: its index, whether it is an anchor, how it knows each channel, and which step it was."""

    frame: int
    anchor: bool
    kinds: np.ndarray  # (C,) uint8
    step: int
    known_cells: Tensor | None = field(default=None)  # (rows, columns) bool; None: all


class Roster:
    """Frames in a fixed number of slots.

    Args:
        channels: how many channels there are.
        anchors: of how many anchors the job has.
        preset: how many frames are held, and which.

    Attributes:
        order: the slots that are held, oldest frame first.
    """

    def __init__(self, channels: int, anchors: int, preset: Preset) -> None:
        self._channels, self._preset = channels, preset
        slots = max(1, min(anchors, preset.anchor_frames)) + preset.recent_frames
        self._held: list[Remembered | None] = [None] * slots
        self.order: list[int] = []

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return len(self._held)

    def __getitem__(self, slot: int) -> Remembered:
        held = self._held[slot]
        assert held is not None
        return held

    def put(self, slot: int, remembered: Remembered) -> None:
        """Enters a frame as the latest."""
        self._held[slot] = remembered
        self.order.append(slot)

    def make_room(self) -> int:
        """Lets go of what no longer stays beside a new frame, and names the slot that the new frame may take."""
        kept = self._kept()
        self.order = [slot for slot in self.order if slot in kept]
        return next(slot for slot in range(self.slots) if slot not in kept)

    def known(self) -> np.ndarray:
        """(C,) bool, the channels that some frame in memory knows."""
        known = np.zeros(self._channels, bool)
        for slot in self.order:
            known |= self[slot].kinds != UNKNOWN
        return known

    def anchors(self) -> list[int]:
        """The slots that hold anchors, oldest first."""
        return [slot for slot in self.order if self[slot].anchor]

    def told(self) -> dict[int, np.ndarray]:
        """By slot, latest last, the (C,) bool that an anchor remembered there speaks for."""
        return {slot: self[slot].kinds == PRESENT for slot in self.order}

    def shown_by(self, members: Iterable[int]) -> int | None:
        """The latest anchor's slot that shows some of the channels; None where the latest that speaks of them says that
        they are gone."""
        wanted = list(members)
        for slot in reversed(self.anchors()):
            kinds = self[slot].kinds[wanted]
            if (kinds == ABSENT).any():
                return None
            if (kinds == PRESENT).any():
                return slot
        return None

    def groups(self) -> dict[tuple[int, ...], list[int]]:
        """Channels by the slots that count for them.

        An anchor that outlives the recent frames counts for the channels that it speaks of, and not for those that were
        merely propagated onto it: labelling one object does not change another's result.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        if self.order:
            kinds = np.array([self[slot].kinds for slot in self.order])
            counts = kinds != UNKNOWN
            recent = self._recent()
            outlived = np.array([slot not in recent for slot in self.order])
            counts[outlived] &= kinds[outlived] != PROPAGATED
            for channel in range(self._channels):
                slots = tuple(s for s, does in zip(self.order, counts[:, channel], strict=True) if does)
                if slots:
                    groups.setdefault(slots, []).append(channel)
        return groups

    def overrule(self, kinds: np.ndarray) -> None:
        """An anchor's word on a channel replaces what was propagated before it, and its contrary."""
        for slot in self.order:
            before = self[slot].kinds
            forgotten = (kinds == PRESENT) & (before != PRESENT)
            forgotten |= (kinds == ABSENT) & (before != ABSENT)
            before[forgotten] = UNKNOWN

    def _kept(self) -> set[int]:
        """The slots that stay beside the frame that is about to be remembered as the most recent one."""
        limit, anchors = self._preset.anchor_frames, self.anchors()
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
        first = max(0, len(self.order) - latest)
        older = [slot for slot in self.order[:first] if self[slot].step % preset.spacing == 0]
        return [*older[max(0, len(older) - (count - latest)) :], *self.order[first:]]
