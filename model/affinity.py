"""The affinity: which cells of the memory a cell of the new frame matches, and how strongly.

Softmax over the `top_k` most similar cells, similarity being the dot product of L2-normalised features over a
temperature (UVC, Li et al. 2019, with the normalisation and the joint top-k of CRW, Jabri et al. 2020). Candidates are
the cells of every memory frame within a Euclidean radius of the cell's own place.

Two implementations of the same definition: `dense_matches`, the plain reference in full N x N matrices, and
`WindowMemory`, which computes only what windows need, one spatial tile of the new frame at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import InputError

# Ruling cells out costs a part of what matching them costs; with more of the window than this it does not pay.
WORTH_RULING_OUT = 0.4
# Nor does it where the tile's own place carried labels a frame ago: with more of it than this, few cells are ruled out.
LABELLED_BEFORE = 0.3
# How many candidates one maximum stands for, in the stages of top-k.
_GROUPED = 8
# In how many of the latest slots a cell's rivals are looked for.
NEAR_SLOTS = 4
# Two similarities this close may come in another order when a product of another shape computes them (bfloat16 has
# steps of 1/256 below 1, and either of the two may be off by one).
_ROUNDING = 1 / 128


@dataclass(frozen=True)
class Matches:
    """For some cells of the new frame, where in memory they were matched.

    Attributes:
        cells: (n,) int64, the cells' flat indices row * columns + column.
        weights: (n, k) float32, each row sums to 1 (or is 0 where a cell had no candidate at all).
        sources: (n, k) int64, flat indices slot * rows * columns + row * columns + column into the memory. Where the
            weight is 0 the index is valid but means nothing.
    """

    cells: Tensor
    weights: Tensor
    sources: Tensor


def similarity(query: Tensor, memory: Tensor) -> Tensor:
    """Dot products of every cell with every other: (..., n, C) and (..., m, C) to (..., n, m).

    Cosines where both are L2-normalised. Training stands on the same definition (`model.training.transport`).
    """
    return query @ memory.mT


def dense_matches(
    query: Tensor,
    memory: Tensor,
    *,
    radius: int,
    top_k: int,
    temperature: float,
    valid: Tensor | None = None,
) -> Matches:
    """The reference: full similarities to every memory frame, masked to the window, one joint top-k.

    Args:
        query: (rows, columns, C) L2-normalised features of the new frame.
        memory: (M, rows, columns, C) those of the memory frames.
        radius: in cells, Euclidean, inclusive.
        valid: (M, rows, columns) bool, False where a memory cell may not be matched.
    """
    rows, columns, channels = query.shape
    cells = rows * columns
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    y, x = y.reshape(-1), x.reshape(-1)
    far = ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 > radius * radius).to(query.device)
    flat = query.reshape(cells, channels)
    scores = []
    for slot, frame in enumerate(memory):
        score = similarity(flat, frame.reshape(cells, channels))
        score = score.masked_fill(far, -math.inf)
        if valid is not None:
            score = score.masked_fill(~valid[slot].reshape(1, cells), -math.inf)
        scores.append(score)
    best = torch.cat(scores, dim=1).topk(min(top_k, cells * len(scores)), dim=1)
    return Matches(
        cells=torch.arange(cells, device=query.device),
        weights=match_weights(best.values, temperature),
        sources=best.indices,
    )


class WindowMemory:
    """Features of a bounded number of frames, laid out so that every tile's windows are one contiguous matrix.

    A tile is `tile` x `tile` cells of the new frame; its candidates lie in the square that reaches `radius` cells
    beyond it on every side. Per column of tiles the memory keeps that square's width, so neighbouring columns overlap,
    and within it the order is row, slot, column, channel. The candidates of one tile in all slots are then consecutive
    rows of one matrix: one product a tile, nothing gathered, nothing of the rest of the frame touched.

    Cells of the new frame that surely match nothing that matters are ruled out first, by a part of the product.
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
        temperature: float,
        tile: int = 8,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if min(rows, columns, channels, slots, top_k, tile) < 1 or radius < 0 or temperature <= 0:
            raise InputError("A window memory needs positive sizes, a radius of 0 or more and a temperature above 0.")
        self.rows, self.columns, self.slots = rows, columns, slots
        self.radius, self.top_k, self.temperature, self.tile = radius, top_k, temperature, tile
        self._tile_rows, self._tile_columns = -(-rows // tile), -(-columns // tile)
        self._span = tile + 2 * radius
        self._run = math.gcd(self._span, 8)
        self._padded = (self._tile_rows * tile + 2 * radius, self._tile_columns * tile + 2 * radius)
        self._keys = torch.zeros(
            self._tile_columns, self._padded[0], slots, self._span, channels, dtype=dtype, device=device
        )
        # Where a slot's cells may be matched, with the frame's surroundings as False.
        self._valid = torch.zeros(slots, *self._padded, dtype=torch.bool, device=device)
        self._partial = [False] * slots
        self._used = [False] * slots
        self._window = window_mask(tile, radius, dtype).to(device)
        self._scores = torch.empty(self._span * slots * self._span * tile * tile, dtype=dtype, device=device)
        self._every = torch.arange(tile * tile, device=device)
        # Flat indices, relative to the tile's first cell: of its cells, and of its candidates as scores lie.
        around = torch.arange(self._span, device=device) - radius
        self._query = self._every // tile * columns + self._every % tile
        slot = torch.arange(slots, device=device)[:, None] * rows
        self._source = ((around[:, None, None] + slot) * columns + around).reshape(-1)
        self._near: dict[tuple[int, ...], Tensor] = {}
        self._border_masks: dict[tuple[int, int], Tensor] = {}

    def write(self, slot: int, features: Tensor, valid: Tensor | None = None) -> None:
        """Puts a frame into a slot, in place of what was there.

        Args:
            features: (rows, columns, C), L2-normalised.
            valid: (rows, columns) bool, False where the frame's cells may not be matched (void).
        """
        r = self.radius
        padded = features.new_zeros(*self._padded, features.shape[-1])
        padded[r : r + self.rows, r : r + self.columns] = features
        self._keys[:, :, slot] = padded.unfold(1, self._span, self.tile).permute(1, 0, 3, 2)
        inside = self._valid[slot, r : r + self.rows, r : r + self.columns]
        inside.fill_(True) if valid is None else inside.copy_(valid)
        self._partial[slot] = valid is not None and not bool(valid.all())
        self._used[slot] = True

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
        tile, channels = self.tile, query.shape[-1]
        padded = query.new_zeros(self._tile_rows * tile, self._tile_columns * tile, channels)
        padded[: self.rows, : self.columns] = query
        tiles = padded.view(self._tile_rows, tile, self._tile_columns, tile, channels).permute(0, 2, 1, 3, 4)
        tiles = tiles.reshape(self._tile_rows, self._tile_columns, tile * tile, channels)
        padded_active = [None if cells is None else self._pad(cells) for cells in active]
        wanted = [None if cells is None else self._wanted_tiles(cells) for cells in padded_active]
        found: list[list[Matches]] = [[] for _ in slots]
        for row, column in self._tiles():
            groups = [index for index, want in enumerate(wanted) if want is None or want[row][column]]
            if not groups:
                continue
            cells, only = tiles[row, column], padded_active[groups[0]]
            picked = self._every
            if len(groups) == 1 and only is not None:
                picked = self._undecided(cells, slots[groups[0]], only, row, column)
                if not len(picked):
                    continue
            scores = self._score(cells, picked, row, column)
            for index in groups:
                found[index].append(self._select(scores, slots[index], picked, row, column))
        return found

    def _tiles(self) -> Iterator[tuple[int, int]]:
        # Column by column, as the keys lie.
        return ((row, column) for column in range(self._tile_columns) for row in range(self._tile_rows))

    def _undecided(self, query: Tensor, slots: Sequence[int], active: Tensor, row: int, column: int) -> Tensor:
        """Which of a tile's cells may have a match that matters; for the others that is ruled out, exactly.

        A cell's best match among the cells that matter bounds what could arrive there. If `top_k` candidates near the
        cell's own place are all better, none of those that matter is in its joint top-k. Both need only a part of the
        window, and most of a frame is decided by them.
        """
        if any(self._partial[slot] for slot in slots):
            return self._every  # void cells would need masks of their own; they are rare
        top, left, per_row = row * self.tile, column * self.tile, self._span // self._run
        own = active[-1, top + self.radius :, left + self.radius :][: self.tile, : self.tile]
        if int(own.count_nonzero()) > LABELLED_BEFORE * len(query):
            return self._every
        window = active[:, top : top + self._span, left : left + self._span].unflatten(2, (per_row, self._run))
        matter = window.any(dim=3)
        held, rows, places = matter.nonzero().unbind(1)  # slot, row and place in it of runs with cells that matter
        near = self._near_runs(tuple(slots[-NEAR_SLOTS:]))
        if len(held) > WORTH_RULING_OUT * matter.numel() or len(near) * self._run < self.top_k:
            return self._every
        # Plain index_select: of the ways to gather, it alone copies whole runs at the memory's speed.
        runs = self._keys[column, top : top + self._span].view(-1, self._run, query.shape[-1])
        mask = self._mask(row, column).view(self._span * per_row, self._run, query.shape[0])
        of_slots = torch.tensor(slots, device=query.device)
        here = mask.index_select(0, rows * per_row + places)
        here += self._against(query, runs.index_select(0, (rows * self.slots + of_slots[held]) * per_row + places))
        indifferent = torch.zeros(window.shape, dtype=here.dtype, device=here.device).masked_fill_(~window, -math.inf)
        here += indifferent.flatten(0, 2).index_select(0, (held * self._span + rows) * per_row + places)[:, :, None]
        around = mask.index_select(0, near // (per_row * self.slots) * per_row + near % per_row)
        around += self._against(query, runs.index_select(0, near))
        return undecided(here.flatten(0, 1), around.flatten(0, 1), self.top_k)

    @staticmethod
    def _against(query: Tensor, runs: Tensor) -> Tensor:
        """(n, run, cells) similarities of runs of memory cells to a tile's cells."""
        return (runs.view(-1, query.shape[-1]) @ query.T).view(*runs.shape[:2], -1)

    def _near_runs(self, slots: tuple[int, ...]) -> Tensor:
        """Indices of the runs at a tile's own place, in some slots."""
        if slots not in self._near:
            rows = torch.arange(self.radius, self.radius + self.tile)
            first, last = self.radius // self._run, (self.radius + self.tile - 1) // self._run
            along = torch.arange(first, last + 1)
            index = (rows[:, None, None] * self.slots + torch.tensor(slots)[:, None]) * (
                self._span // self._run
            ) + along
            self._near = {slots: index.reshape(-1).to(self._valid.device)}  # of the latest subset only
        return self._near[slots]

    def _score(self, query: Tensor, picked: Tensor, row: int, column: int) -> Tensor:
        """(span, slots, span, n) similarities of a tile's picked cells to their windows, -inf for no candidate."""
        top = row * self.tile
        keys = self._keys[column, top : top + self._span].view(-1, query.shape[-1])
        mask = self._mask(row, column)
        if len(picked) < len(query):
            query, mask = query[picked], mask[:, :, picked]
        scores = self._scores[: len(keys) * len(query)].view(len(keys), len(query))
        torch.mm(keys, query.T, out=scores)
        scores = scores.view(self._span, self.slots, self._span, -1)
        scores += mask[:, None]
        for slot in range(self.slots):
            if not self._used[slot]:
                scores[:, slot] = -math.inf
            elif self._partial[slot]:
                left = column * self.tile
                valid = self._valid[slot, top : top + self._span, left : left + self._span]
                scores[:, slot].masked_fill_(~valid[:, :, None], -math.inf)
        return scores

    def _select(self, scores: Tensor, slots: Sequence[int], picked: Tensor, row: int, column: int) -> Matches:
        _, all_slots, _, cells = scores.shape
        if len(slots) < all_slots:
            outside = torch.ones(all_slots, dtype=torch.bool, device=scores.device)
            outside[list(slots)] = False
            scores = scores.masked_fill(outside[:, None, None], -math.inf)
        values, place = joint_top_k(scores.view(-1, cells), self.top_k)
        # Where nothing was a candidate the place may lie outside of the frame; the weight there is 0.
        corner = row * self.tile * self.columns + column * self.tile
        sources = self._source.index_select(0, place.view(-1)).view_as(place).add_(corner)
        sources.clamp_(0, all_slots * self.rows * self.columns - 1)
        weights, query = match_weights(values, self.temperature), self._query.index_select(0, picked).add_(corner)
        if (row + 1) * self.tile > self.rows or (column + 1) * self.tile > self.columns:
            inside = (row * self.tile + picked // self.tile < self.rows) & (
                column * self.tile + picked % self.tile < self.columns
            )
            query, weights, sources = query[inside], weights[inside], sources[inside]
        return Matches(query, weights, sources)

    def _pad(self, cells: Tensor) -> Tensor:
        padded = cells.new_zeros(len(cells), *self._padded)
        padded[:, self.radius : self.radius + self.rows, self.radius : self.radius + self.columns] = cells
        return padded

    def _wanted_tiles(self, active: Tensor) -> list[list[bool]]:
        """Per tile, whether its windows hold a cell that matters."""
        windows = active.any(dim=0).unfold(0, self._span, self.tile).unfold(1, self._span, self.tile)
        wanted: list[list[bool]] = windows.flatten(2).any(dim=2).tolist()
        return wanted

    def _mask(self, row: int, column: int) -> Tensor:
        """(span, span, tile * tile): 0 for candidates, -inf beyond the radius or outside of the frame."""
        top, left, r = row * self.tile, column * self.tile, self.radius
        if top >= r and left >= r and top - r + self._span <= self.rows and left - r + self._span <= self.columns:
            return self._window
        if (row, column) not in self._border_masks:
            y = torch.arange(top - r, top - r + self._span, device=self._window.device)
            x = torch.arange(left - r, left - r + self._span, device=self._window.device)
            inside = ((y >= 0) & (y < self.rows))[:, None] & ((x >= 0) & (x < self.columns))
            self._border_masks[row, column] = self._window.masked_fill(~inside[:, :, None], -math.inf)
        return self._border_masks[row, column]


def window_mask(tile: int, radius: int, dtype: torch.dtype) -> Tensor:
    """(span, span, tile * tile), span being tile + 2 * radius: 0 where a cell of the tile's candidates is within the
    Euclidean radius of a cell of the tile, -inf beyond it."""
    place = torch.arange(tile + 2 * radius) - radius
    cell = torch.arange(tile)
    apart = (place[:, None] - cell) ** 2  # (span, tile) along one axis
    distance = apart[:, None, :, None] + apart[None, :, None, :]  # (span, span, tile, tile)
    mask = torch.zeros(len(place), len(place), tile * tile, dtype=dtype)
    return mask.masked_fill(distance.flatten(2) > radius * radius, -math.inf)


def undecided(matter: Tensor, near: Tensor, top_k: int) -> Tensor:
    """Which cells may have one of the candidates that matter among their `top_k` best.

    Args:
        matter: (n, cells) similarities of all candidates that matter.
        near: (m, cells), `top_k` at least, of some candidates, whether they matter or not.

    Returns:
        (picked,) int64, ascending.
    """
    bound, rival = matter.amax(dim=0).float(), joint_top_k(near, top_k)[0][:, -1]
    # The margin covers that products of another shape may round the last bit differently.
    return ((bound > -math.inf) & (bound + _ROUNDING >= rival)).nonzero()[:, 0]


def match_weights(scores: Tensor, temperature: float) -> Tensor:
    """Softmax over the last axis that gives zeros, not NaN, where every score is -inf."""
    return torch.softmax(scores.float() / temperature, dim=-1).nan_to_num(0.0)


def joint_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of every column of (n, cells): values (cells, k) float32, highest first, and their rows (cells, k).

    Exact, and in stages: the k highest are among the members of the k groups with the highest maxima, and these are
    found in the same way. Maxima cost little; sorting through all n would cost most of the frame.
    """
    values, rows = joint_top_k_of_rows(scores[None], k)
    return values[0], rows[0]


def joint_top_k_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `joint_top_k`, for a batch: (b, n, cells) to (b, cells, k) twice."""
    batch, total, cells = scores.shape
    count = total // _GROUPED
    if total % _GROUPED or count < 4 * k:
        best = scores.mT.float().topk(min(k, total), dim=2)
        return best.values, best.indices
    # A group is every count-th row: the maximum then runs over whole matrices.
    groups = scores.view(batch, _GROUPED, count, cells)
    chosen = joint_top_k_of_rows(groups.amax(dim=1), k)[1].mT[:, None]  # (b, 1, k, cells)
    members = groups.gather(2, chosen.expand(-1, _GROUPED, -1, -1)).flatten(1, 2)
    best = members.mT.float().topk(k, dim=2)
    rows = chosen + torch.arange(0, total, count, device=scores.device)[:, None, None]
    return best.values, rows.flatten(1, 2).mT.gather(2, best.indices)
