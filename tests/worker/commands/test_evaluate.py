from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from app.cli import main
from model.labels import indexed_png
from model.rendered import PUPPET, render_clip

from ... import by_the_book
from ...datasets import (
    index_maps,
    jhmdb_joints,
    otb_boxes,
    vip_maps,
    write_davis,
    write_jhmdb,
    write_otb,
    write_vip,
)

pytestmark = pytest.mark.usefixtures("installed", "one_thread")

CLIPS = {
    "ball": render_clip(width=64, height=48, frame_count=8),
    "dance": render_clip(width=72, height=56, frame_count=6, seed=1),
}
WRITERS: dict[str, Callable[..., Path]] = {
    "davis": write_davis,
    "jhmdb": lambda root, name, clip: write_jhmdb(root, "catch", name, clip),
    "vip": write_vip,
    "boxes": write_otb,
}
Run = Callable[..., int]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both clips as each dataset has them."""
    roots = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for benchmark, root in roots.items():
        for name, clip in CLIPS.items():
            WRITERS[benchmark](root, name, clip)
    return roots


@pytest.fixture
def run(roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`labelprop evaluate`, of the rendered dataset unless `root` says otherwise."""
    monkeypatch.chdir(tmp_path)

    def evaluate(benchmark: str, *arguments: object, root: object = None) -> int:
        given = ["--root", str(roots[benchmark] if root is None else root), "--device", "cpu", "--threads", "1"]
        return main(["evaluate", benchmark, *given, *map(str, arguments)])

    return evaluate


def _report(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _maps(folder: Path, frames: int) -> list[np.ndarray]:
    paths = sorted(folder.iterdir())
    assert len(paths) == frames
    return [indexed_png.decode(path.read_bytes()) for path in paths]


class TestNumbersAreThoseOfTheFilesThatWereWritten:
    """By each protocol's own terms, to 0.001 and far below."""

    def test_davis(self, run: Run, tmp_path: Path) -> None:
        assert run("davis", "--out", "out", "--json", "out.json") == 0
        report = _report(tmp_path / "out.json")
        pred = {name: _maps(tmp_path / "out" / name, clip.frame_count) for name, clip in CLIPS.items()}
        truth = {name: index_maps(clip) for name, clip in CLIPS.items()}
        assert report["mean"] == pytest.approx(by_the_book.davis(pred, truth), abs=1e-6)
        for row in report["sequences"]:
            expected = by_the_book.davis({row["name"]: pred[row["name"]]}, {row["name"]: truth[row["name"]]})
            assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-6)
        assert 0.1 < report["mean"]["J&F"] < 1

    def test_davis_2016(self, run: Run, tmp_path: Path) -> None:
        for name, clip in CLIPS.items():
            write_davis(tmp_path / "davis-2016", name, clip, single=True)
        assert run("davis", "--out", "out", "--json", "out.json", root=tmp_path / "davis-2016") == 0
        pred = {name: _maps(tmp_path / "out" / name, clip.frame_count) for name, clip in CLIPS.items()}
        truth = {name: [m == PUPPET for m in index_maps(clip)] for name, clip in CLIPS.items()}
        expected = by_the_book.davis(pred, truth, single=True)
        assert _report(tmp_path / "out.json")["mean"] == pytest.approx(expected, abs=1e-6)

    def test_jhmdb(self, run: Run, tmp_path: Path) -> None:
        assert run("jhmdb", "--out", "out", "--json", "out.json") == 0
        mean = _report(tmp_path / "out.json")["mean"]
        folders = {name: tmp_path / "out" / "joint_positions" / "catch" / name for name in CLIPS}
        pred = {name: loadmat(folder / "joint_positions.mat")["pos_img"] - 0.5 for name, folder in folders.items()}
        truth = {name: jhmdb_joints(clip) for name, clip in CLIPS.items()}
        for alpha in (0.1, 0.2, 0.3, 0.4, 0.5):
            assert mean[f"PCK@{alpha}"] == pytest.approx(by_the_book.pck(pred, truth, alpha), abs=1e-6)
        overlaps = []
        for name, clip in CLIPS.items():
            masks = loadmat(tmp_path / "out" / "puppet_mask" / "catch" / name / "puppet_mask.mat")["part_mask"] > 0
            pairs = [(masks[:, :, i], index_map == PUPPET) for i, index_map in enumerate(index_maps(clip))]
            overlaps.append(np.mean([by_the_book.jaccard(*pair) for pair in pairs[1:]]))
        assert mean["J"] == pytest.approx(np.mean(overlaps), abs=1e-6)

    def test_vip(self, run: Run, tmp_path: Path) -> None:
        assert run("vip", "--out", "out", "--json", "out.json") == 0
        pred = [m for name, clip in CLIPS.items() for m in _maps(tmp_path / "out" / name, clip.frame_count)]
        truth = [m for clip in CLIPS.values() for m in vip_maps(clip)]
        assert _report(tmp_path / "out.json")["mean"]["mIoU"] == pytest.approx(by_the_book.vip(pred, truth), abs=1e-6)

    def test_boxes(self, run: Run, tmp_path: Path) -> None:
        assert run("boxes", "--out", "out", "--json", "out.json") == 0
        expected = []
        for name, clip in CLIPS.items():
            lines = (tmp_path / "out" / f"{name}.txt").read_text().splitlines()
            pred = [(x - 1, y - 1, w, h) for x, y, w, h in (map(float, line.split(",")) for line in lines)]
            expected.append(by_the_book.otb(pred, otb_boxes(clip)))
        mean = _report(tmp_path / "out.json")["mean"]
        assert (mean["AUC"], mean["precision@20"]) == pytest.approx(np.mean(expected, axis=0), abs=1e-6)

    @by_the_book.needs_scorer
    def test_the_shared_scorer_agrees(self, run: Run, roots: dict[str, Path], tmp_path: Path) -> None:
        assert run("davis", "--out", "out", "--json", "out.json") == 0
        scorer = by_the_book.shared_scorer()
        theirs = scorer.score_masks(tmp_path / "out", roots["davis"] / "Annotations" / "480p", set())
        report = _report(tmp_path / "out.json")
        assert {key: report["mean"][key] for key in theirs["mean"]} == pytest.approx(theirs["mean"], abs=1e-3)
        for row in report["sequences"]:
            for measure in "JF":
                assert row[measure] == pytest.approx(theirs["sequences"][row["name"]][measure], abs=1e-3)


