from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.benchmark import ClipScore
from model.evaluation.davis import Davis, statistics
from model.labels import indexed_png
from model.rendered import FLOWER, PUPPET, RenderedClip

from ... import by_the_book
from ...datasets import IndexMap, index_maps, results_of, spoiled, write_davis

Refused = Callable[..., None]
Clips = tuple[RenderedClip, RenderedClip]


@pytest.fixture
def root(tmp_path: Path, clips: Clips) -> Path:
    """Two sequences of two objects."""
    write_davis(tmp_path / "davis", "ball", clips[0])
    return write_davis(tmp_path / "davis", "dance", clips[1])


@pytest.fixture
def root_2016(tmp_path: Path, clips: Clips) -> Path:
    """Two sequences of one object, black and white."""
    write_davis(tmp_path / "davis-2016", "ball", clips[0], single=True)
    return write_davis(tmp_path / "davis-2016", "dance", clips[1], single=True)


def _list(root: Path, text: str, year: str = "2017") -> Path:
    path = root / "ImageSets" / year / "val.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _score(root: Path, pred: dict[str, list[IndexMap]], identities: tuple[int, ...]) -> list[ClipScore]:
    davis = Davis(root)
    return [davis.score(clip, results_of(pred[clip.name], identities)) for clip in davis.select().clips]


class TestSelection:
    def test_every_sequence_with_its_truth(self, root: Path) -> None:
        selection = Davis(root).select()
        assert [(clip.name, clip.frame_count, clip.size) for clip in selection.clips] == [
            ("ball", 9, (64, 48)),
            ("dance", 6, (72, 56)),
        ]
        assert all(clip.objects == (FLOWER, PUPPET) and not clip.single for clip in selection.clips)
        assert selection.absent == ()
        assert "Annotations" in selection.origin

    def test_black_and_white_is_one_object(self, root_2016: Path) -> None:
        assert all(clip.objects == (1,) and clip.single for clip in Davis(root_2016).select().clips)

    def test_the_datasets_own_list_decides(self, root: Path) -> None:
        path = _list(root, "dance\n")
        selection = Davis(root).select()
        assert [clip.name for clip in selection.clips] == ["dance"]
        assert selection.origin == str(path)
        # Asked for by name, it does not.
        assert [clip.name for clip in Davis(root).select(["ball"]).clips] == ["ball"]

    def test_the_list_of_2017_comes_before_that_of_2016(self, root: Path) -> None:
        _list(root, "/JPEGImages/480p/ball/00000.jpg /Annotations/480p/ball/00000.png\n", "480p")
        assert [clip.name for clip in Davis(root).select().clips] == ["ball"]
        _list(root, "dance\n")
        assert [clip.name for clip in Davis(root).select().clips] == ["dance"]

    def test_what_is_listed_and_not_there_is_told(self, root: Path) -> None:
        _list(root, "bmx\ndance\nsurf\n")
        selection = Davis(root).select()
        assert [clip.name for clip in selection.clips] == ["dance"]
        assert selection.absent == ("bmx", "surf")

    def test_the_first_frames_only(self, root: Path) -> None:
        clip = Davis(root).select(["ball"], 4).clips[0]
        assert clip.frame_count == len(clip.masks) == 4
        assert Davis(root).select(["dance"], 400).clips[0].frame_count == 6


