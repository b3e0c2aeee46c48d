"""The loops over one tile's candidates, compiled: gathering those that matter, ruling cells out, the joint top-k.

A tile's scores are laid out by window row, slot, window column and cell, the cells being what one instruction works on
several of. A candidate counts for a cell if it is within the Euclidean radius, within its frame and valid there; all of
that is decided here, so that products need no mask and nothing is copied for it.

Sizes in what follows: S slots that are looked at, `span` cells a window's side, L cells of the tile, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.compiled import compiled, number

GROUPED = 8
"""How many candidates of a window's row one maximum stands for, in the stages of top-k."""


@compiled
def count(matter: NDArray[np.bool_], slots: NDArray[np.int64], corners: NDArray[np.int64], span: int) -> int:
    """How many cells that matter a tile's windows hold.

    Args:
        matter: (all slots, rows, columns).
        slots: (S,) those that are looked at.
        corners: (S, 2) the windows' first row and column, which may lie outside of the frame.
    """
    _, rows, columns = matter.shape
    found = 0
    for s in range(len(slots)):
        top, left = corners[s, 0], corners[s, 1]
        for y in range(max(0, top), min(rows, top + span)):
            for x in range(max(0, left), min(columns, left + span)):
                found += matter[slots[s], y, x]
    return found


@compiled
def gather(
    keys: NDArray[Any],
    first: NDArray[np.int64],
    down: int,
    matter: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    slots: NDArray[np.int64],
    corners: NDArray[np.int64],
    span: int,
    own: tuple[int, int, int],
    found: NDArray[Any],
    where: NDArray[np.int64],
) -> tuple[int, int]:
    """Copies what ruling cells out needs: the candidates that matter, and then those around the tile's own place.

    Args:
        keys: (N, C) the memory.
        first: (S,) which of the keys is a window's first; `down` lie between one and the one below it.
        matter, valid: (all slots, rows, columns).
        slots, corners: as `count` has them.
        own: row and column of the tile's own place in its window, its side, and from which position in `slots` on
            what is there is copied.
        found: (n, C) where the copies go; it must have room for all of them.
        where: (n,) where their places go, as (position * span + row) * span + column in their windows.

    Returns:
        How many matter and how many others there are.
    """
    _, rows, columns = matter.shape
    margin, side, late = own
    matters = 0
    for s in range(len(slots)):
        top, left = corners[s, 0], corners[s, 1]
        for y in range(max(0, -top), min(span, rows - top)):
            for x in range(max(0, -left), min(span, columns - left)):
                if matter[slots[s], top + y, left + x] and valid[slots[s], top + y, left + x]:
                    _copy(keys[first[s] + y * down + x], found[matters])
                    where[matters] = (s * span + y) * span + x
                    matters += 1
    end = matters
    for s in range(late, len(slots)):
        top, left = corners[s, 0], corners[s, 1]
        for y in range(max(margin, -top), min(margin + side, rows - top)):
            for x in range(max(margin, -left), min(margin + side, columns - left)):
                if valid[slots[s], top + y, left + x]:
                    _copy(keys[first[s] + y * down + x], found[end])
                    where[end] = (s * span + y) * span + x
                    end += 1
    return matters, end - matters


