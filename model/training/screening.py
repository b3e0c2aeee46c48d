"""Which frames are worth training on: no black or empty ones, none that repeats the one before, and no pair over a cut.

Everything is judged on small pictures of about 64 cells across, so it costs a fraction of decoding.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELLS = 64
# Chosen on 11,500 pairs of frames of 45 sources, 1/8 s apart: 40 are called cuts, of which about ten are. Of pairs made
# of two clips of one source, those are missed that show one and the same room. A false cut costs a pair, a missed one
# teaches what is wrong, so the threshold is rather low.
_CUT = 0.55
_CUT_CHANGE = 12.0
_LEAST_CONTRAST = 10.0
_REACH = 6
_BLOCK = 4
_EMPTY_SPREAD = 4.0
_STATIC_CHANGE = 8.0
_STATIC_SHARE = 0.002


class Verdict(Enum):
    """What becomes of a frame."""

    KEEP = "keep"
    """It goes on with the shot of the frame kept before it."""
    CUT = "cut"
    """It is kept, as the first of a new shot."""
    EMPTY = "empty"
    """Black or of nearly one colour: it is dropped, and the shot ends there."""
    STATIC = "static"
    """Nothing has moved since the frame kept before it: it is dropped, and the shot goes on."""


class Screen:
    """The frames of one clip, judged one after the other."""

    def __init__(self) -> None:
        """A clip's beginning."""
        self._kept: NDArray[np.float32] | None = None
        self._last: NDArray[np.float32] | None = None

    def judge(self, image: Image.Image) -> Verdict:
        """The next frame, RGB, of the same size as those before it."""
        thumb = thumbnail(image)
        last, self._last = self._last, thumb
        if is_empty(thumb):
            self._kept = self._last = None
            return Verdict.EMPTY
        if self._kept is None or last is None:
            self._kept = thumb
            return Verdict.CUT
        if is_static(self._kept, thumb):
            return Verdict.STATIC
        self._kept = thumb
        return Verdict.CUT if is_cut(last, thumb) else Verdict.KEEP


def thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """(h, w, 3) float32 RGB in 0..255, the long side about `CELLS`: means over squares of pixels."""
    small = image.reduce(max(1, round(max(image.size) / CELLS)))
    return np.asarray(small, dtype=np.float32)


def is_empty(thumb: NDArray[np.float32]) -> bool:
    """Whether a frame shows nearly nothing but one colour."""
    return bool(thumb.std(axis=(0, 1)).max() < _EMPTY_SPREAD)


def is_static(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether nothing has moved from one thumbnail to another: what differs is no more than compression's noise."""
    changed = np.abs(after - before).max(axis=2) > _STATIC_CHANGE
    return bool(changed.mean() < _STATIC_SHARE)


def is_cut(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether two thumbnails in a row are of different shots.

    A moving camera changes every cell as well, so what counts is what motion cannot explain: how badly the blocks of
    the one match the other anywhere near, over its contrast, plus the share of colours that are new.
    """
    if np.abs(after - before).mean() < _CUT_CHANGE:
        return False
    unmatched = _unmatched(_halved(before.mean(axis=2)), _halved(after.mean(axis=2)))
    return bool(unmatched / max(float(after.mean(axis=2).std()), _LEAST_CONTRAST) + _new_colours(before, after) > _CUT)


def _unmatched(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Mean difference of each block of `after` to the place in `before` where it fits best, within `_REACH` cells."""
    rows, columns = (extent // _BLOCK for extent in after.shape)
    if not rows or not columns:
        return float(np.abs(after - before).mean())
    places = np.lib.stride_tricks.sliding_window_view(np.pad(before, _REACH, mode="edge"), after.shape)
    difference = np.abs(places - after)[:, :, : rows * _BLOCK, : columns * _BLOCK]
    blocks = difference.reshape(*places.shape[:2], rows, _BLOCK, columns, _BLOCK).mean(axis=(3, 5))
    return float(blocks.min(axis=(0, 1)).mean())


def _new_colours(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """The share of cells, 0 to 1, whose colour has no counterpart, in a histogram of 8 x 8 x 8 colours."""
    colours = ((thumb // 32).astype(np.int64).reshape(-1, 3) @ (64, 8, 1) for thumb in (before, after))
    counts = [np.bincount(colour, minlength=512) for colour in colours]
    return 1 - float(np.minimum(*counts).sum() / counts[0].sum())


def _halved(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (extent // 2 for extent in grey.shape)
    if not rows or not columns:
        return grey
    return grey[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
