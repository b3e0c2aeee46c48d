from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from model.errors import MediaError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.lookahead import encode_ahead
from model.rendered import RenderedClip
from model.video import Frame

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
