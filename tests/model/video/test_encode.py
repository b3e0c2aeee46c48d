from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from model.errors import MediaError
from model.video import encode_video, open_video

Picture = Callable[..., np.ndarray]
Number = Callable[[np.ndarray], int]


def test_what_is_written_is_read_back(tmp_path: Path, picture: Picture, number: Number) -> None:
    rate = Fraction(30000, 1001)
    assert encode_video(tmp_path / "a.mp4", (picture(i) for i in range(50)), fps=rate) == 50
    with open_video(tmp_path / "a.mp4") as source:
        assert (source.info.codec, source.info.fps, source.info.frame_count) == ("h264", rate, 50)
        assert [number(frame.image) for frame in source.frames()] == list(range(50))
        assert [source.table.time_ms(i) for i in (0, 1, 30)] == [0, 33, 1001]


def test_variable_frame_rate_survives(tmp_path: Path, picture: Picture, number: Number) -> None:
    times = [0, 33, 67, 500, 501, 1234, 2000, 2040]
    encode_video(tmp_path / "v.mp4", map(picture, range(8)), fps=Fraction(4), pts_ms=times)
    with open_video(tmp_path / "v.mp4") as source:
        assert [(frame.time_ms, number(frame.image)) for frame in source.frames()] == [
            (time, i) for i, time in enumerate(times)
        ]


@pytest.mark.parametrize(("width", "height"), [(97, 64), (96, 63), (95, 61), (2, 2), (1, 1)])
def test_odd_sizes_are_padded_by_replication(tmp_path: Path, picture: Picture, width: int, height: int) -> None:
    image = picture(129, width, height)
    encode_video(tmp_path / "o.mp4", [image] * 3, fps=Fraction(25), crf=1)
    with open_video(tmp_path / "o.mp4") as source:
        shown = source.frame(2).image.astype(int)
    assert shown.shape == (height + height % 2, width + width % 2, 3)
    if width > 2:
        padding = ((0, height % 2), (0, width % 2), (0, 0))
        assert np.abs(shown - np.pad(image, padding, mode="edge")).mean() < 6


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128), (250, 250, 250), (5, 5, 5), (240, 200, 20)]
    images = [np.full((48, 64, 3), colour, dtype=np.uint8) for colour in colours]
    encode_video(tmp_path / "c.mp4", images, fps=Fraction(25), crf=5)
    with open_video(tmp_path / "c.mp4") as source:
        for frame, colour in zip(source.frames(), colours, strict=True):
            assert np.abs(frame.image[24, 32].astype(int) - colour).max() <= 4
    with av.open(str(tmp_path / "c.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.pix_fmt, codec.colorspace, codec.color_range) == ("yuv420p", 1, 1)


def test_the_index_lies_in_front(tmp_path: Path, picture: Picture) -> None:
    encode_video(tmp_path / "f.mp4", map(picture, range(5)), fps=Fraction(25))
    data = (tmp_path / "f.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_pixel_shape(tmp_path: Path, picture: Picture) -> None:
    encode_video(tmp_path / "s.mp4", [picture(0)], fps=Fraction(25), sample_aspect_ratio=Fraction(4, 3))
    with open_video(tmp_path / "s.mp4") as source:
        assert source.info.sample_aspect_ratio == Fraction(4, 3)


def test_failures_leave_nothing_behind(tmp_path: Path, picture: Picture) -> None:
    def breaking() -> Iterator[np.ndarray]:
        yield picture(0)
        raise RuntimeError("broken")

    path = tmp_path / "x.mp4"
    with pytest.raises(MediaError) as raised:
        encode_video(path, [], fps=Fraction(25))
    assert raised.value.slug == "no-frames"
    with pytest.raises(RuntimeError, match="broken"):
        encode_video(path, breaking(), fps=Fraction(25))
    with pytest.raises(ValueError, match="shape"):
        encode_video(path, [picture(0), picture(0, 64, 64)], fps=Fraction(25))
    with pytest.raises(ValueError, match="increase"):
        encode_video(path, [picture(0), picture(1)], fps=Fraction(25), pts_ms=[5, 5])
    with pytest.raises(ValueError, match="zip"):
        encode_video(path, [picture(0), picture(1)], fps=Fraction(25), pts_ms=[5])
    assert not path.exists()
