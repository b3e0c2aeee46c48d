"""Windows of neighbouring tiles, gathered without copying twice what they share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.compiled import held
from model.tile_loops import copy_rows


class Strip:
    """Windows gathered down a column of tiles, each row once: below one another they overlap by most of what they hold.

    Args:
        keys: (slots, rows, columns, C) the padded frames, of which a column of tiles takes all rows but `span` at most.
        tile: side of a tile, in cells.
        span: side of a window.
    """

    def __init__(self, keys: Tensor, tile: int, span: int) -> None:
        self._keys, self._tile, self._span = held(keys), tile, span
        count = len(keys) * (keys.shape[1] - span) * span
        self._rows = torch.empty(count, keys.shape[3], dtype=keys.dtype)
        self._slots = np.empty(0, np.int64)
        self._origin = np.empty((0, 2), np.int64)
        self._column, self._end = -1, 0

    def forget(self) -> None:
        """What was gathered is no longer so: frames have changed."""
        self._column = -1

    def window(self, slots: NDArray[np.int64], at: NDArray[np.int64], row: int, column: int) -> Tensor:
        """(span * slots * span, C) of a tile, by the window's row, slot and column.

        Args:
            slots: (S,).
            at: (S, 2) the windows' first row and column in the padded frames.
            row, column: of the tile; down a column.
        """
        first, end = row * self._tile, row * self._tile + self._span
        origin, start = at - (first, 0), first
        if column == self._column and np.array_equal(slots, self._slots) and np.array_equal(origin, self._origin):
            start = max(first, self._end)
        wide = len(slots) * self._span
        gathered = held(self._rows[start * wide : end * wide]).reshape(end - start, len(slots), self._span, -1)
        copy_rows(self._keys, slots, at, start - first, gathered)
        self._slots, self._origin, self._column, self._end = slots, origin, column, end
        return self._rows[first * wide : end * wide]
