from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import MediaError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept import KeptFeatures
from model.lookahead import encode_ahead
from model.rendered import RenderedClip
from model.video import Frame, FrameTable

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = Grid.fit(64, 48, 480)
FramesOf = Callable[[RenderedClip], list[Frame]]


@pytest.mark.parametrize("workers", [0, 1, 2, 5, 40, None])
def test_every_number_of_workers_gives_the_same_features_in_order(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, workers: int | None
) -> None:
    frames = frames_of(clip)
    expected = [extractor(frame.image, GRID) for frame in frames]
    found = list(encode_ahead(extractor, GRID, frames, workers=workers))
    assert [frame for frame, _ in found] == frames
    assert all(torch.equal(features, one) for (_, features), one in zip(found, expected, strict=True))


def test_frames_are_encoded_together_where_the_extractor_takes_several(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, kept: KeptFeatures
) -> None:
    together: list[int] = []

    class Watched(FeatureExtractor):
        def encode(self, images: Sequence[np.ndarray], grid: Grid) -> list[torch.Tensor]:
            together.append(len(images))
            return super().encode(images, grid)

    def damaged() -> Iterator[Frame]:
        yield from frames_of(clip)[:11]
        raise MediaError("damaged", slug="undecodable-frame")

    watched = Watched(extractor.checkpoint, device="cpu", dtype=torch.float32, batch=4)
    with kept.passage(watched, GRID, range(12)) as passage:
        list(encode_ahead(watched, GRID, frames_of(clip)[2:4], workers=0, kept=passage))
    with kept.passage(watched, GRID, range(12)) as passage:
        ahead = encode_ahead(watched, GRID, damaged(), workers=0, kept=passage)
        found = [next(ahead) for _ in range(11)]
        with pytest.raises(MediaError):
            next(ahead)
    assert together == [2, 2, 4, 3]
    for frame, features in found:
        assert torch.equal(features, watched(frame.image, GRID)), "a frame's company leaves no trace"
        torch.testing.assert_close(features, extractor(frame.image, GRID), atol=2e-3, rtol=0)


def test_two_caller_threads_make_no_difference(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
) -> None:
    expected = list(encode_ahead(extractor, GRID, frames_of(clip), workers=2))
    torch.set_num_threads(4)
    found = list(encode_ahead(extractor, GRID, frames_of(clip), workers=2))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))
    assert torch.get_num_threads() == 4  # the workers' share is theirs alone


@pytest.mark.parametrize(("workers", "most"), [(0, 1), (2, 5)])
def test_only_a_few_frames_are_read_ahead(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, workers: int, most: int
) -> None:
    read = 0

    def counted() -> Iterator[Frame]:
        nonlocal read
        for frame in frames_of(clip):
            read += 1
            yield frame

    for number, _ in enumerate(encode_ahead(extractor, GRID, counted(), workers=workers)):
        assert read <= number + most


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_frames_before_an_unreadable_one_all_come_first(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, workers: int
) -> None:
    def damaged() -> Iterator[Frame]:
        yield from frames_of(clip)[:4]
        raise MediaError("Frame 4 cannot be decoded.", slug="frame-unreadable")

    ahead = encode_ahead(extractor, GRID, damaged(), workers=workers)
    assert [next(ahead)[0].index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(MediaError, match="Frame 4"):
        next(ahead)


@pytest.mark.parametrize("workers", [0, 2])
def test_closing_early_ends_the_threads(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, workers: int
) -> None:
    before = threading.active_count()
    ahead = encode_ahead(extractor, GRID, frames_of(clip), workers=workers)
    next(ahead)
    ahead.close()
    assert threading.active_count() == before


def test_no_frames_no_features(extractor: FeatureExtractor) -> None:
    assert list(encode_ahead(extractor, GRID, [], workers=2)) == []


@pytest.fixture
def kept(tmp_path: Path) -> KeptFeatures:
    table = FrameTable(np.arange(12, dtype=np.int64), np.ones(12, np.bool_), Fraction(1, 25))
    return KeptFeatures(tmp_path / "features", 1 << 24, video_sha256="1", table=table, model_sha256="2")


class _NotToBeUsed(FeatureExtractor):
    """An extractor of which nothing should be asked."""

    def encode(self, images: Sequence[np.ndarray], grid: Grid) -> list[torch.Tensor]:
        raise AssertionError("these features were kept")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_second_time_nothing_is_decoded_or_encoded(
    extractor: FeatureExtractor,
    clip: RenderedClip,
    frames_of: FramesOf,
    kept: KeptFeatures,
    workers: int,
    dtype: torch.dtype,
) -> None:
    encoder, never = (
        kind(extractor.checkpoint, device="cpu", dtype=dtype) for kind in (FeatureExtractor, _NotToBeUsed)
    )
    with kept.passage(encoder, GRID, range(12)) as passage:
        first = list(encode_ahead(encoder, GRID, frames_of(clip), workers=workers, kept=passage))
    undecoded = [Frame(i, 40 * i, pytest.fail) for i in range(12)]
    with kept.passage(never, GRID, range(12)) as passage:
        second = list(encode_ahead(never, GRID, undecoded, workers=workers, kept=passage))
    assert [frame for frame, _ in second] == undecoded
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_missing_or_damaged_is_computed_and_kept(
    extractor: FeatureExtractor,
    clip: RenderedClip,
    frames_of: FramesOf,
    kept: KeptFeatures,
    workers: int,
    tmp_path: Path,
) -> None:
    expected = [extractor(frame.image, GRID) for frame in frames_of(clip)]
    with kept.passage(extractor, GRID, range(12)) as passage:
        list(encode_ahead(extractor, GRID, frames_of(clip)[2:8], workers=workers, kept=passage))
    (path,) = tmp_path.glob("features/*/*.features")
    with path.open("r+b") as file:
        file.seek(-100, 2)  # in the last frame
        file.write(b"\xaa\xbb\xcc")
    for _ in range(2):
        with kept.passage(extractor, GRID, range(12)) as passage:
            found = list(encode_ahead(extractor, GRID, frames_of(clip), workers=workers, kept=passage))
            assert all(torch.equal(features, one) for (_, features), one in zip(found, expected, strict=True))
    with kept.passage(extractor, GRID, range(12)) as passage:
        for index in range(12):
            features = passage.load(index)
            assert features is not None
            assert torch.equal(features, expected[index])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_frame_whose_damage_shows_late_is_named_after_those_before_it(
    extractor: FeatureExtractor,
    clip: RenderedClip,
    frames_of: FramesOf,
    kept: KeptFeatures,
    workers: int,
    tmp_path: Path,
) -> None:
    with kept.passage(extractor, GRID, range(12)) as passage:
        list(encode_ahead(extractor, GRID, frames_of(clip), workers=0, kept=passage))
    (path,) = tmp_path.glob("features/*/*.features")
    data = bytearray(path.read_bytes())
    data[8192 + 3 * (len(data) - 8192) // 12 + 5] ^= 1
    path.write_bytes(data)

    def unreadable() -> np.ndarray:
        raise MediaError("Frame 3 cannot be decoded.", slug="frame-unreadable")

    with kept.passage(extractor, GRID, range(12)) as passage:
        ahead = encode_ahead(
            extractor, GRID, [Frame(i, 0, unreadable) for i in range(12)], workers=workers, kept=passage
        )
        assert [next(ahead)[0].index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(MediaError, match="Frame 3"):
            next(ahead)
