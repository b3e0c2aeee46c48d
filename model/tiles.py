"""One tile of a new frame against windows of remembered frames: products by torch, all else by compiled loops.

What `WindowMemory` and `FollowingMemory` share; they differ in how windows lie in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import tile_loops
from model.affinity import Matches
from model.compiled import held

# Ruling cells out costs a part of what matching them costs; with more of the windows than this it does not pay.
_WORTH_RULING_OUT = 0.25
# In how many of the latest slots a cell's rivals are looked for.
_NEAR_SLOTS = 4
# Two similarities this close may come in another order when a product of another shape computes them (bfloat16 has
# steps of 1/256 below 1, and either of the two may be off by one).
_ROUNDING = 1 / 128
# Products come in few shapes, since torch prepares each shape that it has not met.
_ROWS, _CELLS = 256, 16


@dataclass(frozen=True)
class Settings:
    """What the affinity of a memory is.

    Attributes:
        radius: of a window, Euclidean, inclusive, in cells.
        top_k: matches a cell, over all slots together.
        temperature: the softmax's divisor.
        tile: side of a tile, in cells.
    """

    radius: int
    top_k: int
    temperature: float
    tile: int

    @property
    def span(self) -> int:
        """Side of the square that holds all candidates of a tile, in cells."""
        return self.tile + 2 * self.radius


@dataclass(frozen=True, eq=False)
class Tile:
    """A tile of the new frame, without what of it lies outside of the frame.

    Attributes:
        cells: (L,) its cells as row * tile + column in the tile.
        of_frame: (L,) the same cells as row * columns + column in the frame.
        features: (L, C).
    """

    cells: NDArray[np.int64]
    of_frame: NDArray[np.int64]
    features: Tensor

    @classmethod
    def of(cls, frame: Tensor, side: int, row: int, column: int) -> Tile:
        """The tile in some row and column of tiles, cut out of a frame's (rows, columns, C) features."""
        features = frame[row * side : (row + 1) * side, column * side : (column + 1) * side]
        y, x = np.arange(features.shape[0])[:, None], np.arange(features.shape[1])
        of_frame = (row * side + y) * frame.shape[1] + column * side + x
        return cls((y * side + x).ravel(), of_frame.ravel(), features.flatten(0, 1))


@dataclass(frozen=True, eq=False)
class Windows:
    """A tile's windows in the slots that are looked at.

    Attributes:
        slots: (S,).
        corners: (S, 2) each window's first row and column in the frame; it may reach beyond.
        favour: (S,) what is added to a slot's similarities.
    """

    slots: NDArray[np.int64]
    corners: NDArray[np.int64]
    favour: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Group:
    """What some channels want to know.

    Attributes:
        slots: which may be matched, the latest last.
        member: (all slots,) bool, the same.
        matter: (all slots, rows, columns) bool, the cells that matter; None for all of them.
    """

    slots: NDArray[np.int64]
    member: NDArray[np.bool_]
    matter: NDArray[np.bool_] | None

    @classmethod
    def of(cls, slots: Sequence[int], matter: Tensor | None, all_slots: int) -> Group:
        """A group of what is known of its slots alone: (slots, rows, columns)."""
        own, member = np.array(slots, np.int64), np.zeros(all_slots, np.bool_)
        member[own] = True
        if matter is None:
            return cls(own, member, None)
        everywhere = np.zeros((all_slots, *matter.shape[1:]), np.bool_)
        everywhere[own] = matter.numpy()
        return cls(own, member, everywhere)

    def held(self, windows: Windows, span: int) -> float:
        """How many cells that matter windows hold whose sides are `span`."""
        if self.matter is None:
            return math.inf
        return tile_loops.count(self.matter, windows.slots, windows.corners, span)


def own_corners(tile_rows: int, tile_columns: int, settings: Settings) -> NDArray[np.int64]:
    """(tile rows, tile columns, 2) first row and column in the frame of the window around each tile's own place."""
    rows, columns = np.arange(tile_rows)[:, None] * settings.tile, np.arange(tile_columns) * settings.tile
    return np.stack(np.broadcast_arrays(rows, columns), axis=-1) - settings.radius


class Place(Protocol):
    """How a tile's windows lie in a memory."""

    def windows(self, slots: NDArray[np.int64] | None) -> Windows:
        """The windows in some slots; None: in all that hold a frame."""

    def first(self, windows: Windows) -> tuple[NDArray[np.int64], int]:
        """(S,) which of the memory's cells is the first of each window, and how many lie between one and the one below
        it."""

    def shown(self, windows: Windows) -> tuple[Windows, Tensor]:
        """(span * S * span, C) what the windows show, by row, slot and column; they may come with those of more slots,
        and which they are is told."""


