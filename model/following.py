"""A memory whose windows move with the objects: localise, then match.

`WindowMemory` looks for a cell where it is; an object that has moved far since a frame was remembered is then out of
that frame's window, the labelled first frame above all. Here every tile of the new frame belongs to the object next to
it, and looks at each remembered frame where that object was then. A smaller window does, and the match is the same one:
joint top-k over all frames, softmax over the temperature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.affinity import Matches, joint_top_k, match_weights
from model.padded import PaddedMemory, WindowSettings


class FollowingMemory(PaddedMemory):
    """Looks at its frames one tile after the other, through windows that may lie anywhere.

    Args: those of `PaddedMemory`.
    """

    def __init__(self, rows: int, columns: int, channels: int, slots: int, **settings: Unpack[WindowSettings]) -> None:
        super().__init__(rows, columns, channels, slots, **settings)
        self._gathered = self._keys.new_empty(slots, self._span, self._span, channels)
        self._every = torch.arange(self.tile * self.tile, device=self._device)

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
            slots: for each subset, which slots may be matched.
            active: for each subset, (slots in it, rows, columns) bool of the memory cells that matter. Tiles whose
                windows hold none are left out.
            moved: (all slots, tile rows, tile columns, 2) cells down and right that what a tile shows has moved since
                the slot's frame.
            favour: slot to what is added to the similarity of its cells.

        Returns:
            For each subset its matches, tile by tile.
        """
        tile = self.tile
        padded = F.pad(query, (0, 0, 0, self.tile_columns * tile - self.columns, 0, self.tile_rows * tile - self.rows))
        corners = self._corners(moved)
        wanted = [self._wanted(cells, corners[list(subset)]) for subset, cells in zip(slots, active, strict=True)]
        used = self._used
        found: list[list[Matches]] = [[] for _ in slots]
        for row, column in zip(*np.any(wanted, axis=0).nonzero(), strict=True):
            at = corners[:, row, column]
            cells = padded[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile].reshape(tile * tile, -1)
            scores = self._score(cells, used, at, favour)
            for index, subset in enumerate(slots):
                if wanted[index][row, column]:
                    found[index].append(self._select(scores, used, subset, at, int(row), int(column)))
        return found

    def _corners(self, moved: NDArray[np.int64]) -> NDArray[np.int64]:
        """(slots, tile rows, tile columns, 2): a window's first row and column in the padded frame."""
        rows = np.arange(self.tile_rows)[:, None] * self.tile
        columns = np.arange(self.tile_columns) * self.tile
        own = np.stack(np.broadcast_arrays(rows, columns), axis=-1) - self.radius + self._span
        limits = np.array(self._padded) - self._span
        corners: NDArray[np.int64] = np.clip(own - moved, 0, limits)
        return corners

    def _wanted(self, active: Tensor, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(tile rows, tile columns): whether any of a tile's windows holds a cell that matters."""
        s = self._span
        sums = np.zeros((len(active), self._padded[0] + 1, self._padded[1] + 1), np.int32)
        inside = sums[:, s + 1 : s + 1 + self.rows, s + 1 : s + 1 + self.columns]
        inside[:] = active.cpu().numpy()
        sums = sums.cumsum(axis=1).cumsum(axis=2)
        slot = np.arange(len(active))[:, None, None]
        y, x = corners[..., 0], corners[..., 1]
        held = sums[slot, y + s, x + s] - sums[slot, y, x + s] - sums[slot, y + s, x] + sums[slot, y, x]
        return np.asarray((held > 0).any(axis=0))

    def _score(self, cells: Tensor, used: Sequence[int], at: NDArray[np.int64], favour: Mapping[int, float]) -> Tensor:
        """(used slots, span, span, cells) similarities of a tile's cells to their windows, -inf for no candidate."""
        span, gathered = self._span, self._gathered[: len(used)]
        for position, slot in enumerate(used):
            y, x = at[slot].tolist()
            gathered[position] = self._keys[slot, y : y + span, x : x + span]
        scores = (gathered.view(-1, gathered.shape[-1]) @ cells.T).view(len(used), span, span, -1)
        scores += self._mask
        for position, slot in enumerate(used):
            y, x = at[slot].tolist()
            if favour.get(slot):
                scores[position] += favour[slot]
            valid = self._valid[slot, y : y + span, x : x + span]
            if not bool(valid.all()):
                scores[position].masked_fill_(~valid[:, :, None], -math.inf)
        return scores

    def _select(
        self, scores: Tensor, used: Sequence[int], subset: Sequence[int], at: NDArray[np.int64], row: int, column: int
    ) -> Matches:
        if len(subset) < len(used):
            outside = torch.tensor([slot not in subset for slot in used], device=scores.device)
            scores = scores.masked_fill(outside[:, None, None, None], -math.inf)
        cells, area = scores.shape[-1], self._span * self._span
        values, place = joint_top_k(scores.view(-1, cells), self.top_k)
        # A window's place in its frame; where nothing was a candidate it may lie outside, and the weight is 0.
        corner = torch.from_numpy(at[list(used)] - self._span).to(place.device)
        position, within = place // area, place % area
        y = corner[:, 0][position] + within // self._span
        x = corner[:, 1][position] + within % self._span
        slot = torch.tensor(used, device=place.device)[position]
        sources = (slot * self.rows + y) * self.columns + x
        sources.clamp_(0, self.slots * self.rows * self.columns - 1)
        weights = match_weights(values, self.temperature)
        y, x = row * self.tile + self._every // self.tile, column * self.tile + self._every % self.tile
        query = y * self.columns + x
        if (row + 1) * self.tile > self.rows or (column + 1) * self.tile > self.columns:
            inside = (y < self.rows) & (x < self.columns)
            query, weights, sources = query[inside], weights[inside], sources[inside]
        return Matches(query, weights, sources)
