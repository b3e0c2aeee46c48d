"""Pictures side by side, to see by eye what numbers do not say. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
"""(height, width, 3) RGB."""

_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)


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
    cells = [[scaled(picture, height) for picture in row] for row in rows]
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


def scaled(picture: Picture, height: int) -> Image.Image:
    """A picture brought to a height, as `montage` does it."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"a picture is (height, width, 3) uint8, not {picture.shape} {picture.dtype}")
    image = Image.fromarray(picture)
    size = (max(1, round(image.width * height / image.height)), height)
    smaller = height < image.height
    return image.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
