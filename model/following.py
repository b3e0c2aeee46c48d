"""A memory whose windows move with the objects: localise, then match.

`WindowMemory` looks for a cell where it is; an object that has moved far since a frame was remembered is then out of
that frame's window, the labelled first frame above all. Here every tile of the new frame belongs to the object next to
it, and looks at each remembered frame where that object was then. A smaller window does, and the match is the same one:
joint top-k over all frames, softmax over the temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.affinity import Matches
from model.padded import PaddedMemory, WindowSettings
from model.side_by_side import Crew
from model.strips import Strip
from model.tiles import Group, Settings, Tile, TileMatcher, Windows


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
            active: for each subset, (slots in it, rows, columns) bool of the memory cells that matter. Tiles whose
                windows hold none are left out, and cells that surely match none where only one subset needs their tile.
            moved: (all slots, tile rows, tile columns, 2) cells down and right that what a tile shows has moved since
                the slot's frame.
            favour: slot to what is added to the similarity of its cells.

        Returns:
            For each subset its matches, tile by tile.
        """
        corners = self._corners(moved)
        everything = [Group.of(own, matter, self.slots) for own, matter in zip(slots, active, strict=True)]
        used = np.array(self._used, np.int64)
        extra = np.array([favour.get(slot, 0.0) for slot in range(self.slots)], np.float32)

        def of_column(column: int) -> list[list[Matches]]:
            found: list[list[Matches]] = [[] for _ in everything]
            matcher, strip = self._spare.pop() if self._spare else self._desk()
            strip.forget()
            for row in range(self.tile_rows):
                here = corners[:, row, column]
                windows = Windows(used, here[used], extra[used])
                held = [group.held(windows, self._span) for group in everything]
                groups = [n for n, count in enumerate(held) if count]
                if not groups:
                    continue
                tile = Tile.of(query, self.tile, row, column)
                picked = tile.every
                if len(groups) == 1:
                    only = everything[groups[0]]
                    windows = Windows(only.slots, here[only.slots], extra[only.slots])
                    if matcher.worth_ruling_out(held[groups[0]], len(only.slots)):
                        first, down = self._first(windows), self._padded[1]
                        picked = matcher.undecided(tile, only, windows, self._keys, first, down)
                    if not len(picked):
                        continue
                keys = strip.window(windows.slots, windows.corners + self._span, row, column)
                scores = matcher.score(tile, picked, keys)
                for n in groups:
                    found[n].append(matcher.select(scores, tile, picked, windows, everything[n]))
            self._spare.append((matcher, strip))
            return found

        # Column by column, as windows are gathered.
        columns = self._crew.each(of_column, range(self.tile_columns))
        return [[match for found in columns for match in found[n]] for n in range(len(everything))]

    def _desk(self) -> tuple[TileMatcher, Strip]:
        return TileMatcher(self._settings, self._inside, self._keys), Strip(self._keys, self.tile, self._span)

    def _corners(self, moved: NDArray[np.int64]) -> NDArray[np.int64]:
        """(slots, tile rows, tile columns, 2): a window's first row and column in the frame."""
        rows = np.arange(self.tile_rows)[:, None] * self.tile
        columns = np.arange(self.tile_columns) * self.tile
        own = np.stack(np.broadcast_arrays(rows, columns), axis=-1) - self.radius
        # Where a window lies wholly beyond the frame it does not matter how far.
        corners: NDArray[np.int64] = np.clip(own - moved, -self._span, np.array(self._padded) - 2 * self._span)
        return corners

    def _first(self, windows: Windows) -> NDArray[np.int64]:
        """Which of the keys is the first of each window."""
        height, width = self._padded
        y, x = (windows.corners + self._span).T
        return (windows.slots * height + y) * width + x
