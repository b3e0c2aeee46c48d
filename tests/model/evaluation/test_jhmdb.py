from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from model.evaluation.benchmark import ClipScore
from model.evaluation.jhmdb import ALPHAS, JOINTS, Jhmdb
from model.labels import FrameResult, KeypointResult, ObjectResult
from model.rendered import PUPPET, RenderedClip

from ... import by_the_book
from ...datasets import index_maps, jhmdb_joints, result_of, spoiled, write_jhmdb, write_mat

Refused = Callable[..., None]
Clips = tuple[RenderedClip, RenderedClip]

PERSON = 1


@pytest.fixture
def root(tmp_path: Path, clips: Clips) -> Path:
    """A video with joints and masks, and a folder of images with joints alone."""
    write_jhmdb(tmp_path / "jhmdb", "catch", "ball_catch_1", clips[0])
    return write_jhmdb(tmp_path / "jhmdb", "wave", "dance_wave_1", clips[1], masks=False, video=False)


def _joints_file(root: Path) -> Path:
    return root / "joint_positions" / "catch" / "ball_catch_1" / "joint_positions.mat"


def _mask_file(root: Path) -> Path:
    return root / "puppet_mask" / "catch" / "ball_catch_1" / "puppet_mask.mat"


def _moved(clip: RenderedClip, seed: int = 0, reach: float = 4.0) -> np.ndarray:
    """The true joints, each somewhere else."""
    joints = jhmdb_joints(clip)
    return joints + np.random.default_rng(seed).normal(0, reach, joints.shape)


def _results(joints: np.ndarray, masks: list[np.ndarray] | None = None) -> list[FrameResult]:
    """Results with the given joints (2, 15, T), without those that are NaN."""
    results = []
    for t in range(joints.shape[2]):
        points = tuple(
            KeypointResult(name, *map(float, joints[:, j, t]), visible=True, confidence=1.0)
            for j, name in enumerate(JOINTS)
            if np.isfinite(joints[:, j, t]).all()
        )
        if masks is None:
            found = ObjectResult(PERSON, True, 1.0, None, None, points, "propagated")
            results.append(FrameResult(t, 0, (found,)))
        else:
            results.append(result_of(t, {PERSON: masks[t]}, points))
    return results


def _puppet(clip: RenderedClip) -> list[np.ndarray]:
    return [index_map == PUPPET for index_map in index_maps(clip)]


class TestSelection:
    def test_the_test_clips_of_split_1(self, root: Path, clips: Clips) -> None:
        write_jhmdb(root, "catch", "training_catch", clips[1], split=1)
        selection = Jhmdb(root).select()
        assert [(clip.name, clip.action, clip.frame_count, clip.size) for clip in selection.clips] == [
            ("ball_catch_1", "catch", 9, (64, 48)),
            ("dance_wave_1", "wave", 6, (72, 56)),
        ]
        assert "split 1" in selection.origin
        first, second = selection.clips
        assert first.video.suffix == ".avi"
        assert first.masks is not None
        assert second.video.is_dir()
        assert second.masks is None

    def test_test_clips_that_are_not_there_are_told(self, root: Path) -> None:
        with (root / "splits" / "wave_test_split1.txt").open("a") as file:
            file.write("gone_wave_2.avi 2\nother_wave_3.avi 0\n")
        selection = Jhmdb(root).select()
        assert selection.absent == ("gone_wave_2",)
        assert len(selection.clips) == 2

    def test_every_clip_where_there_are_no_splits(self, root: Path) -> None:
        for path in (root / "splits").iterdir():
            path.unlink()
        assert [clip.name for clip in Jhmdb(root).select().clips] == ["ball_catch_1", "dance_wave_1"]

    def test_by_name_with_and_without_the_videos_ending(self, root: Path) -> None:
        for name in ("dance_wave_1", "dance_wave_1.avi"):
            assert [clip.name for clip in Jhmdb(root).select([name]).clips] == ["dance_wave_1"]

    def test_the_first_frames_only(self, root: Path) -> None:
        assert [clip.frame_count for clip in Jhmdb(root).select(None, 7).clips] == [7, 6]


