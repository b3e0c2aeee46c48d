from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.errors import LabelError
from model.labels import indexed_png


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


@pytest.fixture
def index_map() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 53)).astype(np.uint8)


def test_every_value_round_trips(index_map: np.ndarray) -> None:
    data = indexed_png.encode(index_map)
    assert np.array_equal(indexed_png.decode(data), index_map)
    assert data == indexed_png.encode(index_map.copy())


def test_what_is_written_is_an_8_bit_palette_png_with_the_davis_palette() -> None:
    data = indexed_png.encode(np.array([[0, 1], [2, 1]], np.uint8))
    assert data[24] == 8
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    assert image.convert("RGB").getpixel((0, 1)) == (0, 128, 0)
    assert len(image.getpalette() or ()) == 768


def test_the_palette_is_the_one_of_davis() -> None:
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [indexed_png.colour_of(i) for i in range(7)] == first
    assert indexed_png.colour_of(8) == (64, 0, 0)
    assert indexed_png.colour_of(255) == (224, 224, 192)
    assert len({tuple(colour) for colour in indexed_png.palette().tolist()}) == 256


def test_a_palette_png_is_read_by_its_indices_whatever_its_colours() -> None:
    image = Image.fromarray(np.array([[3, 0], [7, 3]], np.uint8))
    image.putpalette([200] * 768)
    assert indexed_png.decode(png(image)).tolist() == [[3, 0], [7, 3]]
    assert indexed_png.decode(png(image, transparency=0)).tolist() == [[3, 0], [7, 3]]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_small_palettes_are_read_by_their_indices(depth: int) -> None:
    top = 2**depth - 1
    image = Image.fromarray(np.array([[0, top, 1]], np.uint8))
    image.putpalette([9] * 3 * (top + 1))
    data = png(image, bits=depth)
    assert data[24] == depth
    assert indexed_png.decode(data).tolist() == [[0, top, 1]]


def test_grey_and_one_bit_pngs_are_read_by_their_values() -> None:
    values = np.array([[0, 1, 255, 17]], np.uint8)
    assert np.array_equal(indexed_png.decode(png(Image.fromarray(values))), values)
    assert indexed_png.decode(png(Image.fromarray(values > 1))).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_pngs_whose_pixels_are_no_ids_are_refused_with_advice(mode: str) -> None:
    with pytest.raises(LabelError, match="Save it as an 8-bit indexed") as caught:
        indexed_png.decode(png(Image.new(mode, (4, 3))))
    assert caught.value.slug == "bad-mask"


@pytest.mark.parametrize("depth", [2, 4])
def test_grey_of_two_or_four_bits_is_refused(depth: int) -> None:
    with pytest.raises(LabelError, match=f"{depth} bits"):
        indexed_png.decode(raw_png(2, 1, depth, 0, b"\0\x40"))


def test_other_formats_and_rubbish_are_refused(index_map: np.ndarray) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(index_map).save(jpeg, "JPEG")
    good = indexed_png.encode(index_map)
    for data in (b"", b"PNG", jpeg.getvalue(), b"\x89PNG\r\n\x1a\n" + bytes(40), good[:20], good[:33]):
        with pytest.raises(LabelError) as caught:
            indexed_png.decode(data)
        assert caught.value.slug == "bad-mask"


def test_an_animated_png_is_refused() -> None:
    frames = [Image.new("L", (3, 3), value) for value in (0, 1)]
    with pytest.raises(LabelError, match="animated"):
        indexed_png.decode(png(frames[0], save_all=True, append_images=frames[1:]))


@given(st.integers(0, 10**6), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_byte_is_read_or_refused_but_never_anything_else(place: int, value: int) -> None:
    values = np.random.default_rng(0).integers(0, 6, (20, 30)).astype(np.uint8)
    data = bytearray(indexed_png.encode(values))
    data[place % len(data)] = value
    try:
        result = indexed_png.decode(bytes(data), size=(30, 20)).shape
    except LabelError as error:
        result = error.slug
    assert result in ((20, 30), "bad-mask", "mask-size-mismatch")


@given(st.integers(0, 1500))
@settings(max_examples=60, deadline=None)
def test_a_cut_png_is_refused(length: int) -> None:
    data = indexed_png.encode(np.random.default_rng(0).integers(0, 6, (40, 60)).astype(np.uint8))
    with pytest.raises(LabelError):
        indexed_png.decode(data[: min(length, len(data) - 20)])


def test_another_size_names_both_sizes(index_map: np.ndarray) -> None:
    with pytest.raises(LabelError, match="53 x 37 pixels, but the video's frames are 37 x 53") as caught:
        indexed_png.decode(indexed_png.encode(index_map), size=(37, 53))
    assert caught.value.slug == "mask-size-mismatch"


def test_a_bomb_is_refused_by_its_header_alone() -> None:
    bomb = raw_png(50_000, 50_000, 8, 0, b"")  # were it decoded, its missing rows would be the complaint
    with pytest.raises(LabelError, match="larger than the 9437184 pixels") as caught:
        indexed_png.decode(bomb)
    assert caught.value.slug == "bad-mask"
    with pytest.raises(LabelError, match="damaged"):
        indexed_png.decode(raw_png(20_000, 20_000, 8, 0, b""), max_pixels=10**9)


def test_a_text_chunk_that_unpacks_to_gigabytes_is_refused() -> None:
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(100_000_000)))
    with pytest.raises(LabelError) as caught:
        indexed_png.decode(raw_png(2, 1, 8, 0, b"\0\1\2", extra=bomb))
    assert caught.value.slug == "bad-mask"


def test_only_0_and_255_are_one_object() -> None:
    values = np.array([[0, 255, 255]], np.uint8)
    masks, void = indexed_png.split(values)
    assert (list(masks), void) == ([1], None)
    assert masks[1].tolist() == [[False, True, True]]


def test_otherwise_255_is_void_and_every_other_value_an_object() -> None:
    values = np.array([[0, 255, 9, 2, 9]], np.uint8)
    masks, void = indexed_png.split(values)
    assert list(masks) == [2, 9]
    assert void is not None
    assert void.tolist() == [[False, True, False, False, False]]
    assert masks[9].tolist() == [[False, False, True, False, True]]


def test_no_objects_and_no_void() -> None:
    assert indexed_png.split(np.zeros((2, 2), np.uint8)) == ({}, None)
    masks, void = indexed_png.split(np.full((2, 2), 254, np.uint8))
    assert (list(masks), void) == ([254], None)


def test_flatten_lets_the_higher_id_win_whatever_the_order() -> None:
    left, right = np.array([[True, True, False, False]]), np.array([[False, True, True, False]])
    assert indexed_png.flatten({7: right, 3: left}).tolist() == [[3, 7, 7, 0]]
    assert indexed_png.flatten({3: right, 7: left}).tolist() == [[7, 7, 3, 0]]


def test_flatten_puts_void_below_every_object() -> None:
    void = np.array([[True, True]])
    assert indexed_png.flatten({1: np.array([[True, False]])}, void=void).tolist() == [[1, 255]]


def test_flatten_needs_a_shape() -> None:
    assert indexed_png.flatten({}, shape=(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="shape"):
        indexed_png.flatten({})
    with pytest.raises(ValueError, match="object 2"):
        indexed_png.flatten({1: np.zeros((2, 2), bool), 2: np.zeros((1, 2), bool)})
