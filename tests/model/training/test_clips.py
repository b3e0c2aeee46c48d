from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import MediaError
from model.rendered import render_clip
from model.training.clips import Clip, Reading, Shot, look_at, read
from model.training.finding import Item, Kind, find
from model.video import Limits, encode_video, open_video

WIDTH, HEIGHT = 96, 64
Frames = Sequence[NDArray[np.uint8]]
Write = Callable[..., Item]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Reading(fps=8.0, short_side=256, limits=Limits(), scratch=scratch, decoder_threads=1)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(frames: Frames, **options: object) -> Item:
        path = tmp_path / "clip.mp4"
        encode_video(path, frames, **{"fps": Fraction(25), "crf": 12, **options})  # type: ignore[arg-type]
        return find([path])[0][0]

    return write


def _rendered(count: int, *, seed: int = 0, width: int = WIDTH, height: int = HEIGHT, step: int = 1) -> Frames:
    clip = render_clip(width=width, height=height, frame_count=count * step, seed=seed)
    return [clip.frame(i) for i in range(0, count * step, step)]


def _read(
    clip: Clip, reading: Reading, start: int = 0, count: int | None = None
) -> tuple[list[Shot], list[NDArray[np.uint8]], str]:
    count = len(clip.frames) if count is None else count
    into = np.zeros((clip.rows * count, 3), np.uint8)
    shots, fault = read(clip, start, count, into, reading)
    frames, used = [], 0
    for shot in shots:
        for _ in shot.times_ms:
            area = shot.height * shot.width
            frames.append(into[used : used + area].reshape(shot.height, shot.width, 3))
            used += area
    return shots, frames, fault


def _times(shots: Sequence[Shot]) -> list[list[float]]:
    return [list(shot.times_ms) for shot in shots]


def test_frames_are_those_of_the_reader(write: Write, reading: Reading) -> None:
    item = write(_rendered(25))
    (clip,) = look_at(item, reading)
    assert clip.rows == WIDTH * HEIGHT
    shots, frames, fault = _read(clip, reading)
    assert (len(shots), fault) == (1, "")
    assert (shots[0].height, shots[0].width, shots[0].rows) == (HEIGHT, WIDTH, len(frames) * WIDTH * HEIGHT)
    with open_video(item.blobs[0].path) as video:
        for index, frame, time_ms in zip(clip.frames.tolist(), frames, shots[0].times_ms, strict=True):
            np.testing.assert_array_equal(frame, video.frame(index).image)
            assert time_ms == video.table.time_ms(index)


@pytest.mark.parametrize(("fps", "expected"), [(8.0, 8), (25.0, 25), (100.0, 25), (1.0, 1), (10.0, 10)])
def test_no_more_frames_a_second_than_asked_for(write: Write, reading: Reading, fps: float, expected: int) -> None:
    (clip,) = look_at(write(_rendered(25)), replace(reading, fps=fps))
    assert len(clip.frames) == expected


def test_frames_are_chosen_by_presentation_time(write: Write, reading: Reading) -> None:
    # A burst of frames within one eighth of a second, then slow ones.
    times = [0, 10, 20, 30, 40, 125, 250, 260, 1000, 2000]
    (clip,) = look_at(write(_rendered(10), pts_ms=times), reading)
    assert clip.frames.tolist() == [0, 5, 6, 8, 9]


def test_times_rounded_to_milliseconds_lose_no_frame(write: Write, reading: Reading) -> None:
    (clip,) = look_at(write(_rendered(12), pts_ms=[round(1000 * i / 6) for i in range(12)]), replace(reading, fps=6.0))
    assert len(clip.frames) == 12


def test_frames_are_made_smaller_but_never_larger(write: Write, reading: Reading) -> None:
    item = write(_rendered(9))
    (clip,) = look_at(item, replace(reading, short_side=32))
    shots, frames, _ = _read(clip, replace(reading, short_side=32))
    assert (clip.rows, shots[0].height, shots[0].width) == (32 * 48, 32, 48)
    with open_video(item.blobs[0].path) as video:
        expected = np.asarray(Image.fromarray(video.frame(0).image).resize((48, 32), Image.Resampling.BICUBIC))
    assert np.abs(frames[0].astype(int) - expected).mean() < 3
    assert look_at(item, replace(reading, short_side=65))[0].rows == WIDTH * HEIGHT