class TestGiven:
    def test_joints_and_the_mask(self, root: Path, clips: Clips) -> None:
        jhmdb = Jhmdb(root)
        clip = jhmdb.select(["ball_catch_1"]).clips[0]
        (label,) = jhmdb.given(clip).labels
        assert np.array_equal(label.mask, clips[0].mask(0) == PUPPET)
        assert [point.name for point in label.keypoints] == list(JOINTS)
        # MATLAB's first pixel centre is (1, 1), ours (0.5, 0.5): the writer added what the reader takes away.
        found = np.array([(point.x, point.y) for point in label.keypoints])
        assert found == pytest.approx(jhmdb_joints(clips[0])[:, :, 0].T)

    def test_joints_alone(self, root: Path) -> None:
        jhmdb = Jhmdb(root)
        (label,) = jhmdb.given(jhmdb.select(["dance_wave_1"]).clips[0]).labels
        assert label.mask is None
        assert len(label.keypoints) == 15

    def test_a_joint_off_the_first_frame_is_not_given_and_not_scored(self, root: Path, clips: Clips) -> None:
        joints = jhmdb_joints(clips[0])
        joints[:, 14, 0] = 64.5, 20
        write_mat(_joints_file(root), pos_img=joints + 0.5)
        jhmdb = Jhmdb(root)
        clip = jhmdb.select(["ball_catch_1"]).clips[0]
        assert len(jhmdb.given(clip).labels[0].keypoints) == 14
        assert len(jhmdb.truth(clip, 3).objects[0].keypoints) == 14
        lost = joints.copy()
        lost[:, 14] = np.nan
        score = jhmdb.score(clip, _results(lost))
        assert score.numbers["PCK@0.1"] == 1
        assert score.details["joints_given"] == 14

    def test_the_truth_of_a_frame(self, root: Path, clips: Clips) -> None:
        jhmdb = Jhmdb(root)
        (found,) = jhmdb.truth(jhmdb.select(["ball_catch_1"]).clips[0], 5).objects
        assert np.array_equal(found.mask, clips[0].mask(5) == PUPPET)
        assert np.array([(p.x, p.y) for p in found.keypoints]) == pytest.approx(jhmdb_joints(clips[0])[:, :, 5].T)
        person = jhmdb.object(PERSON)
        assert person.skeleton is not None
        assert person.skeleton.points == JOINTS


