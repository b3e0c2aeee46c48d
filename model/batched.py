"""A memory for a GPU: many tiles at a time, windows anywhere, and nothing that the host has to know in between.

The same definition of the affinity as `WindowMemory` and `FollowingMemory` (`model.affinity`, `model.following`), which
are made for a processor: they look at one tile after the other and leave out what cannot matter, and what matters they
must ask the device. Here all cells are matched. Tiles go in batches whose scores have a bounded size, so that the
scores of a whole frame never exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from model.affinity import Matches, joint_top_k_of_rows, match_weights, window_mask
from model.errors import InputError
from model.padded import PaddedMemory, WindowSettings
from model.uploads import Uploads

_SCORES = 1 << 25
"""How many scores are in memory at a time, at most, if one tile does not need more."""


class BatchedMemory(PaddedMemory):
    """Looks at its frames many tiles at a time, through windows that may lie anywhere.

    Args: those of `PaddedMemory`, and
        scores: how many of them may be in memory at a time.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        channels: int,
        slots: int,
        *,
        scores: int = _SCORES,
        device: torch.device | str = "cpu",
        **settings: Unpack[WindowSettings],
    ) -> None:
        super().__init__(rows, columns, channels, slots, device=device, **settings)
        if scores < 1:
            raise InputError(f"A memory needs room for one score at least, not {scores}.")
        tile, device, (height, width) = self.tile, self._device, self._padded
        self._together = max(1, scores // (slots * self._span**2 * tile**2))
        self._mask = window_mask(tile, self.radius, self._keys.dtype).flatten(0, 1).to(device)
        self._around = torch.arange(self._span, device=device)
        self._upload = Uploads(device)
        row = torch.arange(self.tile_rows, device=device)[:, None] * tile
        column = torch.arange(self.tile_columns, device=device) * tile
        self._own = torch.stack(torch.broadcast_tensors(row, column), dim=2) - self.radius + self._span
        self._limits = torch.tensor([height - self._span, width - self._span], device=device)
        # Of every place of the padded frames, which cell of memory it is. Where none is the number means nothing.
        y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
        cell = (y - self._span) * columns + x - self._span
        frame = torch.arange(slots, device=device)[:, None, None] * (rows * columns)
        self._source = (frame + cell).clamp_(0, slots * rows * columns - 1).flatten()
        # Of every cell of the frame, where it stands among the cells of all tiles.
        y, x = torch.arange(rows, device=device)[:, None], torch.arange(columns, device=device)
        tiles = y // tile * self.tile_columns + x // tile
        self._place = (tiles * tile * tile + y % tile * tile + x % tile).flatten()
        self._every = torch.arange(rows * columns, device=device)

    def matches(
        self,
        query: Tensor,
        slots: Sequence[Sequence[int]],
        moved: Tensor | None = None,
        favour: Mapping[int, float] | None = None,
    ) -> list[list[Matches]]:
        """Matches of all cells of the new frame, once for every wanted subset of the slots.

        Args:
            query: (rows, columns, C) L2-normalised features of the new frame.
            slots: for each subset, which slots may be matched.
            moved: (all slots, tile rows, tile columns, 2) int64, cells down and right that what a tile shows has moved
                since the slot's frame; None for nowhere.
            favour: slot to what is added to the similarity of its cells.

        Returns:
            For each subset one `Matches`, in a list as the other memories give them.
        """
        tile, count = self.tile, self.tile_rows * self.tile_columns
        used = self._used
        padded = F.pad(query, (0, 0, 0, self.tile_columns * tile - self.columns, 0, self.tile_rows * tile - self.rows))
        tiles = padded.view(self.tile_rows, tile, self.tile_columns, tile, -1).transpose(1, 2)
        tiles = tiles.reshape(count, tile * tile, -1)
        windows = self._windows(used, moved)
        # One index at a time: with several a GPU would gather number by number and not whole features.
        barred = ~self._valid.view(-1)[windows]
        keys = self._keys.view(-1, query.shape[-1])
        mask = self._mask
        extra = [favour.get(slot, 0.0) if favour else 0.0 for slot in used]
        if any(extra):
            mask = mask + self._upload(extra, torch.float32).to(mask.dtype)[:, None, None]
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in slots]
        for first in range(0, count, self._together):
            some = slice(first, first + self._together)
            scores = (keys[windows[some]] @ tiles[some].mT).unflatten(1, (len(used), -1))
            scores += mask
            scores.masked_fill_(barred[some].unflatten(1, (len(used), -1))[..., None], -math.inf)
            for part, subset in zip(found, slots, strict=True):
                part.append(self._best(scores, used, subset))
        return [[self._joined(part, windows)] for part in found]

    def _windows(self, used: Sequence[int], moved: Tensor | None) -> Tensor:
        """(tiles, used slots * span * span): the places in the padded frames of every tile's candidates."""
        corners = self._own.expand(self.slots, -1, -1, -1) if moved is None else self._own - moved
        corners = torch.minimum(corners.clamp(min=0), self._limits).flatten(1, 2)
        slot = self._upload(used)
        corners = corners.index_select(0, slot).transpose(0, 1)  # (tiles, used slots, 2)
        height, width = self._padded
        y = (corners[..., 0, None] + self._around + slot[:, None] * height) * width
        return (y[..., None] + (corners[..., 1, None] + self._around)[..., None, :]).flatten(1)

    def _best(self, scores: Tensor, used: Sequence[int], subset: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The highest of (tiles, used slots, span * span, cells) scores, and which candidates they are of: each (tiles,
        cells, k)."""
        if len(subset) < len(used):
            outside = self._upload([slot not in subset for slot in used], torch.bool)
            scores = scores.masked_fill(outside[:, None, None], -math.inf)
        return joint_top_k_of_rows(scores.flatten(1, 2), self.top_k)

    def _joined(self, parts: Sequence[tuple[Tensor, Tensor]], windows: Tensor) -> Matches:
        values = torch.cat([part[0] for part in parts])
        candidates = torch.cat([part[1] for part in parts])
        sources = self._source[windows.gather(1, candidates.flatten(1))].view_as(candidates)
        values, sources = (each.flatten(0, 1).index_select(0, self._place) for each in (values, sources))
        return Matches(self._every, match_weights(values, self.temperature), sources)
