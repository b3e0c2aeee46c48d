"""Which direction labels which frames of a job, when its anchors may lie anywhere.

Forward serves the frames from the first anchor on, backward those before it. Between anchors both directions meet, and
`Meeting` says how much each counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from model.channels import ChannelSet
from model.evidence import joined
from model.propagator import SoftMaps

Direction = Literal["both", "forward", "backward"]


@dataclass(frozen=True)
class Plan:
    """The work on one job. Positions count the job's frames from 0, whatever their indices.

    Attributes:
        frames: the indices of the job's frames, ascending.
        anchors: the indices of its anchors, ascending.
        direction: what the caller asked for.
    """

    frames: range
    anchors: tuple[int, ...]
    direction: Direction = "both"
    first: int = field(init=False)
    last: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", self.frames.index(min(self.anchors)))
        object.__setattr__(self, "last", self.frames.index(max(self.anchors)))

    @property
    def backward(self) -> range:
        """Positions that the backward pass goes through, ascending; it starts at the last anchor."""
        needed = self.direction == "backward" or (self.direction == "both" and self.last > 0)
        return range(self.last + 1) if needed else range(0)

    @property
    def forward(self) -> range:
        """Positions that the forward pass goes through; it starts at the first anchor."""
        return range(0) if self.direction == "backward" else range(self.first, len(self.frames))

    @property
    def unreached(self) -> range:
        """Positions that no pass goes through: the caller asked for one direction, and they lie on the other side."""
        if self.direction == "forward":
            return range(self.first)
        return range(self.last + 1, len(self.frames)) if self.direction == "backward" else range(0)

    def final_backward(self, position: int) -> bool:
        """Whether the backward pass alone decides this position, so that its result is final."""
        return self.direction == "backward" or position < self.first


class Meeting:
    """Joins the two directions' soft maps between anchors, channel by channel.

    Each direction counts by how near its anchor is. Where one of the two anchors says that the channel is absent, the
    other direction counts alone: absence is where an object's track ends, not something that spreads towards it.
    """

    def __init__(self, channels: ChannelSet) -> None:
        frames = sorted(channels.anchors)
        told = [channels.given(frame) for frame in frames]
        self._spoken: list[list[tuple[int, bool]]] = [
            [
                (frame, bool(present[channel]))
                for frame, (given, present) in zip(frames, told, strict=True)
                if given[channel]
            ]
            for channel in range(len(channels))
        ]

    def join(self, forward: SoftMaps, backward: SoftMaps) -> SoftMaps:
        """What both say about the frame; the two must be of the same one."""
        values = forward.values.clone()
        shares = [_backward_share(spoken, forward.frame) for spoken in self._spoken]
        for channel, share in enumerate(shares):
            if share > 0:
                values[channel] = (1 - share) * forward.values[channel] + share * backward.values[channel]
        evidence = None
        if forward.evidence is not None and backward.evidence is not None:
            evidence = joined(forward.evidence, backward.evidence, shares)
        return SoftMaps(forward.frame, values, forward.known | backward.known, evidence)


def _backward_share(spoken: Sequence[tuple[int, bool]], frame: int) -> float:
    before = next((told for told in reversed(spoken) if told[0] <= frame), None)
    after = next((told for told in spoken if told[0] >= frame), None)
    if after is None:
        return 0.0
    if before is None:
        return 1.0
    if before[0] == after[0] or (before[1] and not after[1]):
        return 0.0
    if after[1] and not before[1]:
        return 1.0
    return (frame - before[0]) / (after[0] - before[0])