def test_a_stretch_begins_where_it_is_asked_to(write: Write, reading: Reading) -> None:
    (clip,) = look_at(write(_rendered(75)), reading)
    _, whole, _ = _read(clip, reading)
    shots, frames, _ = _read(clip, reading, start=10, count=6)
    assert len(frames) == 6
    np.testing.assert_array_equal(np.stack(frames), np.stack(whole[10:16]))
    assert shots[0].times_ms[0] == 1000 * int(clip.frames[10]) / 25


def test_a_cut_ends_a_shot(write: Write, reading: Reading) -> None:
    frames = [*_rendered(25), *(frame[::-1, :, ::-1] for frame in _rendered(25, seed=3))]
    (clip,) = look_at(write(frames), reading)
    shots, _, _ = _read(clip, reading)
    assert [max(times) < 1000 for times in _times(shots)] == [True, False]
    assert min(shots[1].times_ms) >= 1000


def test_black_frames_are_dropped_and_end_a_shot(write: Write, reading: Reading) -> None:
    clip_frames = _rendered(50)
    black = np.zeros_like(clip_frames[0])
    frames = [*clip_frames[:25], *([black] * 10), *clip_frames[25:]]
    (clip,) = look_at(write(frames), reading)
    shots, kept, _ = _read(clip, reading)
    assert len(shots) == 2
    assert all(frame.std() > 4 for frame in kept)
    assert not [t for times in _times(shots) for t in times if 1000 <= t < 1400]


def test_frames_that_repeat_are_dropped_within_one_shot_that_keeps_its_times(write: Write, reading: Reading) -> None:
    moving = _rendered(50, step=2)
    frames = [*moving[:25], *([moving[25]] * 50), *moving[25:]]
    (clip,) = look_at(write(frames), reading)
    (shot,), _, _ = _read(clip, reading)
    still = [time for time in shot.times_ms if 1200 <= time < 2900]
    assert len(still) <= 2
    assert min(shot.times_ms) < 1000
    assert max(shot.times_ms) > 3000


def test_nothing_is_kept_of_a_clip_of_one_colour(write: Write, reading: Reading) -> None:
    (clip,) = look_at(write([np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 10), reading)
    assert _read(clip, reading)[0] == []


def test_reading_ends_where_the_buffer_does(write: Write, reading: Reading) -> None:
    (clip,) = look_at(write(_rendered(25)), reading)
    into = np.zeros((clip.rows * 2 + 5, 3), np.uint8)
    (shot,), _ = read(clip, 0, len(clip.frames), into, reading)
    assert len(shot.times_ms) == 2


def test_a_packed_video_reads_as_the_file_does_and_leaves_no_copy(
    tmp_path: Path, write: Write, reading: Reading
) -> None:
    item = write(_rendered(25))
    with tarfile.open(tmp_path / "pack.tar", "w") as tar:
        tar.add(item.blobs[0].path, "../../evil__clip.mp4")
    ((packed,), _) = find([tmp_path / "pack.tar"])
    (clip,), (other,) = look_at(item, reading), look_at(packed, reading)
    np.testing.assert_array_equal(np.stack(_read(clip, reading)[1]), np.stack(_read(other, reading)[1]))
    assert list(reading.scratch.iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_numbered_images_are_a_clip_in_natural_order(tmp_path: Path, reading: Reading, packed: bool) -> None:
    frames = _rendered(12)
    (tmp_path / "seq").mkdir()
    for at, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "seq" / f"{at}.png")
    if packed:
        with tarfile.open(tmp_path / "pack.tar", "w") as tar:
            tar.add(tmp_path / "seq", "seq")
    ((item,), _) = find([tmp_path / ("pack.tar" if packed else "seq")])
    (clip,) = look_at(item, replace(reading, fps=25.0))
    (shot,), kept, _ = _read(clip, replace(reading, fps=25.0))
    np.testing.assert_array_equal(np.stack(kept), np.stack(frames))
    assert shot.times_ms == tuple(40.0 * i for i in range(12))


def test_a_zip_of_frames_is_a_clip(tmp_path: Path, reading: Reading) -> None:
    frames = _rendered(9)
    with zipfile.ZipFile(tmp_path / "seq.zip", "w") as archive:
        for at, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / "one.png")
            archive.write(tmp_path / "one.png", f"frames/{at:05}.png")
    ((item,), _) = find([tmp_path / "seq.zip"])
    (clip,) = look_at(item, reading)
    _, kept, _ = _read(clip, reading)
    np.testing.assert_array_equal(np.stack(kept), np.stack([frames[i] for i in clip.frames]))


