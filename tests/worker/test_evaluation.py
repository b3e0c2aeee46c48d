from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.jobspec import parse_job
from model.errors import InputError
from model.evaluation.benchmark import Benchmark, Clip
from model.evaluation.boxes import Boxes
from model.evaluation.davis import Davis
from model.evaluation.jhmdb import JOINTS, Jhmdb
from model.evaluation.vip import Vip
from model.labels import Anchor, Keypoint, Label, rle
from model.rendered import render_clip
from worker.evaluation import Outcome, Task, evaluate, request_of

from ..datasets import write_davis, write_jhmdb, write_otb, write_vip

pytestmark = pytest.mark.usefixtures("one_thread")

CLIPS = (
    render_clip(width=128, height=96, frame_count=12),
    render_clip(width=144, height=112, frame_count=6, seed=1),
)
OPTIONS = {"model": "uvc-r18", "preset": "plain"}
Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Davis:
    """Two sequences of two objects."""
    root = tmp_path_factory.mktemp("davis")
    for name, clip in zip(("ball", "dance"), CLIPS, strict=True):
        write_davis(root, name, clip)
    return Davis(root)


@pytest.fixture
def run() -> Run:
    """Evaluates clips, all of a benchmark's by default."""

    def evaluate_all(
        benchmark: Benchmark[Any], *, clips: list[Clip] | None = None, out: Path | None = None, **settings: Any
    ) -> list[Outcome]:
        if out is not None:
            out.mkdir()
        task = Task(benchmark, OPTIONS, "cpu", 1, out)
        return list(evaluate(task, benchmark.select().clips if clips is None else clips, **settings))

    return evaluate_all


class TestRequest:
    def test_masks_and_void(self, davis: Davis) -> None:
        clip = davis.select(["ball"]).clips[0]
        given = davis.given(clip)
        void = np.zeros((96, 128), bool)
        void[:3] = True
        request = request_of(replace(given, void=void), davis, OPTIONS)
        assert request["options"] == OPTIONS
        assert [each["name"] for each in request["objects"]] == ["object-1", "object-2"]
        (anchor,) = request["anchors"]
        assert anchor["frame"] == 0
        assert np.array_equal(rle.decode(anchor["void"]), void)
        for document, label in zip(anchor["labels"], given.labels, strict=True):
            assert document["object"] == label.object
            assert np.array_equal(rle.decode(document["mask"]), label.mask)

    def test_a_box_goes_as_a_box(self, tmp_path: Path) -> None:
        mask = np.ones((4, 4), bool)
        given = Anchor(0, (Label(1, mask, (0.5, 1.0, 3.0, 2.0)),))
        request = request_of(given, Boxes(tmp_path), OPTIONS)
        assert request["anchors"] == [{"frame": 0, "labels": [{"object": 1, "box": [0.5, 1.0, 3.0, 2.0]}]}]
        assert request["objects"] == [{"id": 1, "name": "target"}]

    def test_keypoints_alone(self, tmp_path: Path) -> None:
        given = Anchor(0, (Label(1, None, keypoints=(Keypoint(JOINTS[0], 1.5, 2.5),)),))
        (label,) = request_of(given, Jhmdb(tmp_path), OPTIONS)["anchors"][0]["labels"]
        assert label == {"object": 1, "keypoints": [{"name": "neck", "x": 1.5, "y": 2.5}]}

    def test_it_is_one_that_the_service_takes(self, davis: Davis) -> None:
        request = request_of(davis.given(davis.select(["ball"]).clips[0]), davis, OPTIONS)
        assert [each.id for each in parse_job(json.dumps(request)).objects] == [1, 2]


