"""Which direction labels which frames of a job, when its anchors may lie anywhere.

Forward serves the frames from the first anchor on, backward those before it. Between anchors both directions meet:
see `model.meeting`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