class TestGiven:
    def test_the_first_frames_objects(self, root: Path, clips: Clips) -> None:
        davis = Davis(root)
        anchor = davis.given(davis.select(["ball"]).clips[0])
        assert anchor.frame == 0
        assert anchor.void is None
        assert [label.object for label in anchor.labels] == [FLOWER, PUPPET]
        for label in anchor.labels:
            assert np.array_equal(label.mask, clips[0].mask(0) == label.object)

    def test_one_object_in_white(self, root_2016: Path, clips: Clips) -> None:
        davis = Davis(root_2016)
        (label,) = davis.given(davis.select(["ball"]).clips[0]).labels
        assert label.object == 1
        assert np.array_equal(label.mask, clips[0].mask(0) == PUPPET)

    def test_void_is_given_as_void(self, root: Path, clips: Clips) -> None:
        first = clips[0].mask(0)
        first[:3] = 255
        (root / "Annotations/480p/ball/00000.png").write_bytes(indexed_png.encode(first))
        davis = Davis(root)
        anchor = davis.given(davis.select(["ball"]).clips[0])
        assert [label.object for label in anchor.labels] == [FLOWER, PUPPET]
        assert np.array_equal(anchor.void, first == 255)

    def test_the_truth_of_a_frame(self, root: Path, clips: Clips) -> None:
        davis = Davis(root)
        truth = davis.truth(davis.select(["ball"]).clips[0], 4)
        assert truth.frame == 4
        for found in truth.objects:
            assert np.array_equal(found.mask, clips[0].mask(4) == found.object)