class TestOutcomes:
    def test_every_clip_in_order_with_its_frames_counted(self, davis: Davis, run: Run) -> None:
        counted: list[int] = []
        outcomes = run(davis, on_frames=counted.append)
        assert [outcome.score.name for outcome in outcomes] == ["ball", "dance"]
        assert [outcome.frames for outcome in outcomes] == [12, 6]
        assert all(outcome.seconds > 0 for outcome in outcomes)
        assert sum(counted) == 18
        assert min(counted) > 0
        # Frames of six cells by eight are coarse, and the given frame is not among what is scored.
        assert all(0.2 < outcome.score.numbers["J"] < 1 for outcome in outcomes)

    def test_only_the_frames_that_are_evaluated_are_propagated(self, davis: Davis, run: Run) -> None:
        (outcome,) = run(davis, clips=list(davis.select(["ball"], 5).clips))
        assert outcome.frames == 5
        assert sorted(outcome.score.frames) == [1, 2, 3]

    def test_without_a_folder_nothing_is_drawn(self, davis: Davis, run: Run) -> None:
        assert all(outcome.worst == () for outcome in run(davis))

    def test_predictions_are_what_was_scored(self, davis: Davis, run: Run, tmp_path: Path) -> None:
        outcomes = run(davis, out=tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ball", "dance"]  # and no scratch files
        for clip, rendered in zip(davis.select().clips, CLIPS, strict=True):
            written = sorted((tmp_path / "out" / clip.name).iterdir())
            assert [path.name for path in written] == [path.name for path in clip.masks]
            first = (tmp_path / "out" / clip.name / "00000.png").read_bytes()
            assert first == clip.masks[0].read_bytes()  # as given
            assert rendered.frame_count == len(written)
        assert outcomes[0].score.numbers["J"] < 1

    def test_the_worst_frames_with_the_truth(self, davis: Davis, run: Run, tmp_path: Path) -> None:
        first, _ = run(davis, out=tmp_path / "out")
        frames = [worst.frame for worst in first.worst]
        assert len(frames) == 3
        assert all(abs(a - b) >= 3 for a in frames for b in frames if a != b)
        scores = [worst.score for worst in first.worst]
        assert scores == sorted(scores) == [first.score.frames[frame] for frame in frames]
        assert scores[0] == min(first.score.frames.values())
        for worst in first.worst:
            assert worst.clip == "ball"
            assert worst.truth.shape == worst.predicted.shape
            assert worst.truth.dtype == np.uint8
            assert not np.array_equal(worst.truth, worst.predicted)

    def test_joints_of_images_and_of_a_video(self, run: Run, tmp_path: Path) -> None:
        write_jhmdb(tmp_path / "jhmdb", "catch", "ball", CLIPS[0])
        write_jhmdb(tmp_path / "jhmdb", "wave", "dance", CLIPS[1], masks=False, video=False)
        video, images = run(Jhmdb(tmp_path / "jhmdb"), out=tmp_path / "out")
        assert video.score.numbers["J"] > 0.2
        assert np.isnan(images.score.numbers["J"])
        for outcome in (video, images):
            assert outcome.score.numbers["PCK@0.5"] > 0.5
            assert outcome.worst

    def test_classes(self, run: Run, tmp_path: Path) -> None:
        for name, clip in zip(("videos1", "videos2"), CLIPS, strict=True):
            write_vip(tmp_path / "VIP_Fine", name, clip)
        outcomes = run(Vip(tmp_path / "VIP_Fine"), out=tmp_path / "out")
        assert all(outcome.score.numbers["mIoU"] > 0.5 for outcome in outcomes)
        assert len(list((tmp_path / "out" / "videos1").iterdir())) == 12

    def test_boxes(self, run: Run, tmp_path: Path) -> None:
        write_otb(tmp_path / "OTB", "Dance", CLIPS[0])
        (outcome,) = run(Boxes(tmp_path / "OTB"), out=tmp_path / "out")
        assert outcome.score.numbers["AUC"] > 0.3
        lines = (tmp_path / "out" / "Dance.txt").read_text().splitlines()
        assert lines == (tmp_path / "OTB/Dance/groundtruth_rect.txt").read_text().splitlines()[:1] + lines[1:]
        assert len(lines) == 12


class TestSeveralProcesses:
    def test_they_give_the_same_in_the_same_order(self, davis: Davis, run: Run, tmp_path: Path) -> None:
        counted: list[int] = []
        alone = run(davis, out=tmp_path / "alone")
        beside = run(davis, out=tmp_path / "beside", workers=2, on_frames=counted.append)
        assert [outcome.score.name for outcome in beside] == ["ball", "dance"]
        assert sum(counted) == 18
        for one, other in zip(alone, beside, strict=True):
            assert one.score.numbers == other.score.numbers
            assert [w.frame for w in one.worst] == [w.frame for w in other.worst]
        files = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.png"))
        assert len(files) == 18
        for file in files:
            assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "beside" / file).read_bytes()
        assert not multiprocessing.active_children()

    def test_one_that_dies_ends_all_with_a_reason(self, davis: Davis, run: Run) -> None:
        def kill(count: int) -> None:
            for child in multiprocessing.active_children():
                child.kill()

        with pytest.raises(InputError, match="--workers"):
            run(davis, clips=list(davis.select().clips) * 6, workers=2, on_frames=kill)
        assert not multiprocessing.active_children()


class TestClipsThatBreak:
    """Files that change after they were looked at."""

    @pytest.fixture
    def copy(self, davis: Davis, tmp_path: Path) -> Davis:
        shutil.copytree(davis.root, tmp_path / "copy")
        return Davis(tmp_path / "copy")

    def test_frames_too_few(self, copy: Davis, run: Run) -> None:
        clips = list(copy.select().clips)
        (copy.root / "JPEGImages/480p/dance/00005.jpg").unlink()
        with pytest.raises(InputError, match=r"dance has 5 frames.* is for 6"):
            run(copy, clips=clips)

    def test_frames_of_another_size(self, copy: Davis, run: Run) -> None:
        clips = list(copy.select(["dance"]).clips)
        folder = copy.root / "JPEGImages/480p"
        (folder / "dance").rename(folder / "small")
        (folder / "ball").rename(folder / "dance")
        with pytest.raises(InputError, match=r"dance shows frames of 128 x 96 pixels.* 144 x 112"):
            run(copy, clips=clips)

    def test_an_error_that_does_not_say_which_clip_is_told_with_its_name(self, copy: Davis, run: Run) -> None:
        clips = list(copy.select(["dance"]).clips)
        (copy.root / "JPEGImages/480p/dance/00002.jpg").write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"dance: .*00002\.jpg"):
            run(copy, clips=clips)

    def test_a_job_that_is_refused(self, davis: Davis) -> None:
        task = Task(davis, {"model": "nothing", "preset": "plain"}, "cpu", 1, None)
        with pytest.raises(InputError, match=r"ball: .*nothing") as caught:
            list(evaluate(task, davis.select().clips))
        assert type(caught.value) is InputError  # a kind that passes between processes
