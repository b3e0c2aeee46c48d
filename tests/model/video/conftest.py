"""Tiny real clips whose frames carry their own number as black and white bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 8
WIDTH, HEIGHT = 96, 64


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8: `number` in eight vertical bars, lowest bit first; top rows red, bottom rows blue."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    edges = np.linspace(0, width, BITS + 1).astype(int)
    for bit in range(BITS):
        image[:, edges[bit] : edges[bit + 1]] = 235 if number >> bit & 1 else 16
    image[: height // 8] = (220, 30, 30)
    image[-(height // 8) :] = (30, 30, 220)
    return image


def read_number(image: np.ndarray) -> int:
    """The number that `draw` put in."""
    height, width = image.shape[:2]
    centres = (np.arange(BITS) + 0.5) * width / BITS
    row = image[height // 2 - 4 : height // 2 + 4].mean(axis=(0, 2))
    return sum(1 << bit for bit, centre in enumerate(centres) if row[int(centre)] > 126)


def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int | Iterable[np.ndarray] = 30,
    width: int = WIDTH,
    height: int = HEIGHT,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    rate: Fraction | int = 25,
    gop: int = 10,
    b_frames: int | None = 2,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    aspect: Fraction | None = None,
    container_options: dict[str, str] | None = None,
    audio: bool = False,
) -> Path:
    """Encode numbered frames (or the images given) with PyAV."""
    images = [draw(i, width, height) for i in range(frames)] if isinstance(frames, int) else list(frames)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = options or {}
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        sound = container.add_stream("aac", rate=8000) if audio else None
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = (i if times is None else times[i]), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts = 8000, 0
            container.mux(sound.encode(tone))
            container.mux(sound.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
        tone.sample_rate, tone.pts = 8000, 0
        container.mux(stream.encode(tone))
        container.mux(stream.encode(None))
    return path


def spoil(path: Path, index: int) -> None:
    """Overwrite the content of one packet in place."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][index]
        body = bytes(packet)
    data = bytearray(path.read_bytes())
    at = data.index(body)
    data[at : at + len(body)] = b"\xaa" * len(body)
    path.write_bytes(data)


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    """`write_clip`."""
    return write_clip


@pytest.fixture(scope="session")
def sound() -> Callable[[Path], Path]:
    """`write_sound`."""
    return write_sound


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """`draw`."""
    return draw


@pytest.fixture(scope="session")
def number() -> Callable[[np.ndarray], int]:
    """`read_number`."""
    return read_number


@pytest.fixture(scope="session")
def bframes_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames of H.264 with B-frames and four groups of pictures."""
    return write_clip(
        tmp_path_factory.mktemp("clips") / "b.mp4", frames=40, gop=10, options={"bf": "3", "sc_threshold": "0"}
    )


@pytest.fixture(scope="session")
def spoil_packet() -> Callable[[Path, int], None]:
    """`spoil`."""
    return spoil
