from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import MediaError
from model.video import Frame, VideoSource, open_video, probe, read_backward, read_forward
from model.video.forward import read_only

Number = Callable[[np.ndarray], int]


class Counted:
    """How many frames a source decodes, beyond those that are passed over on the way to one."""

    def __init__(self, source: VideoSource, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[int] = []
        usual = source.frames

        def frames(*given: int) -> Iterator[Frame]:
            for frame in usual(*given):
                self.decoded.append(frame.index)
                yield frame

        monkeypatch.setattr(source, "frames", frames)


@pytest.mark.parametrize("where", [(0, None, 1), (5, 33, 1), (3, 40, 4), (7, 7, 1)])
@pytest.mark.parametrize("read", [read_forward, read_backward])
def test_frames_that_are_left_for_later_are_not_decoded(
    bframes_mp4: Path, number: Number, monkeypatch: pytest.MonkeyPatch, where: tuple[int, int | None, int], read: object
) -> None:
    left = {*range(6, 20), 23, *range(30, 32)}
    with open_video(bframes_mp4) as source:
        counted = Counted(source, monkeypatch)
        frames = list(read(source, *where, later=left.__contains__))  # type: ignore[operator]
        expected = list(range(where[0], where[1] or (40 if where[1] is None else where[1]), where[2]))
        assert sorted(frame.index for frame in frames) == expected
        assert [frame.index for frame in frames] == expected[:: 1 if read is read_forward else -1]
        assert counted.decoded and set(counted.decoded).isdisjoint(left) if expected else not counted.decoded
        assert [frame.decoded for frame in frames] == [frame.index not in left for frame in frames]
        # And whoever needs the pixels after all gets them, under the same index and time.
        assert [number(frame.image) for frame in frames] == [frame.index for frame in frames]
        assert [frame.time_ms for frame in frames] == [40 * frame.index for frame in frames]


@pytest.mark.parametrize("read", [read_forward, read_backward])
def test_pixels_do_not_depend_on_what_was_left_out(bframes_mp4: Path, read: object) -> None:
    with open_video(bframes_mp4) as source:
        whole = {frame.index: frame.image for frame in source.frames()}
        for left in (range(20), range(1, 40, 2), range(35), range(12, 14)):
            for frame in read(source, 0, later=left.__contains__):  # type: ignore[operator]
                np.testing.assert_array_equal(frame.image, whole[frame.index])


def test_later_is_asked_when_a_frame_comes_near(bframes_mp4: Path) -> None:
    asked: list[int] = []
    with open_video(bframes_mp4) as source:
        for frame in read_forward(source, later=lambda index: asked.append(index) or index % 2 == 0):
            assert asked[-1] == frame.index


def test_only_the_frames_that_are_needed(bframes_mp4: Path, number: Number) -> None:
    with open_video(bframes_mp4) as source:
        assert list(read_only(source, [], range(40))) == []
        for needed, among in (([3], range(40)), ([1, 5, 9], range(1, 40, 4)), ([0, 1, 2, 30, 39], range(40))):
            frames = list(read_only(source, needed, among))
            assert [number(frame.image) for frame in frames] == [frame.index for frame in frames] == needed


def test_images_of_a_folder_too(tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
    with open_video(tmp_path) as source:
        frames = list(read_forward(source, 0, 6, 1, later={1, 2, 5}.__contains__))
        assert [frame.decoded for frame in frames] == [True, False, False, True, True, False]
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("read", [read_forward, read_backward])
def test_damage_hits_whoever_needs_the_pixels(
    tmp_path: Path, clip: Callable[..., Path], spoil_packet: Callable[[Path, int], None], read: object
) -> None:
    path = clip(tmp_path / "p.mov", codec="png", pix_fmt="rgb24", b_frames=None, frames=20)
    _, table = probe(path)
    spoil_packet(path, 12)
    with open_video(path, table=table) as source:
        frames = list(read(source, 0, later={11, 12}.__contains__))  # type: ignore[operator]
        assert len(frames) == 20
        at = next(frame for frame in frames if frame.index == 12)
        with pytest.raises(MediaError, match="Frame 12 "):
            _ = at.image
        with pytest.raises(MediaError, match="Frame 12 "):
            list(read(source, 0, later={11, 13}.__contains__))  # type: ignore[operator]


def test_a_frame_that_is_not_there_is_refused_at_once(bframes_mp4: Path) -> None:
    with open_video(bframes_mp4) as source:
        for index in (-1, 40):
            with pytest.raises(IndexError):
                source.later(index)


def test_the_digest_is_that_of_the_content(tmp_path: Path, bframes_mp4: Path) -> None:
    copy = tmp_path / "another name.mp4"
    copy.write_bytes(bframes_mp4.read_bytes())
    with open_video(bframes_mp4) as one, open_video(copy) as other:
        assert one.content_sha256() == other.content_sha256()

    def digest(*values: int, start: int = 0) -> str:
        folder = tmp_path / f"{values}-{start}"
        folder.mkdir()
        for i, value in enumerate(values, start):
            Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / f"{i}.png")
        (folder / "notes.txt").write_text(str(values))
        with open_video(folder) as source:
            return source.content_sha256()

    assert digest(1, 2, 3) == digest(1, 2, 3, start=9)
    assert len({digest(1, 2), digest(2, 1), digest(1, 2, 2), digest(1)}) == 4
