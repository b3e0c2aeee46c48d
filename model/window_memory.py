"""A memory whose windows lie where the tile lies: the same place in every remembered frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import tile_loops
from model.affinity import Matches
from model.compiled import held
from model.errors import InputError
from model.padded import WindowSettings
from model.side_by_side import Crew
from model.tiles import Group, Settings, TileMatcher, Windows, in_order, own_corners


class WindowMemory:
    """Features of a bounded number of frames on the CPU, laid out so that a tile's windows are one contiguous matrix.

    A tile is `tile` x `tile` cells of the new frame; its candidates lie in the square that reaches `radius` cells
    beyond it on every side. Per column of tiles the memory keeps that square's width, so neighbouring columns overlap,
    and within it the order is row, slot, column, channel. The candidates of one tile in all slots are then consecutive
    rows of one matrix: one product a tile, nothing gathered, nothing of the rest of the frame touched.

    Cells of the new frame that surely match nothing that matters are ruled out first, by a part of the product.

    Args:
        rows, columns, channels: of a frame's features.
        slots: how many frames it holds.
        settings: see `WindowSettings`.

    Raises:
        InputError: sizes that make no sense.
    """

    def __init__(self, rows: int, columns: int, channels: int, slots: int, **settings: Unpack[WindowSettings]) -> None:
        radius, top_k, temperature = settings["radius"], settings["top_k"], settings["temperature"]
        tile, dtype = settings.get("tile", 8), settings.get("dtype", torch.float32)
        if min(rows, columns, channels, slots, top_k, tile) < 1 or radius < 0 or temperature <= 0:
            raise InputError("A window memory needs positive sizes, a radius of 0 or more and a temperature above 0.")
        self.rows, self.columns, self.slots, self._tile = rows, columns, slots, tile
        self._settings = Settings(radius, top_k, temperature, tile)
        self.tile_rows, self.tile_columns, span = -(-rows // tile), -(-columns // tile), self._settings.span
        self._padded = (self.tile_rows * tile + 2 * radius, self.tile_columns * tile + 2 * radius)
        self._keys = torch.zeros(self.tile_columns, self._padded[0], slots, span, channels, dtype=dtype)
        self._valid = np.zeros((slots, rows, columns), np.bool_)
        # Of every tile, its windows' first row and column in the frame: they are the same in all slots.
        corners = own_corners(self.tile_rows, self.tile_columns, self._settings)
        self._corners = np.repeat(corners[:, :, None], slots, axis=2)
        self._every, self._no_favour = np.arange(slots), np.zeros(slots, np.float32)
        self._crew = Crew()
        self._spare: list[TileMatcher] = []  # one for each of the crew's threads, once they have worked

    def write(self, slot: int, features: Tensor, valid: Tensor | None = None) -> None:
        """Puts a frame into a slot, in place of what was there.

        Args:
            features: (rows, columns, C), L2-normalised.
            valid: (rows, columns) bool, False where the frame's cells may not be matched (void).
        """
        keys = held(self._keys)[:, :, slot]
        tile_loops.spread(held(features.contiguous()), self._settings.radius, self._tile, keys)
        self._valid[slot] = True if valid is None else valid.numpy()

    def matches(
        self, query: Tensor, slots: Sequence[Sequence[int]], active: Sequence[Tensor | None]
    ) -> list[list[Matches]]:
        """Matches of the new frame's cells, once for every wanted subset of the slots, at one product's cost.

        Args:
            query: (rows, columns, C) L2-normalised features of the new frame.
            slots: for each subset, which slots may be matched, the latest last.
            active: for each subset, (slots in it, rows, columns) bool of the memory cells that matter, or None for
                all. A cell of the new frame that surely matches none of them may be left out.

        Returns:
            For each subset its matches, tile by tile; cells left out do not appear.
        """
        groups = [Group.of(own, matter, self.slots) for own, matter in zip(slots, active, strict=True)]

        def of_column(column: int) -> list[dict[int, Matches]]:
            matcher = self._spare.pop() if self._spare else TileMatcher(self._settings, self._valid, self._keys)
            rows = range(self.tile_rows)
            found = [matcher.matches(query, row, column, _Place(self, row, column), groups) for row in rows]
            self._spare.append(matcher)
            return found

        # Column by column, as the keys lie.
        return in_order(self._crew.each(of_column, range(self.tile_columns)), len(groups))


class _Place:
    """Where the windows of a tile are: at its own place, in every slot (a `model.tiles.Place`)."""

    def __init__(self, memory: WindowMemory, row: int, column: int) -> None:
        self._memory, self.row, self.column = memory, row, column

    def windows(self, slots: NDArray[np.int64] | None) -> Windows:
        memory, slots = self._memory, self._memory._every if slots is None else slots
        return Windows(slots, memory._corners[self.row, self.column, : len(slots)], memory._no_favour[: len(slots)])

    def first(self, windows: Windows) -> tuple[NDArray[np.int64], int]:
        memory = self._memory
        line, span = self.column * memory._padded[0] + self.row * memory._tile, memory._settings.span
        return (line * memory.slots + windows.slots) * span, memory.slots * span

    def shown(self, windows: Windows) -> tuple[Windows, Tensor]:
        keys, top = self._memory._keys, self.row * self._memory._tile
        return self.windows(None), keys[self.column, top : top + keys.shape[3]].view(-1, keys.shape[-1])
