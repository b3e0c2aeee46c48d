"""Pictures that show by eye whether a training is on its way. Torch-free.

All pictures given are (height, width, 3) uint8 RGB; batches of them may be arrays of one more dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)
_BOX, _BOX_EDGE = (255, 214, 10), (20, 20, 20)


def montage(
    rows: Iterable[Iterable[Picture]],
    *,
    captions: Sequence[str] = (),
    names: Sequence[str] = (),
    height: int = 160,
    gap: int = 6,
) -> Image.Image:
    """Pictures of any sizes in rows and columns, all brought to one height.

    Larger ones are averaged; smaller ones are repeated pixel by pixel, so that it can be seen how small they are.

    Args:
        rows: may differ in length.
        captions: one above each column; may be fewer than the columns.
        names: one above each row; may be fewer than the rows. What does not fit into the width is cut off. The font
            knows Latin letters only.
        height: of each picture, in pixels.
        gap: between them and around.

    Returns:
        An RGB picture; of the gaps alone where there are no rows.

    Raises:
        ValueError: a picture is not (height, width, 3) uint8, or is empty.
    """
    cells = [[_scaled(picture, height) for picture in row] for row in rows]
    font = _font(max(10, height // 12))
    line = math.ceil(font.getbbox("Ág")[3]) + 2
    columns = max(len(captions), *map(len, cells), 0) if cells else len(captions)
    widths = [max((row[i].width for row in cells if i < len(row)), default=0) for i in range(columns)]
    widths = [
        max(width, math.ceil(font.getlength(caption)))
        for width, caption in zip(widths, [*captions, *[""] * columns], strict=False)
    ]
    heads = [line if i < len(names) else 0 for i in range(len(cells))]
    top = gap + (line if captions else 0)
    sheet = Image.new(
        "RGB",
        (gap + sum(width + gap for width in widths), top + sum(head + height + gap for head in heads)),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    lefts = [gap + sum(widths[:i]) + gap * i for i in range(columns)]
    for left, caption in zip(lefts, captions, strict=False):
        pen.text((left, gap), caption, font=font, fill=_INK)
    for i, row in enumerate(cells):
        if i < len(names):
            pen.text((gap, top), names[i], font=font, fill=_FAINT)
        for left, cell in zip(lefts, row, strict=False):
            sheet.paste(cell, (left, top + heads[i]))
        top += heads[i] + height + gap
    return sheet


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
    picture = _scaled(frame, height)
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


def _scaled(picture: Picture, height: int) -> Image.Image:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"a picture is (height, width, 3) uint8, not {picture.shape} {picture.dtype}")
    image = Image.fromarray(picture)
    size = (max(1, round(image.width * height / image.height)), height)
    smaller = height < image.height
    return image.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
