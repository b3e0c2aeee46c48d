"""Which cell of another frame a cell is most alike to, among those within reach."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.compiled import compiled, held, number


def most_alike(queries: Tensor, places: NDArray[np.int64], targets: Tensor, radius: int) -> NDArray[np.int64]:
    """For some cells of one frame, the cell of the other within the radius that is most alike; the first of several.

    Only the part of the other frame that is within reach of any of them is looked at.

    Args:
        queries: (n, C) features of the cells.
        places: (n,) where they are, row * columns + column; at least one.
        targets: (rows, columns, C) features of the other frame, on the CPU.
        radius: in cells, Euclidean, inclusive.

    Returns:
        (n,) row * columns + column in the other frame.
    """
    rows, columns, _ = targets.shape
    y, x = places // columns, places % columns
    top, left = max(0, int(y.min()) - radius), max(0, int(x.min()) - radius)
    bottom, right = min(rows, int(y.max()) + radius + 1), min(columns, int(x.max()) + radius + 1)
    scores = queries @ targets[top:bottom, left:right].flatten(0, 1).T
    found = np.empty_like(places)
    _best(held(scores).reshape(len(places), bottom - top, right - left), y - top, x - left, radius, found)
    return (found // (right - left) + top) * columns + found % (right - left) + left


def place_of_highest(scores: Tensor) -> Tensor:
    """(n,) int64, the place of the highest in each row of (n, m) scores; the first of several.

    As `argmax`, which on a CPU takes longer in bfloat16 than the products that the scores come of.

    Args:
        scores: on the CPU.
    """
    found = np.empty(len(scores), np.int64)
    _highest(held(scores), found)
    return torch.from_numpy(found)


@compiled
def _highest(scores: NDArray[Any], found: NDArray[np.int64]) -> None:
    for n in range(len(scores)):
        row, best = scores[n], -np.inf
        for m in range(len(row)):
            best = max(best, number(row[m]))
        m = 0
        while number(row[m]) < best:
            m += 1
        found[n] = m


@compiled
def _best(
    scores: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64], radius: int, found: NDArray[np.int64]
) -> None:
    """For each of n cells the place in (n, height, width) scores of the highest within the radius of its own place."""
    _, height, width = scores.shape
    for n in range(len(rows)):
        best = -np.inf
        for y in range(max(0, rows[n] - radius), min(height, rows[n] + radius + 1)):
            reach = int(math.sqrt(radius * radius - (y - rows[n]) * (y - rows[n])))
            for x in range(max(0, columns[n] - reach), min(width, columns[n] + reach + 1)):
                score = number(scores[n, y, x])
                if score > best:
                    best = score
                    found[n] = y * width + x
