"""CVAT's masks: run lengths of the pixels inside a box, row by row, starting with the zeros, then the box.

The numbers are the `points` of a shape of type `mask`: `[run, run, ..., left, top, right, bottom]`, where right and
bottom are the last column and row themselves (inclusive). In XML the box stands in attributes of its own. The first run
is 0 where the box's first pixel is set. `cvat_sdk/masks.py` is the codec of record; the tests hold this one to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from model.errors import LabelError
from model.labels.raster import tight_box
from model.labels.types import Mask


def encode(mask: Mask) -> list[int]:
    """The points of a mask (height, width) bool, in its tight box; an empty mask is the one pixel (0, 0), not set."""
    box = tight_box(mask)
    if box is None:
        return [1, 0, 0, 0, 0]
    left, top, width, height = (int(value) for value in box)
    pixels = mask[top : top + height, left : left + width].ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=pixels.size).tolist()
    return [*([0] if pixels[0] else []), *runs, left, top, left + width - 1, top + height - 1]


def decode(points: Sequence[float], width: int, height: int) -> Mask:
    """The mask (height, width) of CVAT's points. A part of the box that lies beyond the frame is cut off.

    Raises:
        LabelError: `bad-annotations`, where the numbers are no mask.
    """
    numbers = [int(value) if math.isfinite(value) and value == int(value) else None for value in points]
    if len(numbers) < 5 or None in numbers:
        raise _bad("a mask needs whole numbers: run lengths, then left, top, right and bottom")
    *runs, left, top, right, bottom = (number for number in numbers if number is not None)
    columns, rows = right - left + 1, bottom - top + 1
    if columns < 1 or rows < 1:
        raise _bad("the mask's box has no pixels: right and bottom are its last column and row")
    if columns * rows > 4 * width * height:
        raise _bad(f"the mask's box of {columns} x {rows} pixels is far larger than the frame of {width} x {height}")
    if min(runs) < 0 or sum(runs) != columns * rows:
        raise _bad(f"the run lengths add up to {sum(runs)}, but the mask's box has {columns} x {rows} pixels")
    on = np.zeros(len(runs), np.bool_)
    on[1::2] = True
    inside = np.repeat(on, runs).reshape(rows, columns)
    mask = np.zeros((height, width), np.bool_)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height)
    if x0 < x1 and y0 < y1:
        mask[y0:y1, x0:x1] = inside[y0 - top : y1 - top, x0 - left : x1 - left]
    return mask


def _bad(detail: str) -> LabelError:
    return LabelError(detail, slug="bad-annotations")
