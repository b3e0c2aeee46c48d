from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.vip import CLASSES, Vip, confusion, intersection_over_union
from model.labels import indexed_png
from model.rendered import FLOWER, PUPPET, RenderedClip

from ... import by_the_book
from ...datasets import VIP_CLASSES, results_of, spoiled, vip_maps, write_vip

Refused = Callable[..., None]
Clips = tuple[RenderedClip, RenderedClip]

IDENTITIES = tuple(sorted(VIP_CLASSES.values()))


@pytest.fixture
def root(tmp_path: Path, clips: Clips) -> Path:
    """Two validation videos."""
    write_vip(tmp_path / "VIP_Fine", "videos1", clips[0])
    return write_vip(tmp_path / "VIP_Fine", "videos2", clips[1])


def _first(root: Path) -> Path:
    return root / "Annotations" / "Category_ids" / "videos1" / f"{0:012}.png"


class TestSelection:
    def test_the_validation_videos(self, root: Path, clips: Clips) -> None:
        write_vip(root, "videos3", clips[0])
        (root / "lists" / "val_videos.txt").write_text("videos2\nvideos1\nvideos9\n")
        selection = Vip(root).select()
        assert [(clip.name, clip.frame_count, clip.size) for clip in selection.clips] == [
            ("videos2", 6, (72, 56)),
            ("videos1", 9, (64, 48)),
        ]
        assert selection.absent == ("videos9",)
        assert selection.origin.endswith("val_videos.txt")

    def test_by_name_and_the_first_frames_only(self, root: Path) -> None:
        (root / "lists" / "val_videos.txt").unlink()
        (clip,) = Vip(root).select(["videos2"], 4).clips
        assert (clip.name, clip.frame_count) == ("videos2", 4)


class TestGiven:
    def test_every_class_of_the_first_frame(self, root: Path, clips: Clips) -> None:
        vip = Vip(root)
        anchor = vip.given(vip.select(["videos1"]).clips[0])
        assert [label.object for label in anchor.labels] == list(IDENTITIES)
        for label, identity in zip(anchor.labels, (PUPPET, FLOWER), strict=True):
            assert np.array_equal(label.mask, clips[0].mask(0) == identity)
        assert anchor.void is None
        assert [vip.object(each).name for each in IDENTITIES] == ["upper-clothes", "face"]

    def test_what_is_no_class_is_void(self, root: Path, clips: Clips) -> None:
        first = vip_maps(clips[0])[0]
        first[:2], first[2] = 255, 20
        _first(root).write_bytes(indexed_png.encode(first))
        vip = Vip(root)
        anchor = vip.given(vip.select(["videos1"]).clips[0])
        assert [label.object for label in anchor.labels] == list(IDENTITIES)
        assert anchor.void is not None
        assert np.array_equal(anchor.void, first >= 20)

    def test_the_truth_of_a_frame_has_its_own_classes(self, root: Path, clips: Clips) -> None:
        later = vip_maps(clips[0])[3]
        later[:4, :4] = 1
        _first(root).with_name(f"{3:012}.png").write_bytes(indexed_png.encode(later))
        vip = Vip(root)
        truth = vip.truth(vip.select(["videos1"]).clips[0], 3)
        assert [found.object for found in truth.objects] == [1, *IDENTITIES]
        assert np.array_equal(truth.objects[0].mask, later == 1)


