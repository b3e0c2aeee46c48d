from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.evaluation.boxes import THRESHOLDS, Boxes, distance, overlap, success_curve
from model.labels import FrameResult, ObjectResult, raster
from model.labels.types import Box
from model.rendered import RenderedClip

from ... import by_the_book
from ...datasets import otb_boxes, write_otb

Refused = Callable[..., None]
Clips = tuple[RenderedClip, RenderedClip]

TARGET = 1


@pytest.fixture
def root(tmp_path: Path, clips: Clips) -> Path:
    """Two sequences, one with commas and one with tabs, as OTB has both."""
    write_otb(tmp_path / "OTB", "Ball", clips[0])
    return write_otb(tmp_path / "OTB", "Dance", clips[1], separator="\t")


def _results(boxes: list[Box | None]) -> list[FrameResult]:
    return [
        FrameResult(i, 0, (ObjectResult(TARGET, box is not None, 1.0, None, box, (), "propagated"),))
        for i, box in enumerate(boxes)
    ]


def _pushed(clip: RenderedClip, seed: int = 0) -> list[Box | None]:
    """The true boxes, moved and stretched by whole pixels."""
    rng = np.random.default_rng(seed)
    moves = rng.integers((-25, -8, -3, -3), (26, 9, 8, 8), (clip.frame_count, 4))
    return [
        (x + a, y + b, max(1, w + c), max(1, h + d))
        for (x, y, w, h), (a, b, c, d) in zip(otb_boxes(clip), moves.tolist(), strict=True)
    ]


class TestSelection:
    def test_every_sequence_in_our_own_pixels(self, root: Path, clips: Clips) -> None:
        (root / "notes").mkdir()
        selection = Boxes(root).select()
        assert [(clip.name, clip.frame_count, clip.size) for clip in selection.clips] == [
            ("Ball", 9, (64, 48)),
            ("Dance", 6, (72, 56)),
        ]
        for clip, rendered in zip(selection.clips, clips, strict=True):
            assert list(clip.boxes) == otb_boxes(rendered)

    def test_by_name_and_the_first_frames_only(self, root: Path) -> None:
        (clip,) = Boxes(root).select(["Dance"], 4).clips
        assert (clip.name, clip.frame_count, len(clip.boxes)) == ("Dance", 4, 4)

    def test_several_targets_of_a_video_are_sequences_of_their_own(self, root: Path, clips: Clips) -> None:
        for number in (1, 2):
            write_otb(root, "Jogging", clips[0], file=f"groundtruth_rect.{number}.txt")
        (root / "Jogging" / "groundtruth_rect_old.txt").write_text("not this")
        boxes = Boxes(root)
        assert [clip.name for clip in boxes.select().clips] == ["Ball", "Dance", "Jogging-1", "Jogging-2"]
        (clip,) = boxes.select(["Jogging-2"]).clips
        assert clip.video == root / "Jogging" / "img"
        assert clip.truth == root / "Jogging" / "groundtruth_rect.2.txt"

    @pytest.mark.parametrize("line", ["0,0,0,0", "NaN\tNaN\tNaN\tNaN", "5 5 0 9"])
    def test_a_line_without_a_box_is_left_out(self, root: Path, clips: Clips, line: str) -> None:
        path = root / "Ball" / "groundtruth_rect.txt"
        lines = path.read_text().splitlines()
        lines[3] = line
        path.write_text("\n".join(lines))
        boxes = Boxes(root)
        clip = boxes.select(["Ball"]).clips[0]
        assert clip.boxes[3] is None
        pred: list[Box | None] = [*otb_boxes(clips[0])]
        pred[3] = None
        score = boxes.score(clip, _results(pred))
        assert sorted(score.frames) == [0, 1, 2, 4, 5, 6, 7, 8]
        assert score.numbers["precision@20"] == 1
        assert not boxes.truth(clip, 3).objects[0].visible


class TestGiven:
    def test_the_first_box_as_a_region(self, root: Path, clips: Clips) -> None:
        boxes = Boxes(root)
        anchor = boxes.given(boxes.select(["Ball"]).clips[0])
        (label,) = anchor.labels
        first = otb_boxes(clips[0])[0]
        assert (anchor.frame, label.object, label.box) == (0, TARGET, first)
        assert np.array_equal(label.mask, raster.box(*first, 48, 64))

    def test_a_box_that_leaves_the_frame_is_cut_off(self, root: Path) -> None:
        path = root / "Ball" / "groundtruth_rect.txt"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(["-4,40,20,30", *lines[1:]]))
        boxes = Boxes(root)
        clip = boxes.select(["Ball"]).clips[0]
        assert clip.boxes[0] == (-5, 39, 20, 30)
        assert boxes.given(clip).labels[0].box == (0, 39, 15, 9)


