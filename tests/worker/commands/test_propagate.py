from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from app.cli import main
from model.features import FeatureExtractor
from model.labels import indexed_png, rle
from model.rendered import render_clip, write_clip
from model.video import encode_video

CLIP = render_clip(width=128, height=96, frame_count=5)
NAMES = [f"{i:05}" for i in range(5)]
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`labelprop propagate`, with the results in `out`."""
    monkeypatch.chdir(tmp_path)

    def propagate(video: object, *arguments: object, out: object = "out") -> int:
        return main(["propagate", str(video), "--out", str(out), "--device", "cpu", *map(str, arguments)])

    return propagate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The clip as DAVIS has its frames: a folder of 000xx.jpg."""
    path = tmp_path / "frames"
    path.mkdir()
    for name, image in zip(NAMES, CLIP.frames(), strict=True):
        Image.fromarray(image).save(path / f"{name}.jpg", quality=95)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "first.png"
    path.write_bytes(indexed_png.encode(CLIP.mask(0)))
    return path


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def _frame_count(path: Path) -> int:
    with av.open(path) as container:
        return len(list(container.decode(video=0)))


def _job(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


class TestResults:
    def test_a_folder_gives_one_png_per_frame_of_the_same_name_and_size(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path
    ) -> None:
        assert run(folder, "--mask", mask) == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.png" for name in NAMES]
        for name in NAMES:
            picture = _picture(tmp_path / "out" / f"{name}.png")
            assert picture.shape == (96, 128)
            assert {1, 2} <= set(np.unique(picture)) <= {0, 1, 2}
        # The labelled frame comes back exactly.
        assert np.array_equal(_picture(tmp_path / "out" / "00000.png"), CLIP.mask(0))

    def test_a_video_in_every_format(self, run: Run, mask: Path, tmp_path: Path) -> None:
        write_clip(CLIP, tmp_path / "clip.mp4")
        points = [{"object": 2, "keypoints": [{"name": "head", "x": 30.5, "y": 15.25}]}]
        keypoints = _job(tmp_path / "points.json", points)
        formats = ("--formats", "davis,coco,overlay")
        assert run("clip.mp4", "--mask", mask, "--keypoints", keypoints, *formats) == 0
        assert np.array_equal(_picture(tmp_path / "out" / "00000.png"), CLIP.mask(0))
        assert _frame_count(tmp_path / "out" / "overlay.mp4") == 5
        coco = json.loads((tmp_path / "out" / "coco.json").read_text())
        assert len(coco["images"]) == 5
        assert any(annotation.get("keypoints") for annotation in coco["annotations"])

    def test_labels_of_another_tool_on_a_clip_of_variable_frame_rate(self, run: Run, tmp_path: Path) -> None:
        encode_video(tmp_path / "clip.mp4", CLIP.frames(), fps=Fraction(30), pts_ms=iter([0, 10, 400, 410, 2000]))
        labels = tmp_path / "labels"
        labels.mkdir()
        for frame in (1, 4):
            (labels / f"clip_{frame:06d}.png").write_bytes(indexed_png.encode(CLIP.mask(frame)))
        assert run("clip.mp4", "--labels", labels, "--formats", "davis,csv,labelme,yolo-box") == 0
        for frame in (1, 4):
            assert np.array_equal(_picture(tmp_path / "out" / f"{frame:05d}.png"), CLIP.mask(frame))
        rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
        times = ["0", "10", "400", "410", "2000"]
        assert [(row["frame"], row["time_ms"]) for row in rows[::2]] == [(str(k), times[k]) for k in range(5)]
        # What it wrote is labels again, of another job.
        assert run("clip.mp4", "--labels", tmp_path / "out" / "labelme.zip", "--end", 3, out="again") == 2
        assert run("clip.mp4", "--labels", tmp_path / "out" / "labelme.zip", "--formats", "coco", out="again") == 0
        again = json.loads((tmp_path / "again" / "coco.json").read_text())
        assert {annotation["source"] for annotation in again["annotations"]} == {"anchor"}

    def test_labels_of_images_by_their_names(self, run: Run, folder: Path, tmp_path: Path) -> None:
        document = {
            "images": [{"id": 1, "file_name": "set/00002.jpg"}],
            "categories": [{"id": 1, "name": "dog"}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [8, 8, 24, 16], "track_id": 3}],
        }
        assert run(folder, "--labels", _job(tmp_path / "coco.json", document), "--labels-format", "coco") == 0
        assert (_picture(tmp_path / "out" / "00002.png")[8:24, 8:32] == 3).all()
        job = _job(tmp_path / "job.json", {"annotations": document, "options": {"start": 2}})
        assert run(folder, "--labels", job, out="embedded") == 0
        assert (_picture(tmp_path / "embedded" / "00002.png")[8:24, 8:32] == 3).all()

    def test_boxes_alone(self, run: Run, folder: Path, tmp_path: Path) -> None:
        assert run(folder, "--box", "3:8,8,24.5,16", "--box", "7:40,8,16,32") == 0
        first = _picture(tmp_path / "out" / "00000.png")
        assert (first[8:24, 8:32] == 3).all()
        assert (first == 7).sum() == 16 * 32

    def test_a_whole_job_with_options(self, run: Run, folder: Path, tmp_path: Path) -> None:
        region = rle.encode(CLIP.mask(3) == 2)
        job = _job(
            tmp_path / "job.json",
            {
                "anchors": [{"frame": 3, "labels": [{"object": 2, "mask": region}]}],
                "options": {"stride": 2, "start": 1},
            },
        )
        assert run(folder, "--labels", job) == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00001.png", "00003.png"]
        assert np.array_equal(_picture(tmp_path / "out" / "00003.png") == 2, CLIP.mask(3) == 2)

    def test_one_thread_and_two_give_the_same_pictures(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path
    ) -> None:
        for threads in (1, 2):
            assert run(folder, "--mask", mask, "--threads", threads, out=f"out-{threads}") == 0
        for name in NAMES:
            first, second = (tmp_path / f"out-{threads}" / f"{name}.png" for threads in (1, 2))
            assert first.read_bytes() == second.read_bytes()

    def test_it_says_where_the_results_are_unless_told_to_be_quiet(
        self, run: Run, folder: Path, mask: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(folder, "--mask", mask) == 0
        assert "davis: out" in capsys.readouterr().out
        assert run(folder, "--mask", mask, "--quiet") == 0
        assert capsys.readouterr() == ("", "")

    def test_files_that_were_in_the_output_folder_stay(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        assert run(folder, "--mask", mask) == 0
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


class TestBadInput:
    """Ends with status 2 and one sentence that says what to do; nothing is written."""

    @pytest.fixture
    def refused(self, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., None]:
        def check(video: object, *arguments: object, says: str, out: object = "out") -> None:
            assert run(video, *arguments, out=out) == 2
            said = capsys.readouterr().err
            assert said.startswith("error: ")
            assert says in said
            assert "Traceback" not in said
            assert not (tmp_path / "out").exists()

        return check

    def test_no_labels(self, refused: Callable[..., None], folder: Path) -> None:
        refused(folder, says="--mask")

    def test_no_video(self, refused: Callable[..., None], mask: Path) -> None:
        refused("missing.mp4", "--mask", mask, says="missing.mp4")

    def test_not_a_video(self, refused: Callable[..., None], mask: Path, tmp_path: Path) -> None:
        (tmp_path / "text.mp4").write_text("#EXTM3U\nhttp://example.com/a.ts\n")
        refused("text.mp4", "--mask", mask, says="text.mp4")

    def test_an_empty_folder(self, refused: Callable[..., None], mask: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        refused("empty", "--mask", mask, says="empty")

    def test_a_mask_of_another_size(self, refused: Callable[..., None], folder: Path, tmp_path: Path) -> None:
        (tmp_path / "large.png").write_bytes(indexed_png.encode(np.ones((192, 256), np.uint8)))
        refused(folder, "--mask", "large.png", says="256")

    def test_an_empty_mask(self, refused: Callable[..., None], folder: Path, tmp_path: Path) -> None:
        (tmp_path / "blank.png").write_bytes(indexed_png.encode(np.zeros((96, 128), np.uint8)))
        refused(folder, "--mask", "blank.png", says="no object")

    def test_a_mask_that_is_missing(self, refused: Callable[..., None], folder: Path) -> None:
        refused(folder, "--mask", "nothing.png", says="nothing.png")

    def test_a_box_that_leaves_the_frame(self, refused: Callable[..., None], folder: Path) -> None:
        refused(folder, "--box", "1:120,40,10,10", says="128")

    def test_a_box_that_is_none(self, refused: Callable[..., None], folder: Path) -> None:
        refused(folder, "--box", "1:2,3", says="--box 1:2,3")

    def test_a_job_that_is_no_json(self, refused: Callable[..., None], folder: Path, tmp_path: Path) -> None:
        (tmp_path / "job.json").write_text("{")
        refused(folder, "--labels", "job.json", says="job.json: Invalid JSON")

    def test_a_job_with_an_unknown_field(self, refused: Callable[..., None], folder: Path, tmp_path: Path) -> None:
        _job(tmp_path / "job.json", {"anchors": [{"frame": 0, "labels": [{"object": 1, "blob": 1}]}]})
        refused(folder, "--labels", "job.json", says="/anchors/0/labels/0/blob")

    def test_an_anchor_beyond_the_last_frame(self, refused: Callable[..., None], folder: Path, tmp_path: Path) -> None:
        _job(tmp_path / "job.json", {"anchors": [{"frame": 5, "labels": [{"object": 1, "box": [1, 1, 9, 9]}]}]})
        refused(folder, "--labels", "job.json", says="last frame is 4")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--formats", "davis,gif"), "gif"),
            (("--model", "nothing"), "uvc-r18"),
            (("--preset", "fancy"), "plain"),
            (("--end", 9), "5 frames"),
            (("--device", "toaster"), "toaster"),
            (("--threads", -1), "--threads"),
        ],
    )
    def test_settings_that_do_not_exist(
        self, refused: Callable[..., None], folder: Path, mask: Path, arguments: tuple[object, ...], says: str
    ) -> None:
        refused(folder, "--mask", mask, *arguments, says=says)

    def test_an_output_that_is_a_file_or_lies_in_one(
        self, refused: Callable[..., None], folder: Path, mask: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("mine")
        for out in ("file", "file/below"):
            refused(folder, "--mask", mask, says="is a file", out=out)
        assert (tmp_path / "file").read_text() == "mine"


class TestFramesThatBreak:
    """An image whose head says what it should and whose picture is cut off; acceptance has not looked at it."""

    @pytest.fixture(autouse=True)
    def seven_images(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # So few are decoded whole on acceptance; with a small budget it looks at the first, the last and some between.
        monkeypatch.setattr("model.video.images._WHOLE_BUDGET_PIXELS", 0)
        for index in (5, 6):
            shutil.copy(folder / "00004.jpg", folder / f"{index:05}.jpg")

    @pytest.fixture
    def cut(self, folder: Path) -> Path:
        """Frame 4, cut off."""
        path = folder / "00004.jpg"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    def test_what_came_before_is_exported(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: Path
    ) -> None:
        assert run(folder, "--mask", mask, "--end", 4, out="whole") == 0
        assert run(folder, "--mask", mask, "--formats", "davis,coco,overlay") == 2
        said = capsys.readouterr().err
        assert "error: Frame 4 " in said
        assert cut.name in said
        assert sorted(path.name for path in tmp_path.glob("out/*.png")) == [f"{name}.png" for name in NAMES[:4]]
        for name in NAMES[:4]:
            assert (tmp_path / "out" / f"{name}.png").read_bytes() == (tmp_path / "whole" / f"{name}.png").read_bytes()
        assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == 4
        assert _frame_count(tmp_path / "out" / "overlay.mp4") == 4
        assert not list(tmp_path.glob("out/.*"))

    @pytest.mark.usefixtures("cut")
    def test_backwards_it_is_what_lies_above(self, run: Run, folder: Path, tmp_path: Path) -> None:
        anchor = {"frame": 6, "labels": [{"object": 2, "box": [8, 8, 20, 20]}]}
        job = _job(tmp_path / "job.json", {"anchors": [anchor], "options": {"direction": "backward"}})
        assert run(folder, "--labels", job, "--formats", "davis,overlay") == 2
        assert sorted(path.name for path in tmp_path.glob("out/*.png")) == ["00005.png", "00006.png"]
        assert _frame_count(tmp_path / "out" / "overlay.mp4") == 2

    def test_nothing_is_written_where_nothing_was_done(
        self, run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: Path
    ) -> None:
        anchor = {"frame": 4, "labels": [{"object": 2, "box": [8, 8, 20, 20]}]}
        job = _job(tmp_path / "job.json", {"anchors": [anchor], "options": {"start": 4}})
        assert run(folder, "--labels", job, "--formats", "davis,coco,overlay") == 2
        assert cut.name in capsys.readouterr().err
        assert not list(tmp_path.glob("out/*"))
        assert not list(tmp_path.glob("out/.*"))


class TestKeptFeatures:
    def test_a_second_run_finds_them_under_another_name(
        self, run: Run, mask: Path, tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_clip(CLIP, tmp_path / "clip.mp4")
        assert run("clip.mp4", "--mask", mask, out="first") == 0
        (path,) = (installed / "features").glob("*/*.features")
        (tmp_path / "clip.mp4").rename(tmp_path / "renamed.mp4")

        def never(*_: object) -> None:
            raise AssertionError("these features were kept")

        with monkeypatch.context() as patch:
            patch.setattr(FeatureExtractor, "__call__", never)
            assert run("renamed.mp4", "--mask", mask, out="second") == 0
        path.unlink()
        assert run("renamed.mp4", "--mask", mask, "--keep-features", "0", out="without") == 0
        assert list((installed / "features").glob("*/*.features")) == []
        for name in NAMES:
            pictures = {(tmp_path / out / f"{name}.png").read_bytes() for out in ("first", "second", "without")}
            assert len(pictures) == 1

    def test_images_are_known_by_their_content(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path, installed: Path
    ) -> None:
        assert run(folder, "--mask", mask) == 0
        assert len(list((installed / "features").glob("*/*.features"))) == 1
        Image.fromarray(CLIP.frame(0)).save(folder / "00003.jpg", quality=95)
        assert run(folder, "--mask", mask, out="again") == 0
        assert len(list((installed / "features").glob("*/*.features"))) == 2

    @pytest.mark.parametrize("size", ["-1", "much", "nan", "inf"])
    def test_a_size_that_is_none_is_refused(self, run: Run, folder: Path, mask: Path, size: str, capsys: Any) -> None:
        with pytest.raises(SystemExit):
            run(folder, "--mask", mask, f"--keep-features={size}")
        assert "GiB" in capsys.readouterr().err


class TestReview:
    """`--review N` names the frames to look at first."""

    def test_it_names_frames_with_their_time_and_keeps_them_in_a_file(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(folder, "--mask", mask, "--review", 2, "--formats", "csv") == 0
        document = json.loads((tmp_path / "out" / "review.json").read_text())
        named = document["frames"]
        assert document["schema_version"] == 1
        assert 1 <= len(named) <= 2
        with next((tmp_path / "out").glob("*.csv")).open() as file:
            rows = {(int(row["frame"]), int(row["object"])): row for row in csv.DictReader(file)}
        said = capsys.readouterr().out
        for each in named:
            assert 0 < each["frame"] < 5
            row = rows[each["frame"], each["object"]]
            assert float(row["confidence"]) == pytest.approx(each["confidence"], abs=1e-3)
            assert int(row["time_ms"]) == each["time_ms"]
            assert f"frame {each['frame']} at 0:{each['time_ms'] / 1000:06.3f}" in said

    def test_without_it_there_is_no_file(self, run: Run, folder: Path, mask: Path, tmp_path: Path) -> None:
        assert run(folder, "--mask", mask, "--quiet") == 0
        assert not (tmp_path / "out" / "review.json").exists()

    def test_quiet_writes_the_file_and_says_nothing(
        self, run: Run, folder: Path, mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(folder, "--mask", mask, "--quiet", "--review", 1) == 0
        assert json.loads((tmp_path / "out" / "review.json").read_text())["frames"]
        assert not capsys.readouterr().out

    def test_a_negative_number_is_refused(
        self, run: Run, folder: Path, mask: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(folder, "--mask", mask, "--review", -1) != 0
        assert "--review" in capsys.readouterr().err
