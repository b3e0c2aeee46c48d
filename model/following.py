"""A memory whose windows move with the objects: localise, then match.

`WindowMemory` looks for a cell where it is; an object that has moved far since a frame was remembered is then out of
that frame's window, the labelled first frame above all. Here every tile of the new frame belongs to the object next to
it, and looks at each remembered frame where that object was then. A smaller window does, and the match is the same one:
joint top-k over all frames, softmax over the temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.affinity import Matches
from model.padded import PaddedMemory, WindowSettings
from model.side_by_side import Crew
from model.strips import Strip
from model.tiles import Group, Settings, TileMatcher, Windows, in_order, own_corners


class FollowingMemory(PaddedMemory):
    """Looks at its frames one tile after the other, through windows that may lie anywhere, on the CPU.

    Args: those of `PaddedMemory`.
    """

    def __init__(self, rows: int, columns: int, channels: int, slots: int, **settings: Unpack[WindowSettings]) -> None:
        super().__init__(rows, columns, channels, slots, **settings)
        self._settings = Settings(self.radius, self.top_k, self.temperature, self.tile)
        s = self._span
        self._inside = self._valid[:, s : s + rows, s : s + columns].numpy()
        self._crew = Crew()
        # One of each for each of the crew's threads, once they have worked.
        self._spare: list[tuple[TileMatcher, Strip]] = []

    def matches(
        self,
        query: Tensor,
        slots: Sequence[Sequence[int]],
        active: Sequence[Tensor],
        moved: NDArray[np.int64],
        favour: Mapping[int, float],
    ) -> list[list[Matches]]:
        """Matches of the new frame's cells, once for every wanted subset of the slots.

        Args:
            query: (rows, columns, C) L2-normalised features of the new frame.
            slots: for each subset, which slots may be matched, the latest last.
            active: for each subset, (slots in it, rows, columns) bool of the memory cells that matter. A cell of the
                new frame that surely matches none of them may be left out.
            moved: (all slots, tile rows, tile columns, 2) cells down and right that what a tile shows has moved since
                the slot's frame.
            favour: slot to what is added to the similarity of its cells.

        Returns:
            For each subset its matches, tile by tile.
        """
        corners = self._corners(moved)
        groups = [Group.of(own, matter, self.slots) for own, matter in zip(slots, active, strict=True)]
        used = np.array(self._used, np.int64)
        extra = np.array([favour.get(slot, 0.0) for slot in range(self.slots)], np.float32)

        def of_column(column: int) -> list[dict[int, Matches]]:
            matcher, strip = self._spare.pop() if self._spare else self._desk()
            strip.forget()
            found = []
            for row in range(self.tile_rows):
                place = _Place(self, strip, row, column, used, corners[:, row, column], extra)
                found.append(matcher.matches(query, row, column, place, groups))
            self._spare.append((matcher, strip))
            return found

        # Column by column, as windows are gathered.
        return in_order(self._crew.each(of_column, range(self.tile_columns)), len(groups))

    def _desk(self) -> tuple[TileMatcher, Strip]:
        return TileMatcher(self._settings, self._inside, self._keys), Strip(self._keys, self.tile, self._span)

    def _corners(self, moved: NDArray[np.int64]) -> NDArray[np.int64]:
        """(slots, tile rows, tile columns, 2): a window's first row and column in the frame."""
        own = own_corners(self.tile_rows, self.tile_columns, self._settings)
        # Where a window lies wholly beyond the frame it does not matter how far.
        corners: NDArray[np.int64] = np.clip(own - moved, -self._span, np.array(self._padded) - 2 * self._span)
        return corners


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the windows of a tile are: where its object was (a `model.tiles.Place`)."""

    memory: FollowingMemory
    strip: Strip
    row: int
    column: int
    used: NDArray[np.int64]  # the slots that hold a frame
    corners: NDArray[np.int64]  # (all slots, 2)
    favour: NDArray[np.float32]  # (all slots,)

    def windows(self, slots: NDArray[np.int64] | None) -> Windows:
        slots = self.used if slots is None else slots
        return Windows(slots, self.corners[slots], self.favour[slots])

    def first(self, windows: Windows) -> tuple[NDArray[np.int64], int]:
        height, width = self.memory._padded
        y, x = (windows.corners + self.memory._span).T
        return (windows.slots * height + y) * width + x, width

    def shown(self, windows: Windows) -> tuple[Windows, Tensor]:
        return windows, self.strip.window(windows.slots, windows.corners + self.memory._span, self.row, self.column)
