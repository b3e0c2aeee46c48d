"""The floor under the affinity: bare products of all windows, and one `torch.topk` over them.

The same scores as `model.affinity.WindowMemory` selects from, without ruling anything out, without carrying a label.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.affinity import window_mask
from worker.speed.stopwatch import Watch, unwatched


class BareWindows:
    """Features of some frames, and for every cell of another frame its highest similarities within the window.

    The frame is cut into square tiles; a tile's candidates lie in the square that reaches `radius` cells beyond it, in
    every slot, and are consecutive rows of one matrix. Nothing is copied between storing a frame and the products.

    Args:
        rows, columns: of the grid.
        channels: numbers that describe a cell.
        slots: how many frames are held. All must be written before `best` is asked.
        radius: in cells, Euclidean, inclusive.
        top_k: how many are selected for a cell, all slots together.
        tile: cells along a tile's side.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        channels: int,
        slots: int,
        *,
        radius: int,
        top_k: int,
        tile: int = 8,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rows, self.columns, self.radius, self.top_k, self.tile = rows, columns, radius, top_k, tile
        self._tile_rows, self._tile_columns = -(-rows // tile), -(-columns // tile)
        self._span, self._slots, self._channels = tile + 2 * radius, slots, channels
        self._padded = (self._tile_rows * tile + 2 * radius, self._tile_columns * tile + 2 * radius)
        shape = (self._tile_columns, self._padded[0], slots, self._span, channels)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        # Where no candidate is: beyond the circle, or outside of the frame.
        far = window_mask(tile, radius, torch.float32).isinf()  # (span, span, cells)
        self._far = far.permute(2, 0, 1)[:, :, None].contiguous().to(device)
        outside = torch.ones(self._padded, dtype=torch.bool)
        outside[radius : radius + rows, radius : radius + columns] = False
        self._outside = outside.to(device)
        # A GPU takes a column of tiles at a time: one tile is too little for it.
        self._together = self._tile_rows if torch.device(device).type == "cuda" else 1

    @property
    def multiplications(self) -> int:
        """Floating-point operations of one frame's products."""
        tiles = self._tile_rows * self._tile_columns
        return 2 * tiles * self.tile**2 * self._span**2 * self._slots * self._channels

    def write(self, slot: int, features: Tensor) -> None:
        """Puts a frame's (rows, columns, C) features into a slot."""
        r = self.radius
        padded = features.new_zeros(*self._padded, self._channels)
        padded[r : r + self.rows, r : r + self.columns] = features
        self._keys[:, :, slot] = padded.unfold(1, self._span, self.tile).permute(1, 0, 3, 2)

    @torch.inference_mode()
    def best(self, query: Tensor, watch: Watch = unwatched) -> Tensor:
        """(rows, columns, top_k) similarities of every cell's best candidates, highest first; -inf for none.

        Args:
            query: (rows, columns, C) features of the new frame.
            watch: told of the stages `products` and `top_k`; between the two, scores that are no candidate's are
                overwritten, which is not counted.
        """
        tile = self.tile
        padded = query.new_zeros(self._tile_rows * tile, self._tile_columns * tile, self._channels)
        padded[: self.rows, : self.columns] = query
        tiles = padded.view(self._tile_rows, tile, self._tile_columns, tile, self._channels).permute(2, 0, 1, 3, 4)
        tiles = tiles.reshape(self._tile_columns, self._tile_rows, tile * tile, self._channels)
        found = query.new_empty(self._tile_columns, self._tile_rows, tile * tile, self.top_k)
        for column in range(self._tile_columns):
            for row in range(0, self._tile_rows, self._together):
                cells, keys = tiles[column, row : row + self._together], self._windows(column, row)
                with watch("products"):
                    scores = torch.mm(cells[0], keys[0].T)[None] if len(cells) == 1 else torch.bmm(cells, keys.mT)
                self._overwrite(scores, column, row)
                with watch("top_k"):
                    best = scores.topk(self.top_k, dim=2)
                found[column, row : row + self._together] = best.values
        found = found.view(self._tile_columns, self._tile_rows, tile, tile, self.top_k).permute(1, 2, 0, 3, 4)
        return found.reshape(self._tile_rows * tile, self._tile_columns * tile, self.top_k)[: self.rows, : self.columns]

    def _windows(self, column: int, row: int) -> Tensor:
        """(tiles, candidates, C): the windows of some tiles of a column, overlapping in memory."""
        per_row = self._slots * self._span * self._channels
        shape = (self._together, self._span * self._slots * self._span, self._channels)
        strides = (self.tile * per_row, self._channels, 1)
        return self._keys[column].as_strided(
            shape, strides, self._keys[column].storage_offset() + row * self.tile * per_row
        )

    def _overwrite(self, scores: Tensor, column: int, row: int) -> None:
        left, span = column * self.tile, self._span
        for number, of_tile in enumerate(scores):
            top = (row + number) * self.tile
            outside = self._outside[top : top + span, left : left + span]
            no_candidate = self._far | outside[:, None]
            of_tile.view(self.tile**2, span, self._slots, span).masked_fill_(no_candidate, -math.inf)