class TestWhatIsSaid:
    def test_a_line_per_sequence_and_the_mean(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("davis") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == [
            "sequence", "J&F", "J", "J-recall", "J-decay", "F", "F-recall", "F-decay", "frames", "frames/s"
        ]  # fmt: skip
        assert [line.split()[0] for line in lines[1:3]] == ["ball", "dance"]
        assert set(lines[3]) == {"-"}
        assert lines[4].split()[0] == "mean"
        assert len({len(line) for line in lines[:5]}) == 1
        assert [line.split()[-2] for line in (lines[1], lines[2], lines[4])] == ["8", "6", "14"]
        assert len(lines) == 5

    def test_what_was_left_out(self, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        write_davis(tmp_path / "davis", "ball", CLIPS["ball"])
        (tmp_path / "davis" / "ImageSets" / "2017").mkdir(parents=True)
        (tmp_path / "davis" / "ImageSets" / "2017" / "val.txt").write_text("ball\nbike\nboat\n")
        assert run("davis", "--frames", 4, "--json", "out.json", root="davis") == 0
        said = capsys.readouterr().out
        assert "Only the first 4 frames" in said
        assert "1 of the 3 sequences that are listed" in said
        report = _report(tmp_path / "out.json")
        assert report["sequences_absent"] == ["bike", "boat"]
        assert report["first_frames_only"] == 4
        assert report["frames"] == 4

    def test_a_number_that_there_is_not(self, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        write_jhmdb(tmp_path / "jhmdb", "wave", "dance", CLIPS["dance"], masks=False)
        assert run("jhmdb", "--json", "out.json", root="jhmdb") == 0
        assert capsys.readouterr().out.splitlines()[1].split()[6] == "-"
        assert _report(tmp_path / "out.json")["mean"]["J"] is None

    def test_a_bar_that_counts_frames_on_a_terminal(
        self, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert run("davis", "--sequences", "dance") == 0
        assert "6/6" in terminal.getvalue()
        assert "evaluate" in terminal.getvalue()
        assert "dance" in capsys.readouterr().out

    def test_quiet(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("davis", "--sequences", "dance", "--quiet") == 0
        assert capsys.readouterr() == ("", "")


class TestFiles:
    def test_every_number_and_setting(self, run: Run, roots: dict[str, Path], tmp_path: Path) -> None:
        assert run("davis", "--sequences", " dance ,", "--workers", 3, "--json", "new/folder/out.json") == 0
        report = _report(tmp_path / "new/folder/out.json")
        assert report["benchmark"] == "davis"
        assert "first and the last frame are not scored" in report["protocol"]
        assert report["root"] == str(roots["davis"])
        assert report["model"]["name"] == "uvc-r18"
        assert len(report["model"]["sha256"]) == 64
        assert report["preset"]["name"] == "plain"
        assert report["preset"]["top_k"] == 10
        assert (report["device"], report["threads"], report["workers"]) == ("cpu", 1, 1)
        (row,) = report["sequences"]
        assert row["name"] == "dance"
        assert row["details"]["scored_frames"] == [1, 2, 3, 4]
        assert list(row["scores_by_frame"]) == ["1", "2", "3", "4"]
        assert np.mean(list(row["scores_by_frame"].values())) == pytest.approx(row["J&F"], abs=1e-3)
        assert len(row["details"]["objects"]["1"]["J-frames"]) == 4
        assert report["frames"] == row["frames"] == 6
        assert report["frames_per_second"] == pytest.approx(6 / report["propagation_seconds"], rel=0.05)

    @pytest.mark.parametrize("benchmark", WRITERS)
    def test_the_worst_frames_beside_the_truth(self, run: Run, benchmark: str, tmp_path: Path) -> None:
        assert run(benchmark, "--out", "deep/out", "--quiet") == 0
        with Image.open(tmp_path / "deep/out/worst.jpg") as picture:
            picture.load()
            assert picture.width > 2 * 200 * 64 / 48  # two columns
            assert picture.height > 2 * 200  # and two sequences at least
        assert not list((tmp_path / "deep/out").glob(".*"))

    def test_nothing_is_written_unless_asked(self, run: Run, tmp_path: Path) -> None:
        assert run("boxes", "--sequences", "dance") == 0
        assert not [path for path in tmp_path.iterdir() if path.name != "home"]


class TestBadInput:
    """Ends with status 2 and one sentence that says what to do; nothing is written."""

    @pytest.fixture
    def refused(self, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., None]:
        def check(benchmark: str, *arguments: object, says: str, root: object = None) -> None:
            before = sorted(tmp_path.rglob("*"))
            assert run(benchmark, *arguments, root=root) == 2
            said, error = capsys.readouterr()
            assert said == ""
            assert error.startswith("error: ")
            assert says in error
            assert "Traceback" not in error
            assert sorted(tmp_path.rglob("*")) == before

        return check

    @pytest.mark.parametrize("benchmark", WRITERS)
    def test_a_folder_that_is_missing_or_empty(
        self, refused: Callable[..., None], benchmark: str, tmp_path: Path
    ) -> None:
        refused(benchmark, root="nothing", says="There is no folder nothing")
        (tmp_path / "empty").mkdir()
        refused(benchmark, root="empty", says="--root")

    @pytest.mark.parametrize("benchmark", WRITERS)
    def test_another_datasets_layout(
        self, refused: Callable[..., None], roots: dict[str, Path], benchmark: str
    ) -> None:
        for other, root in roots.items():
            if other != benchmark:
                refused(benchmark, root=root, says="--root")

    @pytest.mark.parametrize("benchmark", WRITERS)
    def test_a_sequence_that_is_not_there(self, refused: Callable[..., None], benchmark: str) -> None:
        refused(benchmark, "--sequences", "dance,cow", says="'cow'")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--sequences", ", ,"), "--sequences"),
            (("--frames", 0), "--frames"),
            (("--frames", 2), "too few"),
            (("--threads", -1), "--threads"),
            (("--workers", 0), "--workers"),
            (("--model", "nothing"), "uvc-r18"),
            (("--preset", "fancy"), "plain"),
            (("--device", "toaster"), "toaster"),
        ],
    )
    def test_settings_that_do_not_exist(
        self, refused: Callable[..., None], arguments: tuple[object, ...], says: str
    ) -> None:
        refused("davis", *arguments, "--out", "out", "--json", "out.json", says=says)

    def test_files_of_different_sizes(self, refused: Callable[..., None], tmp_path: Path) -> None:
        root = write_davis(tmp_path / "davis", "ball", CLIPS["ball"])
        path = root / "Annotations/480p/ball/00003.png"
        path.write_bytes(indexed_png.encode(CLIPS["dance"].mask(3)))
        refused("davis", root=root, says="ball/00003.png is 72 x 56 pixels, but the frames")

    def test_a_frame_that_does_not_decode_in_one_of_two_processes(
        self, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        for name, clip in CLIPS.items():
            write_davis(tmp_path / "davis", name, clip)
        (tmp_path / "davis/JPEGImages/480p/dance/00002.jpg").write_bytes(b"no picture")
        assert run("davis", "--workers", 2, "--json", "out.json", root="davis") == 2
        said, error = capsys.readouterr()
        assert [line.split()[0] for line in said.splitlines()] == ["sequence", "ball"]  # what came before it
        assert error.startswith("error: dance: ")
        assert "00002.jpg" in error
        assert not (tmp_path / "out.json").exists()

    def test_places_that_cannot_be_written(
        self, refused: Callable[..., None], roots: dict[str, Path], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        refused("davis", "--out", "file/below", says="--out")
        refused("davis", "--out", "file", says="--out")
        refused("davis", "--json", "file/out.json", says="--json")
        refused("davis", "--json", ".", says="is a folder")
        for out in (roots["davis"], roots["davis"] / "Annotations"):
            refused("davis", "--out", out, says="among the truth")

    def test_a_dataset_that_is_not_known(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            run("kinetics", root=".")
        assert caught.value.code == 2
        assert "davis" in capsys.readouterr().err
