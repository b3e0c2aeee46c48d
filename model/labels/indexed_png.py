"""Indexed PNG: one 8-bit picture whose pixel values are object ids, as DAVIS, YouTube-VOS and PASCAL VOC use it.

0 is the background, 1..254 are object ids, 255 is void (belongs to nothing and is not learned from), except that a
picture whose only values are 0 and 255 is a plain black-and-white mask of object 1.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import LabelError
from model.labels.types import Colour, Mask

MAX_PIXELS = 4096 * 2304
VOID = 255
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # PNG colour types
_ADVICE = "Save it as an 8-bit indexed (palette) or 8-bit grey PNG whose pixel values are the object ids."


def decode(data: bytes, *, size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """A PNG's pixel values (height, width), which for a palette PNG are the indices and not the colours.

    Palette PNGs of any depth, 8-bit grey, and 1-bit grey (0 and 1) are read. The header is checked before anything is
    decompressed.

    Args:
        data: the file's bytes.
        size: the frame's (width, height), when the mask must have it.
        max_pixels: refuse anything larger before it takes memory.

    Raises:
        LabelError: `bad-mask` for anything that is no such PNG, is damaged or is too large; `mask-size-mismatch`,
            naming both sizes, for another size than `size`.
    """
    width, height, depth, colour_type = _header(data)
    if size is not None and (width, height) != tuple(size):
        raise LabelError(
            f"The mask is {width} x {height} pixels, but the video's frames are {size[0]} x {size[1]}."
            " Draw the mask on a frame of the video at its full size.",
            slug="mask-size-mismatch",
        )
    if width * height > max_pixels:
        raise _bad(f"The mask of {width} x {height} pixels is larger than the {max_pixels} pixels allowed.")
    if colour_type not in (_GREY, _PALETTE):
        raise _bad(f"The mask is a colour PNG or has an alpha channel, so its pixels are not object ids. {_ADVICE}")
    if colour_type == _GREY and depth not in (1, 8):
        raise _bad(f"The mask is a grey PNG of {depth} bits a pixel. {_ADVICE}")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if getattr(image, "is_animated", False):
                raise _bad(f"The mask is an animated PNG. {_ADVICE}")
            image.load()
            return np.array(image, np.uint8)
    except LabelError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise _bad(f"The mask is a damaged PNG and cannot be read ({error}). {_ADVICE}") from None


def split(index_map: NDArray[np.uint8]) -> tuple[dict[int, Mask], Mask | None]:
    """The mask (height, width) of every object in an index map by id, ascending, and the mask of its void pixels."""
    values = np.flatnonzero(np.bincount(index_map.reshape(-1), minlength=256)).tolist()
    ids = [value for value in values if value not in (0, VOID)]
    void = index_map == VOID if VOID in values else None
    if void is not None and not ids:
        return {1: void}, None
    return {value: index_map == value for value in ids}, void


def encode(index_map: NDArray[np.uint8]) -> bytes:
    """An index map (height, width) as an 8-bit PNG with the palette of DAVIS and VOC. Same input, same bytes."""
    image = Image.fromarray(np.ascontiguousarray(index_map, np.uint8))
    image.putpalette(_PALETTE_BYTES)
    file = io.BytesIO()
    image.save(file, "PNG", bits=8)
    return file.getvalue()


def flatten(
    masks: Mapping[int, Mask], *, shape: tuple[int, int] | None = None, void: Mask | None = None
) -> NDArray[np.uint8]:
    """One index map (height, width) of masks that may overlap: the higher id wins.

    Args:
        masks: by object id.
        shape: (height, width), needed when there is no mask to take it from.
        void: pixels to set to 255 where no object is.

    Raises:
        ValueError: neither a mask nor a shape, or masks of different shapes.
    """
    if shape is None:
        if not masks:
            raise ValueError("flatten needs a shape when there are no masks")
        shape = next(iter(masks.values())).shape
    index_map = np.zeros(shape, np.uint8)
    if void is not None:
        index_map[void] = VOID
    for value in sorted(masks):
        if masks[value].shape != shape:
            raise ValueError(f"the mask of object {value} is {masks[value].shape}, not {shape}")
        index_map[masks[value]] = value
    return index_map


def palette() -> NDArray[np.uint8]:
    """The 256 colours of DAVIS and VOC, (256, 3): an index's bits spread over the high bits of red, green and blue."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> channel & 1) << (7 - bit)).astype(np.uint8)
        index = index >> 3
    return colours


def colour_of(object_id: int) -> Colour:
    """The palette's colour for an object, (red, green, blue)."""
    red, green, blue = _COLOURS[object_id].tolist()
    return red, green, blue


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bit depth and colour type from the first chunk, which is all that a size check needs."""
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise _bad(f"The mask is not a PNG file. {_ADVICE}")
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26])
    if not width or not height:
        raise _bad(f"The mask is a PNG of {width} x {height} pixels. {_ADVICE}")
    return width, height, depth, colour_type


def _bad(detail: str) -> LabelError:
    return LabelError(detail, slug="bad-mask")


_COLOURS = palette()
_PALETTE_BYTES = _COLOURS.tobytes()