class TestScore:
    def test_the_truth_itself_is_perfect(self, root: Path, clips: Clips) -> None:
        truth = {"ball": index_maps(clips[0]), "dance": index_maps(clips[1])}
        scores = _score(root, truth, (FLOWER, PUPPET))
        perfect = {"J&F": 1, "J": 1, "J-recall": 1, "J-decay": 0, "F": 1, "F-recall": 1, "F-decay": 0}
        assert all(score.numbers == pytest.approx(perfect) for score in scores)
        assert Davis(root).mean(scores) == pytest.approx(perfect)
        assert list(perfect) == list(Davis.columns)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_several_objects_agree_with_the_protocol(self, root: Path, clips: Clips, seed: int) -> None:
        truth = {"ball": index_maps(clips[0]), "dance": index_maps(clips[1])}
        pred = {name: spoiled(maps, seed) for name, maps in truth.items()}
        scores = _score(root, pred, (FLOWER, PUPPET))
        for score in scores:
            expected = by_the_book.davis({score.name: pred[score.name]}, {score.name: truth[score.name]})
            assert score.numbers == pytest.approx(expected, abs=1e-9)
        mean = Davis(root).mean(scores)
        assert mean == pytest.approx(by_the_book.davis(pred, truth), abs=1e-9)
        assert 0.1 < mean["J"] < 0.9

    def test_one_object_agrees_with_the_protocol(self, root_2016: Path, clips: Clips) -> None:
        names = ("ball", "dance")
        truth = {name: [m == PUPPET for m in index_maps(clip)] for name, clip in zip(names, clips, strict=True)}
        pred = {name: spoiled([m.astype(np.uint8) for m in maps]) for name, maps in truth.items()}
        mean = Davis(root_2016).mean(_score(root_2016, pred, (1,)))
        assert mean == pytest.approx(by_the_book.davis(pred, truth, single=True), abs=1e-9)

    def test_the_first_and_the_last_frame_do_not_count(self, root: Path, clips: Clips) -> None:
        davis = Davis(root)
        clip = davis.select(["ball"]).clips[0]
        pred = spoiled(index_maps(clips[0]))
        score = davis.score(clip, results_of(pred, (FLOWER, PUPPET)))
        assert sorted(score.frames) == score.details["scored_frames"] == list(range(1, 8))
        pred[0][:], pred[-1][:] = 0, 0
        assert davis.score(clip, results_of(pred, (FLOWER, PUPPET))).numbers == score.numbers
        pred[1][:] = 0
        assert davis.score(clip, results_of(pred, (FLOWER, PUPPET))).numbers != score.numbers

    def test_the_last_of_the_first_frames_does_not_count_either(self, root: Path, clips: Clips) -> None:
        davis = Davis(root)
        clip = davis.select(["ball"], 5).clips[0]
        score = davis.score(clip, results_of(index_maps(clips[0])[:5], (FLOWER, PUPPET)))
        assert sorted(score.frames) == [1, 2, 3]

    def test_objects_count_the_same_in_whatever_sequence(self, tmp_path: Path, clips: Clips) -> None:
        write_davis(tmp_path, "both", clips[0])
        write_davis(tmp_path, "one", clips[1], single=True)
        davis = Davis(tmp_path)
        both, one = davis.select().clips
        empty = [np.zeros_like(index_map) for index_map in index_maps(clips[1])]
        scores = [
            davis.score(both, results_of(index_maps(clips[0]), (FLOWER, PUPPET))),
            davis.score(one, results_of(empty, (1,))),
        ]
        assert [score.numbers["J"] for score in scores] == [1, 0]
        assert davis.mean(scores)["J"] == pytest.approx(2 / 3)

    def test_an_object_without_a_result_is_missed(self, root: Path, clips: Clips) -> None:
        davis = Davis(root)
        clip = davis.select(["ball"]).clips[0]
        whole = results_of(index_maps(clips[0]), (FLOWER, PUPPET))
        without_mask = [replace(r, objects=(r.objects[0], replace(r.objects[1], mask=None))) for r in whole]
        for results in (results_of(index_maps(clips[0]), (FLOWER,)), without_mask):
            score = davis.score(clip, results)
            assert score.numbers["J"] == pytest.approx(0.5)
            assert score.details["objects"][str(PUPPET)]["J"] == 0

    def test_an_object_that_comes_later_is_not_scored(self, root: Path, clips: Clips) -> None:
        maps = index_maps(clips[0])
        late = np.where(maps[4] == 0, 9, maps[4]).astype(np.uint8)
        (root / "Annotations/480p/ball/00004.png").write_bytes(indexed_png.encode(late))
        davis = Davis(root)
        score = davis.score(davis.select(["ball"]).clips[0], results_of(maps, (FLOWER, PUPPET)))
        assert score.numbers["J&F"] == 1
        assert list(score.details["objects"]) == [str(FLOWER), str(PUPPET)]

    def test_void_in_a_later_frame_is_background(self, root: Path, clips: Clips) -> None:
        maps = index_maps(clips[0])
        hidden = np.where(maps[4] == PUPPET, 255, maps[4]).astype(np.uint8)
        (root / "Annotations/480p/ball/00004.png").write_bytes(indexed_png.encode(hidden))
        davis = Davis(root)
        score = davis.score(davis.select(["ball"]).clips[0], results_of(maps, (FLOWER, PUPPET)))
        assert score.details["objects"][str(PUPPET)]["J-frames"] == [1, 1, 1, 0, 1, 1, 1]

    def test_a_frame_where_nothing_is_true_and_nothing_predicted_is_right(self, root: Path, clips: Clips) -> None:
        maps = index_maps(clips[0])
        maps[4][:] = 0
        (root / "Annotations/480p/ball/00004.png").write_bytes(indexed_png.encode(maps[4]))
        davis = Davis(root)
        clip = davis.select(["ball"]).clips[0]
        assert davis.score(clip, results_of(maps, (FLOWER, PUPPET))).frames[4] == 1
        maps[4][0, 0] = PUPPET
        assert davis.score(clip, results_of(maps, (FLOWER, PUPPET))).frames[4] == 0.5

    def test_the_worst_frame_is_the_one_where_all_is_lost(self, root: Path, clips: Clips) -> None:
        davis = Davis(root)
        score = davis.score(davis.select(["ball"]).clips[0], results_of(spoiled(index_maps(clips[0])), (1, 2)))
        assert min(score.frames, key=lambda frame: score.frames[frame]) == 4
        assert score.frames[4] == 0


class TestStatistics:
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=130))
    def test_they_are_the_toolkits(self, values: list[float]) -> None:
        assert statistics(values) == pytest.approx(by_the_book.statistics(values), abs=1e-12)

    def test_by_hand(self) -> None:
        # Quarters of eight frames: 1 to 3, 3 to 5 (4.5 rounds up), 5 to 6, 6 to 8.
        found = statistics([1, 1, 1, 0.6, 0.5, 0.4, 0.1, 0.1])
        assert found == pytest.approx((4.7 / 8, 4 / 8, 1 - 0.2))