class TestScore:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_it_agrees_with_the_protocol(self, root: Path, clips: Clips, seed: int) -> None:
        boxes = Boxes(root)
        scores, expected = [], []
        for clip, rendered in zip(boxes.select().clips, clips, strict=True):
            pred = _pushed(rendered, seed)
            scores.append(boxes.score(clip, _results(pred)))
            expected.append(by_the_book.otb(pred, otb_boxes(rendered)))
            assert tuple(scores[-1].numbers.values()) == pytest.approx(expected[-1], abs=1e-9)
        mean = boxes.mean(scores)
        assert (mean["AUC"], mean["precision@20"]) == pytest.approx(np.mean(expected, axis=0), abs=1e-9)
        assert 0 < mean["AUC"] < 1
        assert 0 < mean["precision@20"] < 1

    def test_the_truth_itself_has_all_there_is(self, root: Path, clips: Clips) -> None:
        boxes = Boxes(root)
        score = boxes.score(boxes.select(["Ball"]).clips[0], _results([*otb_boxes(clips[0])]))
        assert score.numbers == pytest.approx({"AUC": 20 / 21, "precision@20": 1})

    def test_a_target_that_was_lost_counts_as_far_away(self, root: Path, clips: Clips) -> None:
        boxes = Boxes(root)
        clip = boxes.select(["Ball"]).clips[0]
        pred: list[Box | None] = [*otb_boxes(clips[0])]
        pred[4] = None
        score = boxes.score(clip, _results(pred))
        assert score.numbers == pytest.approx({"AUC": 20 / 21 * 8 / 9, "precision@20": 8 / 9})
        assert score.frames[4] == 0

    @given(
        *(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2) for _ in range(2)),
        st.sampled_from([1.0, 0.25]),
    )
    def test_overlap_by_counting_pixels(self, a: Box, b: Box, scale: float) -> None:
        grids = [raster.box(*box, 80, 80) for box in (a, b)]
        expected = (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()
        scaled = [tuple(scale * value for value in box) for box in (a, b)]
        assert overlap(*scaled) == pytest.approx(expected)
        assert overlap(a, a) == 1

    @given(*(st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0.1, 50)] * 2) for _ in range(2)))
    def test_overlap_is_a_share(self, a: Box, b: Box) -> None:
        assume(min(a[2:]) > 0.1)
        assert 0 <= overlap(a, b) <= 1 + 1e-9
        assert overlap(a, b) == pytest.approx(overlap(b, a))

    def test_distance_is_between_the_centres(self) -> None:
        assert distance((0, 0, 10, 10), (3, 4, 10, 10)) == 5
        assert distance((0, 0, 10, 10), (0, 0, 16, 18)) == 5
        assert distance(None, (0, 0, 1, 1)) == math.inf
        assert overlap(None, (0, 0, 1, 1)) == 0

    def test_success_is_above_each_threshold(self) -> None:
        assert pytest.approx(np.arange(21) / 20) == THRESHOLDS
        curve = success_curve([0.0, 0.5, 1.0])
        assert curve[0] == pytest.approx(2 / 3)
        assert curve[10] == pytest.approx(1 / 3)  # 0.5 is not above 0.5
        assert curve[20] == 0


class TestPredictions:
    def test_a_line_a_frame_as_trackers_write_them(self, root: Path, tmp_path: Path) -> None:
        boxes = Boxes(root)
        clip = boxes.select(["Dance"], 3).clips[0]
        boxes.write(clip, _results([(4.0, 5.0, 6.5, 7.0), None, (0.0, 0.0, 1.0, 2.0)]), tmp_path / "out")
        assert (tmp_path / "out" / "Dance.txt").read_text() == "5,6,6.5,7\nnan,nan,nan,nan\n1,1,1,2\n"

    def test_a_picture_shows_boxes_alone(self, root: Path) -> None:
        boxes = Boxes(root)
        mask = np.ones((4, 4), bool)
        found = ObjectResult(TARGET, True, 1.0, mask, (0.0, 0.0, 4.0, 4.0), (), "propagated")
        (shown,) = boxes.shown(FrameResult(0, 0, (found,))).objects
        assert shown == replace(found, mask=None)
        assert boxes.object(TARGET).name == "target"


class TestBadInput:
    def _write(self, root: Path, text: str) -> None:
        (root / "Ball" / "groundtruth_rect.txt").write_text(text)

    def test_another_layout(self, tmp_path: Path, refused: Refused) -> None:
        (tmp_path / "Ball").mkdir()
        refused(Boxes(tmp_path).select, says=("no sequence", "groundtruth_rect.txt", "--root"))

    def test_an_unknown_sequence(self, root: Path, refused: Refused) -> None:
        refused(Boxes(root).select, ["Skater"], says=("'Skater'", "Ball, Dance"))

    def test_no_images(self, root: Path, refused: Refused) -> None:
        (root / "Ball" / "img").rename(root / "Ball" / "images")
        refused(Boxes(root).select, says="Ball/img")

    def test_boxes_for_another_number_of_images(self, root: Path, refused: Refused) -> None:
        self._write(root, "1,1,9,9\n" * 8)
        refused(Boxes(root).select, says=("groundtruth_rect.txt", "8 boxes", "9 images"))

    @pytest.mark.parametrize("line", ["1,1,9", "1,1,9,9,9", "1,1,nine,9"])
    def test_a_line_that_is_no_box(self, root: Path, refused: Refused, line: str) -> None:
        self._write(root, f"1,1,9,9\n{line}\n")
        refused(Boxes(root).select, says=("groundtruth_rect.txt, line 2", "four numbers"))

    def test_an_empty_file(self, root: Path, refused: Refused) -> None:
        self._write(root, "\n")
        refused(Boxes(root).select, says=("groundtruth_rect.txt", "empty"))

    def test_no_first_box(self, root: Path, refused: Refused) -> None:
        self._write(root, "0,0,0,0\n" * 9)
        refused(Boxes(root).select, says=("groundtruth_rect.txt", "first line"))

    @pytest.mark.parametrize("box", ["70,1,9,9", "1,1,0.3,0.3", "-20,1,9,9"])
    def test_a_first_box_without_a_pixel(self, root: Path, refused: Refused, box: str) -> None:
        self._write(root, f"{box}\n" * 9)
        refused(Boxes(root).select, says=("groundtruth_rect.txt", "64 x 48"))

    def test_a_single_frame(self, root: Path, refused: Refused) -> None:
        refused(Boxes(root).select, None, 1, says="too few")