class TestScore:
    @pytest.fixture
    def scored(self, root: Path, clips: Clips) -> Callable[[int], list[ClipScore]]:
        def score(seed: int) -> list[ClipScore]:
            jhmdb = Jhmdb(root)
            first, second = jhmdb.select().clips
            masks = [m > 0 for m in spoiled([m.astype(np.uint8) for m in _puppet(clips[0])])]
            return [
                jhmdb.score(first, _results(_moved(clips[0], seed), masks)),
                jhmdb.score(second, _results(_moved(clips[1], seed + 1))),
            ]

        return score

    @pytest.mark.parametrize("seed", [0, 5])
    def test_pck_agrees_with_the_protocol(
        self, root: Path, clips: Clips, scored: Callable[[int], list[ClipScore]], seed: int
    ) -> None:
        scores = scored(seed)
        names = ("ball_catch_1", "dance_wave_1")
        truth = {name: jhmdb_joints(clip) for name, clip in zip(names, clips, strict=True)}
        pred = {name: _moved(clip, seed + i) for i, (name, clip) in enumerate(zip(names, clips, strict=True))}
        mean = Jhmdb(root).mean(scores)
        for alpha in ALPHAS:
            column = f"PCK@{alpha}"
            for score in scores:
                expected = by_the_book.pck({score.name: pred[score.name]}, {score.name: truth[score.name]}, alpha)
                assert score.numbers[column] == pytest.approx(expected, abs=1e-9)
            assert mean[column] == pytest.approx(by_the_book.pck(pred, truth, alpha), abs=1e-9)
        assert 0.1 < mean["PCK@0.1"] < mean["PCK@0.5"]

    def test_j_is_of_the_clips_that_have_masks(
        self, root: Path, clips: Clips, scored: Callable[[int], list[ClipScore]]
    ) -> None:
        scores = scored(0)
        truth = _puppet(clips[0])
        pred = [m > 0 for m in spoiled([m.astype(np.uint8) for m in truth])]
        expected = np.mean([by_the_book.jaccard(*pair) for pair in list(zip(pred, truth, strict=True))[1:]])
        assert scores[0].numbers["J"] == pytest.approx(expected)
        assert math.isnan(scores[1].numbers["J"])
        assert Jhmdb(root).mean(scores)["J"] == pytest.approx(expected)
        assert math.isnan(Jhmdb(root).mean(scores[1:])["J"])

    def test_the_first_frame_does_not_count(self, root: Path, clips: Clips) -> None:
        jhmdb = Jhmdb(root)
        clip = jhmdb.select(["ball_catch_1"]).clips[0]
        joints, masks = jhmdb_joints(clips[0]), _puppet(clips[0])
        joints[:, :, 0] += 30
        masks[0] = ~masks[0]
        score = jhmdb.score(clip, _results(joints, masks))
        assert set(score.numbers.values()) == {1.0}
        assert sorted(score.frames) == list(range(1, 9))

    def test_a_joint_that_was_lost_is_wrong(self, root: Path, clips: Clips) -> None:
        jhmdb = Jhmdb(root)
        clip = jhmdb.select(["dance_wave_1"]).clips[0]
        joints = jhmdb_joints(clips[1])
        joints[:, :3, 2] = np.nan
        score = jhmdb.score(clip, _results(joints))
        assert score.numbers["PCK@0.5"] == pytest.approx((12 + 3 * 4 / 5) / 15)
        assert min(score.frames, key=lambda frame: score.frames[frame]) == 2
        assert score.frames[2] == pytest.approx(12 / 15)

    def test_the_first_frames_only(self, root: Path, clips: Clips) -> None:
        jhmdb = Jhmdb(root)
        clip = jhmdb.select(["dance_wave_1"], 3).clips[0]
        assert sorted(jhmdb.score(clip, _results(jhmdb_joints(clips[1])[:, :, :3])).frames) == [1, 2]

    @by_the_book.needs_scorer
    def test_the_shared_scorer_agrees(
        self, root: Path, clips: Clips, scored: Callable[[int], list[ClipScore]], tmp_path: Path
    ) -> None:
        scores = scored(3)
        names = ("ball_catch_1", "dance_wave_1")
        for kind, tracks in (
            ("gt", [jhmdb_joints(clip) for clip in clips]),
            ("pred", [_moved(clip, 3 + i) for i, clip in enumerate(clips)]),
        ):
            table = {name: track.T.tolist() for name, track in zip(names, tracks, strict=True)}
            (tmp_path / f"{kind}.json").write_text(json.dumps(table))
        theirs = by_the_book.shared_scorer().score_points(tmp_path / "pred.json", tmp_path / "gt.json")
        mean = Jhmdb(root).mean(scores)
        assert {key: mean[key] for key in theirs} == pytest.approx(theirs, abs=1e-3)


class TestPredictions:
    def test_they_are_written_as_the_dataset_has_its_truth(self, root: Path, clips: Clips, tmp_path: Path) -> None:
        jhmdb = Jhmdb(root)
        first, second = jhmdb.select().clips
        masks = _puppet(clips[0])
        joints = _moved(clips[0])
        joints[:, 3, 4] = np.nan
        jhmdb.write(first, _results(joints, masks), tmp_path / "out")
        jhmdb.write(second, _results(_moved(clips[1])), tmp_path / "out")
        written = loadmat(tmp_path / "out/joint_positions/catch/ball_catch_1/joint_positions.mat")["pos_img"]
        assert written == pytest.approx(joints + 0.5, nan_ok=True)
        written = loadmat(tmp_path / "out/puppet_mask/catch/ball_catch_1/puppet_mask.mat")["part_mask"]
        assert np.array_equal(written, np.stack(masks, axis=2))
        assert not (tmp_path / "out/puppet_mask/wave").exists()


