from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.formats import EXPORTS, find_format, overlay
from app.formats.options import ExportOptions
from model.errors import InputError, MediaError
from model.labels import FrameResult, LabelObject, ObjectResult
from model.rendered import RenderedClip
from model.video import Frame, open_video


def test_the_film_has_the_frames_at_their_times(export_input: Callable, tmp_path: Path) -> None:
    overlay.write(export_input(), tmp_path / "o.mp4")
    with open_video(tmp_path / "o.mp4") as film:
        assert (film.info.codec, film.info.width, film.info.height, film.info.frame_count) == ("h264", 96, 64, 12)
        assert [film.table.time_ms(i) for i in range(12)] == [40 * i for i in range(12)]


def test_only_frames_with_results_are_shown_and_gaps_keep_their_time(
    export_input: Callable, results: list[FrameResult], tmp_path: Path, clip: RenderedClip
) -> None:
    some = [replace(results[i], time_ms=time) for i, time in ((2, 80), (3, 130), (9, 900))]
    overlay.write(export_input(some), tmp_path / "o.mp4")
    with open_video(tmp_path / "o.mp4") as film:
        assert [film.table.time_ms(i) for i in range(3)] == [0, 50, 820]
        background = clip.mask(9) == 0
        shown, truth = film.frame(2).image.astype(int), clip.frame(9).astype(int)
        distances = [np.abs(shown - clip.frame(i)).mean(axis=2)[background].mean() for i in range(12)]
        assert int(np.argmin(distances)) == 9
        assert truth.shape == shown.shape


def test_frames_before_the_first_result_are_not_read(
    export_input: Callable, results: list[FrameResult], tmp_path: Path, clip_file: Path
) -> None:
    with open_video(clip_file) as source:

        def frames(first: int) -> Iterator[Frame]:
            assert first == 5, "a frame before it may be the one that ended the job"
            return source.frames(first)

        overlay.write(export_input(results[5:8], frames=frames), tmp_path / "o.mp4")
    with open_video(tmp_path / "o.mp4") as film:
        assert film.info.frame_count == 3


def test_frames_in_one_millisecond_stay_apart(
    export_input: Callable, results: list[FrameResult], tmp_path: Path
) -> None:
    overlay.write(export_input([replace(result, time_ms=0) for result in results[:4]]), tmp_path / "o.mp4")
    with open_video(tmp_path / "o.mp4") as film:
        assert film.info.frame_count == 4


def test_no_results_are_no_film(export_input: Callable, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        overlay.write(export_input([]), tmp_path / "o.mp4")
    assert caught.value.slug == "no-frames"
    assert not (tmp_path / "o.mp4").exists()


def test_a_region_is_tinted_and_outlined_and_the_rest_untouched() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[30:50, 20:60] = True
    found = ObjectResult(1, True, 1.0, mask, None, (), "propagated")
    drawn = overlay.draw(image, FrameResult(0, 0, (found,)), (LabelObject(1, "x", (200, 0, 0)),))
    assert (image == 100).all(), "the picture that came is not changed"
    assert tuple(drawn[30, 30]) == tuple(drawn[49, 59]) == (200, 0, 0)
    assert tuple(drawn[40, 40]) == (138, 62, 62)
    assert (drawn[52:] == 100).all()
    assert (drawn[30:50, :19] == 100).all()


def test_a_region_at_the_border_has_no_outline_there() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    found = ObjectResult(1, True, 1.0, np.ones((60, 80), bool), None, (), "propagated")
    drawn = overlay.draw(image, FrameResult(0, 0, (found,)), (LabelObject(1, "x", (200, 0, 0)),))
    assert tuple(drawn[59, 79]) == (138, 62, 62)


@pytest.mark.parametrize(
    ("options", "inside", "edge"),
    [
        (ExportOptions(outline=False), (138, 62, 62), (138, 62, 62)),
        (ExportOptions(opacity=0.0), (100, 100, 100), (200, 0, 0)),
        (ExportOptions(opacity=1.0, outline=False), (200, 0, 0), (200, 0, 0)),
    ],
)
def test_outline_and_opacity_are_the_callers(
    options: ExportOptions, inside: tuple[int, int, int], edge: tuple[int, int, int]
) -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[30:50, 20:60] = True
    result = FrameResult(0, 0, (ObjectResult(1, True, 1.0, mask, None, (), "propagated"),))
    drawn = overlay.draw(image, result, (LabelObject(1, "x", (200, 0, 0)),), options)
    assert (tuple(drawn[40, 40]), tuple(drawn[49, 59])) == (inside, edge)


def test_names_and_confidence_are_the_callers() -> None:
    image = np.full((90, 120, 3), 100, np.uint8)
    mask = np.zeros((90, 120), bool)
    mask[40:80, 20:60] = True
    result = FrameResult(0, 0, (ObjectResult(1, True, 0.87, mask, None, (), "propagated"),))

    def tag(**options: bool) -> int:
        drawn = overlay.draw(image, result, (LabelObject(1, "x", (200, 0, 0)),), ExportOptions(**options))
        return int((drawn[:38] != 100).any(axis=2).sum())

    assert tag(names=False) == 0
    assert 0 < tag() < tag(names=False, confidence=True) < tag(confidence=True)


def test_what_is_not_visible_is_not_drawn() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    found = ObjectResult(1, False, 1.0, np.ones((60, 80), bool), None, (), "propagated")
    assert (overlay.draw(image, FrameResult(0, 0, (found,)), (LabelObject(1, "x", (200, 0, 0)),)) == 100).all()


def test_one_table_names_every_format(export_input: Callable, tmp_path: Path) -> None:
    for name, format_ in EXPORTS.items():
        assert find_format(name) is format_
        folder = tmp_path / name
        folder.mkdir()
        format_.write_into(export_input(), folder)
        format_.write_file(export_input(), tmp_path / format_.filename)
    assert (tmp_path / "coco" / "coco.json").read_bytes() == (tmp_path / "coco.json").read_bytes()
    assert len(list((tmp_path / "davis").iterdir())) == 12
    with pytest.raises(InputError, match="davis, youtube-vos, coco, "):
        find_format("yolo")
