from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.rendered import RenderedClip, render_clip, write_clip
from model.training.screening import CELLS, Screen, Verdict, is_cut, is_empty, is_static, thumbnail
from model.video import open_video

KEEP, CUT, EMPTY, STATIC = Verdict.KEEP, Verdict.CUT, Verdict.EMPTY, Verdict.STATIC


@cache
def _clip(seed: int = 0, frame_count: int = 12) -> RenderedClip:
    return render_clip(width=320, height=240, frame_count=frame_count, seed=seed)


@cache
def _scene(seed: int = 0) -> Image.Image:
    """A photograph of sorts, larger than what is seen of it at once."""
    return Image.fromarray(render_clip(width=640, height=480, frame_count=1, seed=seed).frame(0))


def _verdicts(images: Iterable[Image.Image | NDArray[np.uint8]]) -> list[Verdict]:
    screen = Screen()
    return [screen.judge(i if isinstance(i, Image.Image) else Image.fromarray(i)) for i in images]


def _flat(grey: int) -> Image.Image:
    return Image.new("RGB", (320, 240), (grey, grey, grey))


def _noisy(image: Image.Image, seed: int, spread: float) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, spread, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(BytesIO(file.getvalue())).convert("RGB")


def test_a_moving_shot_is_kept_whole() -> None:
    frames = [_clip(frame_count=25).frame(at) for at in range(0, 25, 3)]
    assert _verdicts(frames) == [CUT] + [KEEP] * (len(frames) - 1)


def test_a_decoded_shot_is_kept_whole(tmp_path: Path) -> None:
    write_clip(_clip(frame_count=13), tmp_path / "clip.mp4")
    with open_video(tmp_path / "clip.mp4") as source:
        assert _verdicts(frame.image for frame in source.frames(stride=3)) == [CUT] + [KEEP] * 4


def test_a_new_scene_begins_a_shot() -> None:
    frames = [_scene().crop((at, 0, 320 + at, 240)) for at in (0, 8, 16)]
    others = [_scene(4).crop((at, 100, 320 + at, 340)).rotate(180) for at in (0, 8)]
    assert _verdicts([*frames, *others, frames[0]]) == [CUT, KEEP, KEEP, CUT, KEEP, CUT]


def test_new_colours_in_the_same_places_begin_a_shot() -> None:
    # Turned around in its channels, a picture is as bright as before in every place.
    frames = [np.asarray(_scene()), np.roll(np.asarray(_scene()), 1, axis=2)]
    assert _verdicts(frames) == [CUT, CUT]


@pytest.mark.parametrize("step", [4, 16, 40])
def test_a_panning_camera_is_no_cut(step: int) -> None:
    frames = [_scene().crop((at * step, at * step // 2, 320 + at * step, 240 + at * step // 2)) for at in range(6)]
    assert CUT not in _verdicts(frames)[1:]


def test_a_zooming_camera_is_no_cut() -> None:
    frames = [_scene().crop((at * 8, at * 6, 640 - at * 8, 480 - at * 6)).resize((320, 240)) for at in range(8)]
    assert _verdicts(frames) == [CUT] + [KEEP] * 7


def test_a_camera_that_adapts_to_the_light_is_no_cut() -> None:
    frames = [_scene().point(lambda value, gain=gain: value * gain) for gain in (1.0, 0.94, 0.88, 0.82)]
    assert CUT not in _verdicts(frames)[1:]


@pytest.mark.parametrize("grey", [0, 16, 128, 255])
def test_frames_of_one_colour_are_empty_and_end_the_shot(grey: int) -> None:
    clip = _clip()
    frames = [clip.frame(0), clip.frame(4), _flat(grey), _flat(grey), clip.frame(8), clip.frame(11)]
    assert _verdicts(frames) == [CUT, KEEP, EMPTY, EMPTY, CUT, KEEP]


def test_a_black_frame_is_empty_with_noise_on_it_too() -> None:
    assert _verdicts([_noisy(_flat(8), 0, 6.0)]) == [EMPTY]


def test_a_frame_of_two_colours_of_one_brightness_is_not_empty() -> None:
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[:, :160] = 200, 0, 0
    picture[:, 160:] = 0, 102, 0
    assert not is_empty(thumbnail(Image.fromarray(picture)))


def test_a_dark_scene_is_not_empty() -> None:
    assert _verdicts([_scene().point(lambda value: value // 4)]) == [CUT]


def test_a_repeated_frame_is_static_and_the_shot_goes_on() -> None:
    clip = _clip()
    frames = [clip.frame(at) for at in (0, 0, 0, 4, 4, 8)]
    assert _verdicts(frames) == [CUT, STATIC, STATIC, KEEP, STATIC, KEEP]


def test_noise_and_compression_are_no_motion() -> None:
    scene = _scene()
    frames = [scene, _noisy(scene, 0, 5.0), _as_jpeg(scene, 60), _noisy(scene, 1, 5.0)]
    assert _verdicts(frames) == [CUT, STATIC, STATIC, STATIC]


def test_a_small_thing_that_moves_is_motion() -> None:
    frames = []
    for at in (0, 24):
        picture = np.asarray(_scene()).copy()
        picture[300:324, 100 + at : 124 + at] = 250, 20, 20
        frames.append(picture)
    assert _verdicts(frames) == [CUT, KEEP]


def test_slow_motion_adds_up_since_it_is_held_against_the_frame_kept() -> None:
    # A pixel a frame moves nothing visible at this scale from one frame to the next, but in ten it does.
    frames = [_scene().crop((at, 0, 320 + at, 240)).convert("L").convert("RGB") for at in range(12)]
    faint = [Image.blend(_flat(120), frame, 0.15) for frame in frames]
    verdicts = _verdicts(faint)
    assert verdicts[1] is STATIC
    assert KEEP in verdicts[2:]
    assert CUT not in verdicts[1:]


def test_a_cut_after_a_long_still_is_seen() -> None:
    scene, other = _scene(), _scene(4).rotate(180)
    assert _verdicts([scene, scene, scene, other, other]) == [CUT, STATIC, STATIC, CUT, STATIC]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (16, 16), (4000, 20)])
def test_pictures_of_any_size_are_judged(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(3)]
    verdicts = _verdicts(frames)
    assert len(verdicts) == 3
    if size == (1, 1):
        assert verdicts == [EMPTY] * 3


@pytest.mark.parametrize("size", [(854, 480), (256, 456), (320, 240), (64, 48)])
def test_a_thumbnail_is_about_so_many_cells_across_and_averages(size: tuple[int, int]) -> None:
    checks = np.indices((size[1], size[0])).sum(axis=0)[..., None] % 2 * np.array([200, 100, 0])
    thumb = thumbnail(Image.fromarray(checks.astype(np.uint8)))
    assert thumb.dtype == np.float32
    assert CELLS / 1.5 <= max(thumb.shape[:2]) <= CELLS * 1.5
    if min(size) > 64:
        assert np.abs(thumb.mean(axis=(0, 1)) - [100, 50, 0]).max() < 8


def test_a_frame_against_itself_is_static_and_no_cut() -> None:
    thumb = thumbnail(_scene())
    assert is_static(thumb, thumb)
    assert not is_cut(thumb, thumb)