def test_numbered_images_of_different_sizes_are_photographs(tmp_path: Path, reading: Reading) -> None:
    for at, width in enumerate((96, 96, 120)):
        Image.fromarray(_rendered(1, width=width)[0]).save(tmp_path / f"{at}.png")
    ((item,), _) = find([tmp_path])
    assert item.kind is Kind.FRAMES
    assert [(clip.item.kind, clip.rows) for clip in look_at(item, reading)] == [
        (Kind.STILL, 96 * 64),
        (Kind.STILL, 96 * 64),
        (Kind.STILL, 120 * 64),
    ]


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path, reading: Reading) -> None:
    picture = _rendered(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "photo.png", exif=exif)
    ((item,), _) = find([tmp_path / "photo.png"])
    (clip,) = look_at(item, reading)
    (shot,), (frame,), _ = _read(clip, reading)
    assert (shot.height, shot.width, shot.times_ms) == (WIDTH, HEIGHT, (0.0,))
    np.testing.assert_array_equal(frame, np.rot90(picture, -1))


def test_caps_hold_but_a_photograph_may_be_larger_than_a_frame(tmp_path: Path, write: Write, reading: Reading) -> None:
    small = replace(reading, limits=Limits(max_pixels=WIDTH * HEIGHT - 1))
    item = write(_rendered(5))
    with pytest.raises(MediaError, match="Scale the video down"):
        look_at(item, small)
    Image.fromarray(_rendered(1)[0]).save(tmp_path / "photo.png")
    ((photo,), _) = find([tmp_path / "photo.png"])
    assert look_at(photo, small)[0].rows == WIDTH * HEIGHT
    with pytest.raises(MediaError):
        look_at(photo, replace(reading, limits=Limits(max_pixels=WIDTH * HEIGHT // 9)))


def test_a_packed_file_past_the_cap_is_not_copied(tmp_path: Path, write: Write, reading: Reading) -> None:
    with tarfile.open(tmp_path / "pack.tar", "w") as tar:
        tar.add(write(_rendered(5)).blobs[0].path, "clip.mp4")
    ((item,), _) = find([tmp_path / "pack.tar"])
    with pytest.raises(MediaError, match="Shorten"):
        look_at(item, replace(reading, limits=Limits(max_bytes=1000)))


def test_a_file_cut_short_is_refused(write: Write, reading: Reading) -> None:
    item = write(_rendered(25))
    path = item.blobs[0].path
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(MediaError, match="damaged"):
        look_at(item, reading)


def test_damage_that_only_decoding_meets_is_told(write: Write, reading: Reading) -> None:
    item = write(_rendered(60), crf=5)
    path = item.blobs[0].path
    data = bytearray(path.read_bytes())
    media = data.index(b"mdat")
    data[media + (len(data) - media) // 2 : -10] = bytes(len(data) - 10 - media - (len(data) - media) // 2)
    path.write_bytes(data)
    (clip,) = look_at(item, reading)
    try:
        shots, _, fault = _read(clip, reading)
    except MediaError as error:
        shots, fault = [], error.detail
    assert fault
    assert sum(len(shot.times_ms) for shot in shots) < len(clip.frames)


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg", "a.zip"])
def test_rubbish_is_refused_with_a_reason(tmp_path: Path, reading: Reading, name: str) -> None:
    (tmp_path / name).write_bytes(b"rubbish" * 500)
    ((item,), _) = find([tmp_path / name])
    with pytest.raises(MediaError):
        look_at(item, reading)
