"""Pictures that show by eye whether a training is on its way. Torch-free.

All pictures given are (height, width, 3) uint8 RGB; batches of them may be arrays of one more dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.pictures import Picture, montage, scaled

_BOX, _BOX_EDGE = (255, 214, 10), (20, 20, 20)


def localisation_picture(
    patch: Iterable[Picture],
    frame: Iterable[Picture],
    box: Iterable[Sequence[float] | NDArray[np.floating]],
    reconstruction: Iterable[Picture],
    truth: Iterable[Picture],
    *,
    names: Sequence[str] = (),
    height: int = 160,
) -> Image.Image:
    """Where patches were found in whole frames, and what was rebuilt there: a row per sample.

    A row shows the patch, the frame with the box drawn where the patch was localised, the reconstruction of what is in
    that box, and what is truly there.

    Args:
        patch, frame, reconstruction, truth: as many pictures each, of any sizes.
        box: for each, (x, y, width, height) in its frame's pixels, the top-left pixel's centre at (0.5, 0.5). It may
            reach beyond the frame; what is beyond is not seen. One that is not finite is not drawn.
        names: what each sample is, a line above its row.
        height: of each picture, in pixels.

    Raises:
        ValueError: they differ in number, or a picture is not (height, width, 3) uint8, or is empty.
    """
    rows = [
        (a, _boxed(whole, found, height), b, c)
        for a, whole, found, b, c in zip(patch, frame, box, reconstruction, truth, strict=True)
    ]
    return montage(rows, captions=("patch", "found in", "rebuilt", "truth"), names=names, height=height)


def _boxed(frame: Picture, box: Sequence[float] | NDArray[np.floating], height: int) -> Picture:
    """The frame at its final size, so that the box's line is equally thick on all frames."""
    x, y, width, extent = (float(value) for value in box)
    picture = scaled(frame, height)
    if all(map(math.isfinite, (x, y, width, extent))):
        across, down = picture.width / frame.shape[1], height / frame.shape[0]
        # Pillow names pixels by their index, and its rectangle's ends are part of it.
        corners = (x * across, y * down, (x + width) * across - 1, (y + extent) * down - 1)
        left, top, right, bottom = (min(max(round(value), -4 * height), 8 * picture.width) for value in corners)
        right, bottom = max(left, right), max(top, bottom)
        pen = ImageDraw.Draw(picture)
        thick = max(2, height // 80)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_BOX_EDGE, width=thick + 2)
        pen.rectangle((left, top, right, bottom), outline=_BOX, width=thick)
    return np.asarray(picture)