class TestPredictions:
    def test_they_are_written_as_the_dataset_names_them(self, root: Path, clips: Clips, tmp_path: Path) -> None:
        davis = Davis(root)
        clip = davis.select(["ball"]).clips[0]
        pred = spoiled(index_maps(clips[0]))
        davis.write(clip, results_of(pred, (FLOWER, PUPPET)), tmp_path / "out")
        for i, index_map in enumerate(pred):
            written = indexed_png.decode((tmp_path / "out" / "ball" / f"{i:05}.png").read_bytes())
            assert np.array_equal(written, index_map)

    @by_the_book.needs_scorer
    @pytest.mark.parametrize("single", [False, True])
    def test_the_shared_scorer_agrees(self, tmp_path: Path, clips: Clips, single: bool) -> None:
        for name, clip in zip(("ball", "dance"), clips, strict=True):
            write_davis(tmp_path / "davis", name, clip, single=single)
        davis = Davis(tmp_path / "davis")
        scores = []
        for name, clip in zip(("ball", "dance"), clips, strict=True):
            maps = [(m == PUPPET).astype(np.uint8) for m in index_maps(clip)] if single else index_maps(clip)
            results = results_of(spoiled(maps), (1,) if single else (FLOWER, PUPPET))
            (selected,) = davis.select([name]).clips
            davis.write(selected, results, tmp_path / "out")
            scores.append(davis.score(selected, results))
        truth = tmp_path / "davis" / "Annotations" / "480p"
        theirs = by_the_book.shared_scorer().score_masks(tmp_path / "out", truth, set())
        for score in scores:
            for measure in "JF":
                assert score.numbers[measure] == pytest.approx(theirs["sequences"][score.name][measure], abs=1e-3)
        mean = davis.mean(scores)
        assert {key: mean[key] for key in ("J", "F", "J&F")} == pytest.approx(theirs["mean"], abs=1e-3)


class TestBadInput:
    def test_no_such_folder(self, tmp_path: Path, refused: Refused) -> None:
        refused(Davis, tmp_path / "nothing", says=("nothing", "--root"))

    @pytest.mark.parametrize("missing", ["Annotations", "JPEGImages"])
    def test_another_layout(self, root: Path, missing: str, refused: Refused) -> None:
        (root / missing).rename(root / "elsewhere")
        refused(Davis(root).select, says=(missing, "Annotations/480p/SEQUENCE/00000.png"))

    def test_no_sequences(self, root: Path, refused: Refused) -> None:
        for folder in (root / "Annotations/480p").iterdir():
            folder.rename(root / folder.name)
        refused(Davis(root).select, says=("no sequence", "--root"))

    def test_an_unknown_sequence(self, root: Path, refused: Refused) -> None:
        refused(Davis(root).select, ["cow"], says=("'cow'", "ball, dance"))

    def test_a_list_of_which_nothing_is_there(self, root: Path, refused: Refused) -> None:
        path = _list(root, "bmx\nsurf\n")
        refused(Davis(root).select, says=("None of the 2", str(path), "'bmx'"))

    def test_no_images(self, root: Path, refused: Refused) -> None:
        (root / "JPEGImages/480p/ball").rename(root / "ball")
        refused(Davis(root).select, says=("JPEGImages/480p/ball", "frames"))

    def test_a_mask_too_few(self, root: Path, refused: Refused) -> None:
        (root / "Annotations/480p/ball/00005.png").unlink()
        refused(Davis(root).select, says=("ball/00005.png", "truth"))

    def test_a_mask_of_another_size(self, root: Path, clips: Clips, refused: Refused) -> None:
        (root / "Annotations/480p/ball/00005.png").write_bytes(indexed_png.encode(clips[1].mask(5)))
        refused(Davis(root).select, says=("ball/00005.png", "72 x 56", "64 x 48"))

    def test_a_first_mask_without_objects(self, root: Path, refused: Refused) -> None:
        (root / "Annotations/480p/ball/00000.png").write_bytes(indexed_png.encode(np.zeros((48, 64), np.uint8)))
        refused(Davis(root).select, says=("ball/00000.png", "no object"))

    def test_too_few_frames(self, root: Path, refused: Refused) -> None:
        refused(Davis(root).select, None, 2, says=("ball", "2 frames are too few", "3"))
