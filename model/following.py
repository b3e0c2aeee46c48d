"""A memory whose windows move with the objects: localise, then match.

`WindowMemory` looks for a cell where it is; an object that has moved far since a frame was remembered is then out of
that frame's window, the labelled first frame above all. Here every tile of the new frame belongs to the object next to
it, and looks at each remembered frame where that object was then. A smaller window does, and the match is the same one:
joint top-k over all frames, softmax over the temperature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.affinity import (
    LABELLED_BEFORE,
    NEAR_SLOTS,
    WORTH_RULING_OUT,
    Matches,
    joint_top_k,
    match_weights,
    undecided,
)
from model.padded import PaddedMemory, WindowSettings
from model.strips import Strip


@dataclass(frozen=True, eq=False)
class _Tile:
    """A tile of the new frame: its place among the tiles, its (tile * tile, C) cells, and for every slot its window's
    first row and column in the padded frame, (slots, 2)."""

    row: int
    column: int
    cells: Tensor
    at: NDArray[np.int64]


class FollowingMemory(PaddedMemory):
    """Looks at its frames one tile after the other, through windows that may lie anywhere.

    Args: those of `PaddedMemory`.
    """

    def __init__(self, rows: int, columns: int, channels: int, slots: int, **settings: Unpack[WindowSettings]) -> None:
        super().__init__(rows, columns, channels, slots, **settings)
        self._strip = Strip(self._keys, self.tile, self._span)
        self._scores = torch.empty(slots * self._span**2 * self.tile**2, dtype=self._keys.dtype, device=self._device)
        self._every = torch.arange(self.tile * self.tile, device=self._device)
        # Of a window: its places in the padded frame, relative to its corner, and which of them are the tile's own.
        around = torch.arange(self._span, device=self._device)
        self._places = (around[:, None] * self._padded[1] + around).flatten()
        own = torch.arange(self.radius, self.radius + self.tile, device=self._device)
        self._middle = (own[:, None] * self._span + own).flatten()

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
                windows hold none are left out, and cells that surely match none where only one subset needs their tile.
            moved: (all slots, tile rows, tile columns, 2) cells down and right that what a tile shows has moved since
                the slot's frame.
            favour: slot to what is added to the similarity of its cells.

        Returns:
            For each subset its matches, tile by tile.
        """
        tile = self.tile
        padded = F.pad(query, (0, 0, 0, self.tile_columns * tile - self.columns, 0, self.tile_rows * tile - self.rows))
        corners = self._corners(moved)
        subsets = [list(subset) for subset in slots]
        matter = [self._matter(subset, cells) for subset, cells in zip(subsets, active, strict=True)]
        held = [self._held(cells[subset], corners[subset]) for cells, subset in zip(matter, subsets, strict=True)]
        used = self._used
        found: list[list[Matches]] = [[] for _ in subsets]
        self._strip.forget()
        # Column by column, as windows are gathered.
        for column, row in zip(*np.any(held, axis=0).T.nonzero(), strict=True):
            cells = padded[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            here = _Tile(int(row), int(column), cells.reshape(tile * tile, -1), corners[:, row, column])
            groups = [index for index, counts in enumerate(held) if counts[row, column]]
            looked, picked = used, self._every
            if len(groups) == 1:
                looked = subsets[groups[0]]
                if held[groups[0]][row, column] <= WORTH_RULING_OUT * len(looked) * self._span**2:
                    picked = self._undecided(here, looked, matter[groups[0]], favour)
                if not len(picked):
                    continue
            scores = self._score(here, picked, looked, favour)
            for index in groups:
                found[index].append(self._select(scores, here, picked, looked, subsets[index]))
        return found

    def _corners(self, moved: NDArray[np.int64]) -> NDArray[np.int64]:
        """(slots, tile rows, tile columns, 2): a window's first row and column in the padded frame."""
        rows = np.arange(self.tile_rows)[:, None] * self.tile
        columns = np.arange(self.tile_columns) * self.tile
        own = np.stack(np.broadcast_arrays(rows, columns), axis=-1) - self.radius + self._span
        limits = np.array(self._padded) - self._span
        corners: NDArray[np.int64] = np.clip(own - moved, 0, limits)
        return corners

    def _matter(self, slots: list[int], active: Tensor) -> Tensor:
        """(all slots, *padded) bool: the memory cells that matter and may be matched, as the keys lie."""
        matter = torch.zeros_like(self._valid)
        s = self._span
        matter[slots, s : s + self.rows, s : s + self.columns] = active
        return matter.logical_and_(self._valid)

    def _held(self, matter: Tensor, corners: NDArray[np.int64]) -> NDArray[np.int64]:
        """(tile rows, tile columns): how many cells that matter a tile's windows hold, of the slots that are given."""
        s = self._span
        sums = np.zeros((len(matter), self._padded[0] + 1, self._padded[1] + 1), np.int32)
        sums[:, 1:, 1:] = matter.cpu().numpy()
        sums = sums.cumsum(axis=1).cumsum(axis=2)
        slot = np.arange(len(matter))[:, None, None]
        y, x = corners[..., 0], corners[..., 1]
        held = sums[slot, y + s, x + s] - sums[slot, y, x + s] - sums[slot, y + s, x] + sums[slot, y, x]
        return np.asarray(held.sum(axis=0))

    def _undecided(self, tile: _Tile, slots: list[int], matter: Tensor, favour: Mapping[int, float]) -> Tensor:
        """Which of a tile's cells may have a match that matters; for the others that is ruled out, exactly (as
        `WindowMemory` does)."""
        height, width = self._padded
        y, x = tile.at[slots].T
        first = torch.from_numpy((np.array(slots) * height + y) * width + x)
        places = first[:, None] + self._places  # (slots, span * span)
        near = places[-NEAR_SLOTS:, self._middle]
        if int(matter.view(-1)[near[-1]].count_nonzero()) > LABELLED_BEFORE * len(near[-1]):
            return self._every
        rivals = self._valid.view(-1)[near]
        if int(rivals.count_nonzero()) < self.top_k:
            return self._every
        extra = torch.tensor([favour.get(slot, 0.0) for slot in slots], dtype=tile.cells.dtype)
        slot, within = matter.view(-1)[places].nonzero().unbind(1)
        bound = self._similar(tile.cells, places[slot, within], within, extra[slot])
        slot, within = rivals.nonzero().unbind(1)
        around = self._similar(tile.cells, near[slot, within], self._middle[within], extra[-NEAR_SLOTS:][slot])
        return undecided(bound, around, self.top_k)

    def _similar(self, cells: Tensor, places: Tensor, within: Tensor, extra: Tensor) -> Tensor:
        """(n, cells) similarities of a tile's cells to n places of the padded frames, `within` their windows."""
        keys = self._keys.view(-1, cells.shape[1]).index_select(0, places)
        mask = self._mask.view(-1, len(cells)).index_select(0, within)
        return torch.addmm(mask, keys, cells.T).add_(extra[:, None])

    def _score(self, tile: _Tile, picked: Tensor, slots: list[int], favour: Mapping[int, float]) -> Tensor:
        """(span, slots, span, n) similarities of a tile's picked cells to their windows, -inf for no candidate."""
        span, cells, mask = self._span, tile.cells, self._mask
        keys = self._strip.window(slots, tile.at[slots], tile.row, tile.column)
        if len(picked) < len(cells):
            cells, mask = cells[picked], mask[:, :, picked]
        scores = self._scores[: len(keys) * len(cells)].view(len(keys), len(cells))
        torch.mm(keys, cells.T, out=scores)
        scores = scores.view(span, len(slots), span, -1)
        scores += mask[:, None]
        for position, slot in enumerate(slots):
            y, x = tile.at[slot].tolist()
            if favour.get(slot):
                scores[:, position] += favour[slot]
            valid = self._valid[slot, y : y + span, x : x + span]
            if not bool(valid.all()):
                scores[:, position].masked_fill_(~valid[:, :, None], -math.inf)
        return scores

    def _select(self, scores: Tensor, tile: _Tile, picked: Tensor, looked: list[int], subset: Sequence[int]) -> Matches:
        if len(subset) < len(looked):
            outside = torch.tensor([slot not in subset for slot in looked], device=scores.device)
            scores = scores.masked_fill(outside[:, None, None], -math.inf)
        span, count = self._span, len(looked)
        values, place = joint_top_k(scores.view(-1, scores.shape[-1]), self.top_k)
        # A window's place in its frame; where nothing was a candidate it may lie outside, and the weight is 0.
        corner = torch.from_numpy(tile.at[looked] - span).to(place.device)
        position = place // span % count
        y = corner[:, 0][position] + place // (span * count)
        x = corner[:, 1][position] + place % span
        slot = torch.tensor(looked, device=place.device)[position]
        sources = (slot * self.rows + y) * self.columns + x
        sources.clamp_(0, self.slots * self.rows * self.columns - 1)
        weights = match_weights(values, self.temperature)
        y, x = tile.row * self.tile + picked // self.tile, tile.column * self.tile + picked % self.tile
        query = y * self.columns + x
        if (tile.row + 1) * self.tile > self.rows or (tile.column + 1) * self.tile > self.columns:
            inside = (y < self.rows) & (x < self.columns)
            query, weights, sources = query[inside], weights[inside], sources[inside]
        return Matches(query, weights, sources)