class TestScore:
    def test_the_truth_itself_is_perfect(self, root: Path, clips: Clips) -> None:
        vip = Vip(root)
        for clip, rendered in zip(vip.select().clips, clips, strict=True):
            score = vip.score(clip, results_of(vip_maps(rendered), IDENTITIES))
            assert score.numbers == {"mIoU": 1, "pixel-accuracy": 1}
            assert {name: share for name, share in score.details["classes"].items() if share is not None} == {
                "background": 1, "upper-clothes": 1, "face": 1,
            }  # fmt: skip

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_it_agrees_with_the_protocol(self, root: Path, clips: Clips, seed: int) -> None:
        vip = Vip(root)
        truths = [vip_maps(clip) for clip in clips]
        # A class that comes later: it is never predicted and counts as missed.
        truths[1][4][:5, :7] = 2
        path = root / "Annotations" / "Category_ids" / "videos2" / f"{4:012}.png"
        path.write_bytes(indexed_png.encode(truths[1][4]))
        preds = [spoiled(maps, seed) for maps in map(vip_maps, clips)]
        scores = [
            vip.score(clip, results_of(maps, IDENTITIES)) for clip, maps in zip(vip.select().clips, preds, strict=True)
        ]
        for score, pred, truth in zip(scores, preds, truths, strict=True):
            assert score.numbers["mIoU"] == pytest.approx(by_the_book.vip(pred, truth), abs=1e-9)
        mean = vip.mean(scores)
        all_frames = [list(chain.from_iterable(maps)) for maps in (preds, truths)]
        # One confusion matrix of all videos, and not the mean of the videos' numbers.
        assert mean["mIoU"] == pytest.approx(by_the_book.vip(*all_frames), abs=1e-9)
        assert mean["mIoU"] != pytest.approx(np.mean([score.numbers["mIoU"] for score in scores]), abs=1e-4)
        pixels = [np.concatenate([m.reshape(-1) for m in maps]) for maps in all_frames]
        assert mean["pixel-accuracy"] == pytest.approx((pixels[0] == pixels[1]).mean())

    def test_the_given_frame_counts_but_is_never_the_worst(self, root: Path, clips: Clips) -> None:
        vip = Vip(root)
        clip = vip.select(["videos1"]).clips[0]
        maps = vip_maps(clips[0])
        maps[0][:] = 0
        score = vip.score(clip, results_of(maps, IDENTITIES))
        assert score.numbers["mIoU"] < 1
        assert sorted(score.frames) == list(range(1, 9))
        assert set(score.frames.values()) == {1.0}

    def test_void_is_not_counted(self, root: Path, clips: Clips) -> None:
        later = vip_maps(clips[0])[3]
        later[:20] = 255
        _first(root).with_name(f"{3:012}.png").write_bytes(indexed_png.encode(later))
        vip = Vip(root)
        score = vip.score(vip.select(["videos1"]).clips[0], results_of(vip_maps(clips[0]), IDENTITIES))
        assert score.numbers == {"mIoU": 1, "pixel-accuracy": 1}

    @given(st.integers(0, 10_000))
    def test_the_confusion_matrix_by_counting(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth, pred = rng.integers(0, 24, (6, 7), np.uint8), rng.integers(0, 20, (6, 7), np.uint8)
        matrix = confusion(truth, pred)
        assert matrix.shape == (20, 20)
        for t in range(20):
            for p in range(20):
                assert matrix[t, p] == ((truth == t) & (pred == p)).sum()

    def test_a_class_that_is_nowhere_has_no_number(self) -> None:
        shares = intersection_over_union(confusion(np.array([[0, 1]], np.uint8), np.array([[0, 2]], np.uint8)))
        assert shares[:3].tolist() == [1, 0, 0]
        assert np.isnan(shares[3:]).all()
        assert len(shares) == len(CLASSES) == 20


def test_predictions_are_written_as_the_dataset_names_them(root: Path, clips: Clips, tmp_path: Path) -> None:
    vip = Vip(root)
    pred = spoiled(vip_maps(clips[1]))
    vip.write(vip.select(["videos2"]).clips[0], results_of(pred, IDENTITIES), tmp_path / "out")
    for i, index_map in enumerate(pred):
        written = indexed_png.decode((tmp_path / "out" / "videos2" / f"{i:012}.png").read_bytes())
        assert np.array_equal(written, index_map)


class TestBadInput:
    @pytest.mark.parametrize("missing", ["Annotations", "Images"])
    def test_another_layout(self, root: Path, missing: str, refused: Refused) -> None:
        (root / missing).rename(root / "elsewhere")
        refused(Vip(root).select, says=(missing, "VIP_Fine"))

    def test_no_list(self, root: Path, refused: Refused) -> None:
        (root / "lists" / "val_videos.txt").unlink()
        refused(Vip(root).select, says=("val_videos.txt", "--sequences"))

    def test_a_list_of_which_nothing_is_there(self, root: Path, refused: Refused) -> None:
        (root / "lists" / "val_videos.txt").write_text("videos7\n")
        refused(Vip(root).select, says=("val_videos.txt", "'videos7'"))

    def test_an_unknown_video(self, root: Path, refused: Refused) -> None:
        refused(Vip(root).select, ["videos7"], says=("'videos7'", "videos1, videos2"))

    def test_masks_of_another_size(self, root: Path, clips: Clips, refused: Refused) -> None:
        _first(root).write_bytes(indexed_png.encode(vip_maps(clips[1])[0]))
        refused(Vip(root).select, says=("videos1", "72 x 56", "64 x 48"))

    def test_a_mask_too_few(self, root: Path, refused: Refused) -> None:
        _first(root).with_name(f"{3:012}.png").unlink()
        refused(Vip(root).select, says=f"videos1/{3:012}.png")

    def test_a_first_frame_without_a_class(self, root: Path, refused: Refused) -> None:
        _first(root).write_bytes(indexed_png.encode(np.full((48, 64), 255, np.uint8)))
        refused(Vip(root).select, says=(_first(root).name, "no class"))

    def test_a_single_frame(self, root: Path, refused: Refused) -> None:
        refused(Vip(root).select, None, 1, says="too few")