@compiled
def undecided(
    scores: NDArray[Any],
    where: NDArray[np.int64],
    matters: int,
    others: int,
    cells: NDArray[np.int64],
    favour: NDArray[np.float32],
    span: int,
    tile: int,
    radius: int,
    top_k: int,
    margin: float,
) -> NDArray[np.int64]:
    """Which of a tile's cells may have a match that matters; for the others that is ruled out, exactly.

    A cell's best match among the candidates that matter bounds what could arrive there. If `top_k` other candidates are
    all better, none of those that matter is in its joint top-k.

    Args:
        scores: (n, L) similarities of what `gather` copied to the tile's cells.
        where, matters, others: as `gather` gave them.
        cells: (L,) row * tile + column in the tile.
        favour: (S,) what is added to a slot's similarities.
        margin: covers that the products of another shape, of which the matches come, may round otherwise.

    Returns:
        Their positions in `cells`, ascending.
    """
    count, place = len(cells), span * span
    rows, columns = _places(cells, tile, radius)
    seen, far = np.empty(count, np.float32), np.empty(count, np.float32)
    bound = np.full(count, -np.inf, np.float32)
    # Every candidate goes down the list of the best so far and leaves the lower number behind: for all cells at once.
    best = np.full((top_k, count), -np.inf, np.float32)
    for i in range(matters + others):
        _beyond(where[i] // span % span, where[i] % span, rows, columns, radius, far)
        more, here = favour[where[i] // place], scores[i]
        for n in range(count):
            seen[n] = number(here[n]) + more + far[n]
        if i < matters:
            for n in range(count):
                bound[n] = max(bound[n], seen[n])
            continue
        for k in range(top_k):
            highest = best[k]
            for n in range(count):
                lower = min(highest[n], seen[n])
                highest[n] = max(highest[n], seen[n])
                seen[n] = lower
    left = np.empty(count, np.int64)
    kept = 0
    for n in range(count):
        if bound[n] > -np.inf and bound[n] + margin >= best[top_k - 1, n]:
            left[kept] = n
            kept += 1
    return left[:kept]


@compiled
def maxima(
    scores: NDArray[Any],
    cells: NDArray[np.int64],
    favour: NDArray[np.float32],
    valid: NDArray[np.bool_],
    slots: NDArray[np.int64],
    corners: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    tile: int,
    radius: int,
    of_groups: NDArray[np.float32],
    of_rows: NDArray[np.float32],
) -> None:
    """The first stages of top-k: each cell's highest score in every group of candidates, and in every row of a window.

    Args:
        scores: (span, S, span, at least L) similarities.
        cells: (L,) row * tile + column in the tile.
        favour: (S,) what is added to a slot's similarities.
        valid: (all slots, rows, columns).
        slots, corners: as `count` has them.
        wanted: (S,) which slots may be matched.
        of_groups: (span, S, groups, L) what is found; -inf where there is no candidate.
        of_rows: (span, S, L) the same of all groups of a row.
    """
    span, count = scores.shape[0], len(cells)
    _, rows, columns = valid.shape
    far = np.empty(count, np.float32)
    own_rows, own_columns = _places(cells, tile, radius)
    of_groups[:] = -np.inf
    of_rows[:] = -np.inf
    for y in range(span):
        for x in range(span):
            if not _beyond(y, x, own_rows, own_columns, radius, far):
                continue
            for s in range(len(slots)):
                row, column = corners[s, 0] + y, corners[s, 1] + x
                if not wanted[s] or row < 0 or row >= rows or column < 0 or column >= columns:
                    continue
                if not valid[slots[s], row, column]:
                    continue
                here, highest = scores[y, s, x], of_groups[y, s, x // GROUPED]
                more = favour[s]
                for n in range(count):
                    highest[n] = max(highest[n], number(here[n]) + more + far[n])
        for s in range(len(slots)):
            top = of_rows[y, s]
            for group in range(of_groups.shape[2]):
                highest = of_groups[y, s, group]
                for n in range(count):
                    top[n] = max(top[n], highest[n])


@compiled
def select(
    scores: NDArray[Any],
    cells: NDArray[np.int64],
    favour: NDArray[np.float32],
    valid: NDArray[np.bool_],
    slots: NDArray[np.int64],
    corners: NDArray[np.int64],
    tile: int,
    radius: int,
    of_groups: NDArray[np.float32],
    of_rows: NDArray[np.float32],
    temperature: float,
    weights: NDArray[np.float32],
    sources: NDArray[np.int64],
) -> None:
    """The last stages: every cell's joint top-k, as weights and where they come from.

    Exact: the k highest scores are in the k rows with the highest maxima, and in these in the k groups with the
    highest. Among equal scores the nearest to the cell's own place come first, and groups from there outward, so that
    labels are not drawn to one side.

    Args:
        scores ... of_rows: as in `maxima`.
        temperature: the softmax's divisor.
        weights: (L, k) where the softmax over the k highest goes, highest first; 0 where there are fewer candidates.
        sources: (L, k) where (slot * rows + row) * columns + column of them goes; 0 where there is none.
    """
    span, looked, groups = scores.shape[0], len(slots), of_groups.shape[2]
    _, rows, columns = valid.shape
    top_k = weights.shape[1]
    by_row, row_of = np.empty(top_k, np.float32), np.empty(top_k, np.int64)
    by_group, group_of = np.empty(top_k, np.float32), np.empty(top_k, np.int64)
    best, place_of = np.empty(top_k, np.float32), np.empty(top_k, np.int64)
    apart = np.empty(top_k, np.int64)
    for n in range(len(cells)):
        own_row, own_column = radius + cells[n] // tile, radius + cells[n] % tile
        by_row[:] = -np.inf
        for step in range(2 * radius + 1):
            y = own_row + _outward(step)
            for s in range(looked):
                _insert(by_row, row_of, of_rows[y, s, n], y * looked + s)
        by_group[:] = -np.inf
        for i in range(top_k):
            if by_row[i] == -np.inf:
                break
            y, s = row_of[i] // looked, row_of[i] % looked
            for step in range(2 * groups):
                group = own_column // GROUPED + _outward(step)
                if 0 <= group < groups:
                    _insert(by_group, group_of, of_groups[y, s, group, n], row_of[i] * groups + group)
        best[:], apart[:] = -np.inf, 0
        for i in range(top_k):
            if by_group[i] == -np.inf:
                break
            line, start = group_of[i] // groups, group_of[i] % groups * GROUPED
            y, s = line // looked, line % looked
            row, left = corners[s, 0] + y, corners[s, 1]
            reach = int(math.sqrt(radius * radius - (y - own_row) * (y - own_row)))
            low = max(start, own_column - reach, -left)
            high = min(start + GROUPED, own_column + reach + 1, span, columns - left)
            for x in range(low, high):
                score = number(scores[y, s, x, n]) + favour[s]
                if score >= best[top_k - 1] and valid[slots[s], row, left + x]:
                    down, across = y - own_row, x - own_column
                    _insert_near(best, apart, place_of, score, down * down + across * across, line * span + x)
        total = np.float32(0.0)
        for i in range(top_k):
            weights[n, i] = 0.0
            sources[n, i] = 0
            if best[i] > -np.inf:
                weights[n, i] = math.exp((best[i] - best[0]) / temperature)
                total += weights[n, i]
                line, x = place_of[i] // span, place_of[i] % span
                y, s = line // looked, line % looked
                sources[n, i] = (slots[s] * rows + corners[s, 0] + y) * columns + corners[s, 1] + x
        if total > 0:
            for i in range(top_k):
                weights[n, i] /= total


@compiled
def copy_rows(
    keys: NDArray[Any],
    slots: NDArray[np.int64],
    corners: NDArray[np.int64],
    skipped: int,
    into: NDArray[Any],
) -> None:
    """Copies windows side by side, without their first rows.

    Args:
        keys: (all slots, padded rows, padded columns, C) the memory.
        slots: (S,) those that are looked at.
        corners: (S, 2) the windows' first row and column in the padded frames.
        skipped: so many rows.
        into: (rows, S, span, C).
    """
    for y in range(into.shape[0]):
        for s in range(len(slots)):
            row, left = corners[s, 0] + skipped + y, corners[s, 1]
            for x in range(into.shape[2]):
                _copy(keys[slots[s], row, left + x], into[y, s, x])


@compiled
def spread(frame: NDArray[Any], margin: int, tile: int, keys: NDArray[Any]) -> None:
    """Lays a frame out for every column of tiles; what lies outside of it stays as it is.

    Args:
        frame: (rows, columns, C).
        margin: so many cells a window reaches beyond its tile.
        tile: side of a tile.
        keys: (columns of tiles, padded rows, span, C) where it goes.
    """
    rows, columns, _ = frame.shape
    for column in range(keys.shape[0]):
        left = column * tile - margin
        for y in range(rows):
            for x in range(max(0, -left), min(keys.shape[2], columns - left)):
                _copy(frame[y, left + x], keys[column, margin + y, x])


@compiled
def _copy(source: NDArray[Any], into: NDArray[Any]) -> None:
    for channel in range(len(into)):
        into[channel] = source[channel]


@compiled
def _places(cells: NDArray[np.int64], tile: int, radius: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Row and column of a tile's cells in their windows."""
    return (radius + cells // tile).astype(np.int32), (radius + cells % tile).astype(np.int32)


@compiled
def _beyond(
    y: int, x: int, rows: NDArray[np.int32], columns: NDArray[np.int32], radius: int, far: NDArray[np.float32]
) -> Any:
    """Whether a place of the windows is within the radius of any cell, and of which: `far` becomes 0 there, else -inf.

    Args:
        rows, columns: (L,) of the cells, as `_places` gives them.
    """
    some: Any = False
    for n in range(len(rows)):
        down, across = np.int32(y) - rows[n], np.int32(x) - columns[n]
        near = np.int32(down * down + across * across) <= np.int32(radius * radius)
        far[n] = np.float32(0.0) if near else np.float32(-np.inf)
        some |= near
    return some


@compiled
def _outward(step: int) -> int:
    """0, -1, 1, -2, 2 and so on."""
    return step // 2 if step % 2 == 0 else -(step + 1) // 2


@compiled
def _insert(values: NDArray[np.float32], places: NDArray[np.int64], value: float, place: int) -> None:
    """Puts a value among the highest so far, highest first, if it is higher than one of them."""
    last = len(values) - 1
    if not value > values[last]:
        return
    while last > 0 and values[last - 1] < value:
        values[last], places[last] = values[last - 1], places[last - 1]
        last -= 1
    values[last], places[last] = value, place


@compiled
def _insert_near(
    values: NDArray[np.float32],
    distances: NDArray[np.int64],
    places: NDArray[np.int64],
    value: float,
    distance: int,
    place: int,
) -> None:
    """As `_insert`; of equal values the nearest comes first."""
    last = len(values) - 1
    if not (value > values[last] or (value == values[last] and distance < distances[last])):
        return
    while last > 0 and (values[last - 1] < value or (values[last - 1] == value and distances[last - 1] > distance)):
        values[last], distances[last], places[last] = values[last - 1], distances[last - 1], places[last - 1]
        last -= 1
    values[last], distances[last], places[last] = value, distance, place