class TileMatcher:
    """Room for the work on a tile, used for one tile after the other.

    Args:
        settings: what the affinity is.
        valid: (slots, rows, columns) bool, kept up to date by the caller: which cells of memory may be matched.
        keys: (..., C) the memory.
    """

    def __init__(self, settings: Settings, valid: NDArray[np.bool_], keys: Tensor) -> None:
        self._settings, self._valid, self._keys = settings, valid, held(keys).reshape(-1, keys.shape[-1])
        slots, span, cells = len(valid), settings.span, settings.tile**2
        groups = -(-span // tile_loops.GROUPED)
        gathered = int(_WORTH_RULING_OUT * slots * span * span) + _NEAR_SLOTS * cells
        self._gathered = keys.new_zeros(-(-gathered // _ROWS) * _ROWS, keys.shape[-1])
        self._scores = keys.new_empty(max(span * slots * span, len(self._gathered)) * cells)
        self._where = np.empty(len(self._gathered), np.int64)
        self._of_groups = np.empty(span * slots * groups * cells, np.float32)
        self._of_rows = np.empty(span * slots * cells, np.float32)

    def matches(
        self, query: Tensor, row: int, column: int, place: Place, groups: Sequence[Group]
    ) -> dict[int, Matches]:
        """Matches of a tile's cells, for each group that a cell of it may match something for which matters.

        Args:
            query: (rows, columns, C) features of the new frame.
            row, column: of the tile, among tiles.
            place: where its windows are.

        Returns:
            By the group's position. Cells that surely match nothing that matters may be left out.
        """
        everywhere, most = place.windows(None), _WORTH_RULING_OUT * self._settings.span**2
        tile: Tile | None = None
        picked: dict[int, NDArray[np.int64]] = {}
        for n, group in enumerate(groups):
            matter = group.held(everywhere, self._settings.span)
            if not matter:
                continue
            tile = tile or Tile.of(query, self._settings.tile, row, column)
            some = np.arange(len(tile.cells))
            if matter <= most * len(group.slots):
                windows = place.windows(group.slots)
                some = self._undecided(tile, group, windows, *place.first(windows))
            if len(some):
                picked[n] = some
        if tile is None or not picked:
            return {}
        if len(picked) == 1:
            ((only, cells),) = picked.items()
            windows, keys = place.shown(place.windows(groups[only].slots))
        else:
            cells = np.unique(np.concatenate(list(picked.values())))
            windows, keys = place.shown(everywhere)
        scores = self._score(tile, cells, keys)
        return {n: self._select(scores, tile, cells, windows, groups[n]) for n in picked}

    def _undecided(
        self, tile: Tile, group: Group, windows: Windows, first: NDArray[np.int64], down: int
    ) -> NDArray[np.int64]:
        """The positions in the tile of the cells that may have a match that matters.

        Two parts of the window tell, and most of a frame is decided by them: the candidates that matter, and those
        around the tile's own place in the latest slots.

        Args:
            windows: of the group's slots, in its order.
            first, down: as a `Place` has them.
        """
        settings, late = self._settings, max(0, len(windows.slots) - _NEAR_SLOTS)
        assert group.matter is not None
        matters, others = tile_loops.gather(
            self._keys,
            first,
            down,
            group.matter,
            self._valid,
            windows.slots,
            windows.corners,
            settings.span,
            (settings.radius, settings.tile, late),
            held(self._gathered),
            self._where,
        )
        if others < settings.top_k:
            return np.arange(len(tile.cells))
        rows = -(-(matters + others) // _ROWS) * _ROWS
        scores = self._scores[: rows * len(tile.features)].view(rows, -1)
        torch.mm(self._gathered[:rows], tile.features.T, out=scores)
        return tile_loops.undecided(
            held(scores),
            self._where,
            matters,
            others,
            tile.cells,
            windows.favour,
            settings.span,
            settings.tile,
            settings.radius,
            settings.top_k,
            _ROUNDING,
        )

    def _score(self, tile: Tile, picked: NDArray[np.int64], keys: Tensor) -> Tensor:
        """(span, S, span, n or more) similarities of some cells of a tile, which the next call overwrites.

        Args:
            picked: (n,) their positions in the tile.
            keys: (span * S * span, C) what the windows show.
        """
        features, span = tile.features, self._settings.span
        if len(picked) < len(features):
            some = np.zeros(min(-(-len(picked) // _CELLS) * _CELLS, len(features)), np.int64)
            some[: len(picked)] = picked  # filled up with what nobody asks for
            features = features.index_select(0, torch.from_numpy(some))
        scores = self._scores[: len(keys) * len(features)].view(len(keys), -1)
        torch.mm(keys, features.T, out=scores)
        return scores.view(span, -1, span, len(features))

    def _select(self, scores: Tensor, tile: Tile, picked: NDArray[np.int64], windows: Windows, group: Group) -> Matches:
        """The matches of some cells of a tile.

        Args:
            scores, picked: as of `_score`.
            windows: of the slots that the scores are of; only those of the group are matched.
        """
        settings, cells = self._settings, tile.cells[picked]
        span, slots, _, _ = scores.shape
        groups = -(-span // tile_loops.GROUPED)
        of_groups = self._of_groups[: span * slots * groups * len(cells)].reshape(span, slots, groups, len(cells))
        of_rows = self._of_rows[: span * slots * len(cells)].reshape(span, slots, len(cells))
        candidates = held(scores), cells, windows.favour, self._valid, windows.slots, windows.corners
        how = settings.tile, settings.radius, of_groups, of_rows
        tile_loops.maxima(*candidates, group.member[windows.slots], *how)
        weights = np.empty((len(cells), settings.top_k), np.float32)
        sources = np.empty((len(cells), settings.top_k), np.int64)
        tile_loops.select(*candidates, *how, settings.temperature, weights, sources)
        return Matches(*(torch.from_numpy(found) for found in (tile.of_frame[picked], weights, sources)))


def in_order(columns: Sequence[Sequence[dict[int, Matches]]], groups: int) -> list[list[Matches]]:
    """What was found in every column's tiles, for each group tile by tile."""
    return [[found[n] for column in columns for found in column if n in found] for n in range(groups)]