class TestBadInput:
    def test_another_layout(self, root: Path, refused: Refused) -> None:
        (root / "joint_positions").rename(root / "joints")
        refused(Jhmdb(root).select, says=("joint_positions", "--root"))

    def test_no_clips(self, tmp_path: Path, refused: Refused) -> None:
        (tmp_path / "joint_positions").mkdir()
        refused(Jhmdb(tmp_path).select, says="no sequence")

    def test_an_unknown_clip(self, root: Path, refused: Refused) -> None:
        refused(Jhmdb(root).select, ["nobody"], says=("'nobody'", "ball_catch_1"))

    def test_no_video(self, root: Path, refused: Refused) -> None:
        (root / "ReCompress_Videos/catch/ball_catch_1.avi").unlink()
        refused(Jhmdb(root).select, says=("ball_catch_1.avi", "Rename_Images/catch/ball_catch_1"))

    def test_a_video_that_is_none(self, root: Path, refused: Refused) -> None:
        (root / "ReCompress_Videos/catch/ball_catch_1.avi").write_text("no video")
        refused(Jhmdb(root).select, says="ball_catch_1.avi")

    def test_no_joints(self, root: Path, refused: Refused) -> None:
        _joints_file(root).unlink()
        refused(Jhmdb(root).select, says=("There is no", "ball_catch_1/joint_positions.mat"))

    @pytest.mark.parametrize("content", [b"", b"no matrix at all", b"MATLAB 5.0" + bytes(200)])
    def test_joints_that_cannot_be_read(self, root: Path, refused: Refused, content: bytes) -> None:
        _joints_file(root).write_bytes(content)
        refused(Jhmdb(root).select, says="ball_catch_1/joint_positions.mat")

    @pytest.mark.parametrize(
        "positions", [np.zeros((2, 13, 9)), np.zeros((3, 15, 9)), np.full((2, 15, 9), np.nan), np.zeros((15, 1))]
    )
    def test_joints_of_another_shape(self, root: Path, refused: Refused, positions: np.ndarray) -> None:
        write_mat(_joints_file(root), pos_img=positions)
        refused(Jhmdb(root).select, says=("joint_positions.mat", "2 x 15 x frames"))

    def test_another_variable(self, root: Path, refused: Refused) -> None:
        write_mat(_joints_file(root), pos_world=np.zeros((2, 15, 9)))
        refused(Jhmdb(root).select, says=("joint_positions.mat", "'pos_img'"))

    @pytest.mark.parametrize("shape", [(48, 64, 8), (48, 60, 9), (64, 48, 9)])
    def test_masks_of_another_size_or_length(self, root: Path, refused: Refused, shape: tuple[int, ...]) -> None:
        write_mat(_mask_file(root), part_mask=np.ones(shape, np.uint8))
        refused(Jhmdb(root).select, says=("puppet_mask.mat", "64 x 48", "and 9"))

    def test_a_first_mask_without_a_person(self, root: Path, refused: Refused) -> None:
        write_mat(_mask_file(root), part_mask=np.zeros((48, 64, 9), np.uint8))
        refused(Jhmdb(root).select, says=("puppet_mask.mat", "first frame"))

    def test_a_single_frame(self, root: Path, refused: Refused) -> None:
        refused(Jhmdb(root).select, None, 1, says=("1 frames are too few", "2"))

    def test_without_scipy_it_says_what_to_install(
        self, root: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "scipy.io", None)
        refused(Jhmdb(root).select, says=("scipy", "labelprop[evaluate]"))
