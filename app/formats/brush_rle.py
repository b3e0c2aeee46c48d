"""Label Studio's run lengths of brush masks: the bit stream of `@thi.ng/rle-pack`.

A header of 32 bits (the number of values), 5 (bits a value, less one) and four times 4 (bits of each class of length,
less one), then blocks: 1 bit (a run, or single values), 2 bits (the class), the length less one, and the value, or the
values. Most significant bit first, the last byte filled with zeros; the list holds the bytes as integers. The values
are the picture's RGBA channels, row by row; the mask is the alpha channel.

Label Studio writes 8-bit values and lengths of 3, 4, 8 and 16 bits; so do we, with the mask in all four channels, as
its own converter does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.errors import LabelError
from model.labels.types import Mask

_CHANNELS = 4
_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST = 1 << 16
_HEADER_BITS = 32 + 5 + 4 * len(_LENGTH_BITS)
_OPAQUE = 128
MAX_PIXELS = 4096 * 2304
MAX_BYTES = 64 << 20


def encode(mask: Mask) -> list[int]:
    """A mask (height, width) as the integers of a result's `rle`."""
    flat = np.ascontiguousarray(mask, np.bool_).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size) * _CHANNELS
    values = flat[starts].astype(np.int64) * 255
    whole, rest = np.divmod(lengths, _LONGEST)
    pieces = whole + (rest > 0)
    length = np.full(int(pieces.sum()), _LONGEST, np.int64)
    last = np.cumsum(pieces) - 1
    length[last[rest > 0]] = rest[rest > 0]
    kind = np.searchsorted([1 << bits for bits in _LENGTH_BITS], length)
    size = np.array(_LENGTH_BITS)[kind]
    block = (((4 + kind) << size) + length - 1 << _VALUE_BITS) + np.repeat(values, pieces)
    header = flat.size * _CHANNELS
    for bits, value in ((5, _VALUE_BITS - 1), *((4, bits - 1) for bits in _LENGTH_BITS)):
        header = (header << bits) + value
    stream = np.concatenate((_bits(np.array([header]), np.array([_HEADER_BITS])), _bits(block, 3 + size + _VALUE_BITS)))
    packed: list[int] = np.packbits(stream).tolist()
    return packed


def decode(data: Sequence[int], *, size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> Mask:
    """The mask (height, width) of a result's `rle`: the pixels that are at least half opaque.

    Args:
        data: the integers.
        size: the picture's (width, height), the result's `original_width` and `original_height`.
        max_pixels: refuse anything larger before it takes memory.

    Raises:
        LabelError: `bad-rle` for every fault of the encoding.
    """
    width, height = size
    if width < 1 or height < 1 or width * height > max_pixels:
        raise _bad(f"The brush's picture of {width} x {height} pixels is empty, or larger than {max_pixels} pixels.")
    stream = _Stream(_bytes(data))
    count, value_bits = stream.read(32), stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in _LENGTH_BITS]
    if value_bits != _VALUE_BITS:
        raise _bad(f"The brush has values of {value_bits} bits; Label Studio's have {_VALUE_BITS}.")
    if count != width * height * _CHANNELS:
        raise _bad(
            f"The brush holds {count} values, but {width} x {height} pixels of RGBA are {width * height * _CHANNELS}."
            " `original_width` and `original_height` must be those of the picture it was drawn on."
        )
    out = np.empty(count, np.uint8)
    at = 0
    while at < count:
        run, kind = divmod(stream.read(3), 4)
        end = at + 1 + stream.read(sizes[kind])
        if end > count:
            raise _bad(f"The brush holds more than the {count} values that it announces.")
        out[at:end] = stream.read(_VALUE_BITS) if run else stream.read_bytes(end - at)
        at = end
    return out.reshape(height, width, _CHANNELS)[:, :, 3] >= _OPAQUE


class _Stream:
    """Bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, bits: int) -> int:
        """The next `bits` bits as a number."""
        start, self._at = self._at, self._at + bits
        stop = self._at + 7 >> 3
        if stop > len(self._data):
            raise _bad("The brush ends in the middle of a block; it may have been cut off.")
        window = int.from_bytes(self._data[start >> 3 : stop], "big")
        return window >> (stop * 8 - self._at) & (1 << bits) - 1

    def read_bytes(self, count: int) -> NDArray[np.uint8]:
        """The next `count` values of 8 bits."""
        number = self.read(8 * count)
        return np.frombuffer(number.to_bytes(count, "big"), np.uint8)


def _bytes(data: Sequence[int]) -> bytes:
    if isinstance(data, str | bytes) or not isinstance(data, Sequence) or len(data) > MAX_BYTES:
        raise _bad(f"A brush's `rle` is a list of at most {MAX_BYTES} integers.")
    try:
        return bytes(data)
    except (TypeError, ValueError):
        raise _bad("A brush's `rle` is a list of integers from 0 to 255.") from None


def _bits(numbers: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The lowest `sizes[i]` bits of each number, one after the other."""
    first = np.cumsum(sizes) - sizes
    place = np.repeat(sizes - 1 + first, sizes) - np.arange(int(sizes.sum()))
    bits: NDArray[np.uint8] = (np.repeat(numbers, sizes) >> place & 1).astype(np.uint8)
    return bits


def _bad(detail: str) -> LabelError:
    return LabelError(detail, slug="bad-rle")
