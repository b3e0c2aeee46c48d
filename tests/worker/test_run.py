from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.files import JobFiles
from app.jobspec import JobSpec, parse_job, resolve
from app.results import ResultStore
from app.storage import LocalStore
from model.errors import InputError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept import KeptFeatures
from model.labels import FrameResult, rle
from model.rendered import render_clip, write_clip
from model.video import FrameTable, open_video, probe
from model.video.media import Media
from worker.interrupted import Interrupted
from worker.run import Progress, run_job

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
FRAMES, CHUNK = 11, 3
CLIP = render_clip(width=48, height=32, frame_count=FRAMES)


class Killed(BaseException):
    """The end of a process, for a process that goes on."""


class MortalStore(LocalStore):
    """A store whose process is killed instead of its n-th write."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self.left = writes

    def write_atomic(self, key: str, data: bytes) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed
        super().write_atomic(key, data)


class Job:
    """One job in a folder of its own. Every `run` opens everything anew, as another process would."""

    def __init__(self, video: Path, table: FrameTable, root: Path, spec: JobSpec, extractor: FeatureExtractor) -> None:
        self.video, self.table, self.root, self.spec, self.extractor = video, table, root, spec, extractor
        self.progress: list[Progress] = []
        self.checkpoints = 0

    def run(
        self,
        on_frame: Callable[[int], None] = lambda _: None,
        store: LocalStore | None = None,
        features: Path | None = None,
        max_bytes: int = 1 << 26,
    ) -> None:
        """One attempt; `on_frame` is told the number of this attempt's frame, from 1. `features` keeps those."""
        counter = itertools.count(1)

        def told(progress: Progress) -> None:
            self.progress.append(progress)
            on_frame(next(counter))

        def kept() -> None:
            self.checkpoints += 1

        files = JobFiles(store or LocalStore(self.root), "local", "j_test")
        with open_video(self.video, table=self.table) as source:
            of = None
            if features is not None:
                video, model = source.content_sha256(), self.spec.options.model_sha256
                of = KeptFeatures(features, max_bytes, video_sha256=video, table=source.table, model_sha256=model)
            run_job(
                self.spec, source, self._results(files.store), files, self.extractor,
                on_frame=told, on_checkpoint=kept, kept=of,
            )  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """The result files."""
        store = LocalStore(self.root)
        return {key: store.read(key) for key in store.list(self._results(store).prefix)}

    def results(self) -> list[FrameResult]:
        return list(self._results(LocalStore(self.root)).iter())

    def _results(self, store: Any) -> ResultStore:
        return ResultStore(store, JobFiles(store, "local", "j_test").prefix, self.spec.options.frames, CHUNK)


NewJob = Callable[..., Job]
Undisturbed = Callable[[str], dict[str, bytes]]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(CLIP, path)
    return path


@pytest.fixture(scope="module")
def table(video: Path) -> FrameTable:
    return probe(video)[1]


@pytest.fixture(scope="module")
def new_job(
    tmp_path_factory: pytest.TempPathFactory, video: Path, table: FrameTable, extractor: FeatureExtractor
) -> NewJob:
    """Makes jobs, each in a folder of its own."""

    def new(anchors: list[dict[str, Any]], *, path: Path = video, **options: Any) -> Job:
        frames = table if path == video else probe(path)[1]
        with open_video(path, table=frames) as source:
            spec = resolve(parse_job(json.dumps({"anchors": anchors, "options": options})), source.info)
        return Job(path, frames, tmp_path_factory.mktemp("job"), spec, extractor)

    return new


def _anchor(frame: int, *objects: int, absent: int | None = None) -> dict[str, Any]:
    """The clip's truth as a request has it."""
    labels: list[dict[str, Any]] = []
    for label in CLIP.anchor(frame).labels:
        if label.object in objects:
            points = [{"name": p.name, "x": p.x, "y": p.y, "visible": p.visible} for p in label.keypoints[:2]]
            assert label.mask is not None
            labels.append({"object": label.object, "mask": rle.encode(label.mask), "keypoints": points})
    if absent is not None:
        labels.append({"object": absent, "absent": True})
    return {"frame": frame, "labels": labels}


# Anchors at the first, the middle, the last and several frames; all directions; ranges and strides.
JOBS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "first": ([_anchor(0, 1, 2)], {}),
    "middle": ([_anchor(5, 1, 2)], {}),
    "last": ([_anchor(10, 1, 2)], {}),
    "several": ([_anchor(1, 1), _anchor(4, 2), _anchor(8, 1, 2)], {}),
    "gone": ([_anchor(2, 1, 2), _anchor(7, 1, absent=2)], {}),
    "forward": ([_anchor(4, 1, 2), _anchor(7, 1)], {"direction": "forward"}),
    "backward": ([_anchor(3, 1), _anchor(7, 1, 2)], {"direction": "backward"}),
    "range": ([_anchor(5, 1, 2)], {"start": 1, "end": 9}),
    "stride": ([_anchor(3, 1), _anchor(9, 1, 2)], {"start": 1, "end": 11, "stride": 2}),
}


@pytest.fixture(scope="module")
def undisturbed(new_job: NewJob) -> Undisturbed:
    """The result files of a job that nothing happened to."""

    @cache
    def files(name: str) -> dict[str, bytes]:
        job = new_job(JOBS[name][0], **JOBS[name][1])
        job.run()
        return job.files()

    return files


class TestResults:
    @pytest.mark.parametrize("name", JOBS)
    def test_every_frame_gets_one_result_under_its_true_index(self, new_job: NewJob, name: str) -> None:
        anchors, options = JOBS[name]
        job = new_job(anchors, **options)
        job.run()
        found = job.results()
        assert [result.frame for result in found] == list(job.spec.options.frames)
        assert [result.time_ms for result in found] == [40 * frame for frame in job.spec.options.frames]
        steps = [progress.steps_done for progress in job.progress if progress.steps_done]
        assert steps == list(range(1, job.progress[0].steps_total + 1))
        done = [progress.frames_done for progress in job.progress]
        assert done == sorted(done)
        assert done[-1] == len(found)
        assert {progress.frames_total for progress in job.progress} == {len(found)}
        given = {(anchor["frame"], label["object"]) for anchor in anchors for label in anchor["labels"]}
        for result in found:
            for entry in result.objects:
                assert (entry.source == "anchor") == ((result.frame, entry.object) in given)

    def test_anchors_come_back_exactly(self, new_job: NewJob) -> None:
        box = [3.141592653589793, 4.2, 17.000001, 9.87654321]
        points = [{"name": "a", "x": 7.123456789, "y": 8.00001, "visible": True}, {"name": "b", "x": 0.0, "y": 31.9999}]
        polygon = [[20.3, 4.4, 44.1, 8.8, 30.0, 29.9]]
        job = new_job(
            [
                {"frame": 2, "labels": [{"object": 1, "box": box, "keypoints": points}]},
                {"frame": 5, "labels": [{"object": 2, "polygon": polygon}, {"object": 1, "absent": True}]},
            ]
        )
        job.run()
        at = {result.frame: {entry.object: entry for entry in result.objects} for result in job.results()}
        boxed, outlined, gone = at[2][1], at[5][2], at[5][1]
        assert boxed.box == tuple(box)
        assert [(point.name, point.x, point.y, point.visible) for point in boxed.keypoints] == [
            (point["name"], point["x"], point["y"], True) for point in points
        ]
        assert outlined.mask is not None
        assert outlined.mask.sum() > 100
        assert (gone.visible, gone.source, gone.keypoints) == (False, "anchor", ())
        assert not at[8][1].visible
        assert at[3][1].source == "propagated"

    def test_both_directions_meet_between_anchors(self, new_job: NewJob, tmp_path: Path) -> None:
        # Two labels that have nothing to do with each other: beside each the one, in the middle something of both. On
        # the small clip a label is hardly a cell from every border, and what becomes of it chance.
        path = tmp_path / "larger.mp4"
        write_clip(render_clip(width=160, height=96, frame_count=FRAMES), path)
        left = {"frame": 0, "labels": [{"object": 1, "box": [6, 12, 56, 72]}]}
        right = {"frame": 10, "labels": [{"object": 1, "box": [94, 12, 56, 72]}]}
        both = new_job([left, right], path=path)
        forward = new_job([left], path=path, direction="forward")
        backward = new_job([right], path=path, direction="backward")
        for job in (both, forward, backward):
            job.run()

        def masks(job: Job) -> np.ndarray:
            return np.array([result.objects[0].mask for result in job.results()])

        met, ahead, back = masks(both), masks(forward), masks(backward)
        for frame in (1, 2, 3):
            assert (met[frame] ^ ahead[frame]).sum() < 0.5 * (met[frame] ^ back[frame]).sum()
            assert (met[10 - frame] ^ back[10 - frame]).sum() < 0.5 * (met[10 - frame] ^ ahead[10 - frame]).sum()

    def test_frames_on_the_other_side_of_a_single_direction_know_nothing(self, new_job: NewJob) -> None:
        for name, blank in (("forward", range(4)), ("backward", range(8, 11))):
            job = new_job(JOBS[name][0], **JOBS[name][1])
            job.run()
            for result in job.results():
                assert any(entry.visible for entry in result.objects) == (result.frame not in blank)
                assert [entry.object for entry in result.objects] == [1, 2]
            # Both take more than one chunk, and the run can be stopped after each.
            before = [progress.frames_done for progress in job.progress if not progress.steps_done]
            assert before == {"forward": [3, 4], "backward": [1, 3]}[name]

    def test_a_cancellation_is_noticed_before_the_first_pass(self, new_job: NewJob) -> None:
        job = new_job(JOBS["forward"][0], **JOBS["forward"][1])

        def stop(_: int) -> None:
            raise Interrupted("cancelled", keep=True)

        with pytest.raises(Interrupted):
            job.run(stop)
        assert [result.frame for result in job.results()] == [0, 1, 2]
        assert [progress.frames_done for progress in job.progress] == [3]

    def test_an_object_that_comes_late_is_carried_back_to_the_start(self, new_job: NewJob) -> None:
        job = new_job([_anchor(0, 1), _anchor(6, 2)])
        job.run()
        assert all(result.objects[1].visible for result in job.results()[4:])
        forward = new_job([_anchor(0, 1), _anchor(6, 2)], direction="forward")
        forward.run()
        assert [result.objects[1].visible for result in forward.results()[:6]] == [False] * 6

    def test_absence_is_not_spread_backwards(self, new_job: NewJob) -> None:
        with_end, without = new_job([_anchor(2, 1, 2), _anchor(7, absent=2)]), new_job([_anchor(2, 1, 2)])
        with_end.run()
        without.run()
        for mine, other in zip(with_end.results()[:7], without.results()[:7], strict=True):
            assert mine.objects == other.objects
        assert not any(result.objects[1].visible for result in with_end.results()[7:])

    @pytest.mark.parametrize(("name", "passes"), [("first", 11), ("middle", 11 + 1), ("several", 9 + 10)])
    def test_the_features_of_a_frame_are_computed_once_per_pass(
        self, new_job: NewJob, extractor: FeatureExtractor, name: str, passes: int
    ) -> None:
        class Counting(FeatureExtractor):
            calls = 0

            def __call__(self, image: np.ndarray, grid: Grid) -> torch.Tensor:
                self.calls += 1
                return super().__call__(image, grid)

        job = new_job(JOBS[name][0], **JOBS[name][1])
        job.extractor = Counting(extractor.checkpoint, device="cpu", dtype=torch.float32)
        job.run()
        assert job.extractor.calls == passes == job.progress[0].steps_total


class TestInterruptions:
    """Whatever happens to a run, the next one ends with the bytes of an undisturbed run."""

    @pytest.mark.parametrize("name", JOBS)
    def test_at_every_chunks_border(self, new_job: NewJob, undisturbed: Undisturbed, name: str) -> None:
        job = new_job(JOBS[name][0], **JOBS[name][1])
        for attempt in range(30):
            before = job.checkpoints

            def stop_after_a_chunk(_: int, before: int = before, keep: bool = attempt % 2 == 1) -> None:
                if job.checkpoints > before:
                    raise Interrupted("draining", keep=keep)

            try:
                job.run(stop_after_a_chunk)
                break
            except Interrupted:
                continue
        assert job.files() == undisturbed(name)

    @pytest.mark.parametrize("name", JOBS)
    def test_in_the_middle_of_every_chunk(self, new_job: NewJob, undisturbed: Undisturbed, name: str) -> None:
        job = new_job(JOBS[name][0], **JOBS[name][1])
        for attempt in range(60):
            # The second attempt at a chunk gets through it, and is stopped in the middle of the next one.
            stop = 1 + attempt % 2 * (CHUNK + 1)

            def stop_there(frame: int, stop: int = stop, keep: bool = attempt % 4 < 2) -> None:
                if frame == stop:
                    raise Interrupted("cancelled", keep=keep)

            try:
                job.run(stop_there)
                break
            except Interrupted:
                continue
        assert job.files() == undisturbed(name)

    @pytest.mark.parametrize("stop", range(1, 20))
    def test_after_every_single_frame(self, new_job: NewJob, undisturbed: Undisturbed, stop: int) -> None:
        job = new_job(JOBS["several"][0])

        def stop_there(frame: int) -> None:
            if frame == stop:
                raise Interrupted("cancelled", keep=stop % 2 == 0)

        with pytest.raises(Interrupted):
            job.run(stop_there)
        done = job.progress[-1].frames_done
        if stop % 2 == 0:
            # What was done stays readable, the unfinished chunk's too.
            assert len(job.results()) == done
        else:
            assert done - CHUNK <= len(job.results()) <= done
        job.run()
        assert job.files() == undisturbed("several")
        assert job.progress[-1].steps_done == job.progress[-1].steps_total
        assert job.progress[-1].frames_done == FRAMES

    @pytest.mark.parametrize("name", ["several", "forward", "backward"])
    def test_killed_at_every_single_write(self, new_job: NewJob, undisturbed: Undisturbed, name: str) -> None:
        expected = undisturbed(name)
        for writes in itertools.count(1):
            job = new_job(JOBS[name][0], **JOBS[name][1])
            try:
                job.run(store=MortalStore(job.root, writes))
            except Killed:
                job.run()
                assert job.files() == expected, f"write {writes}"
            else:
                assert writes > len(expected)
                return

    def test_a_checkpoint_of_another_version_starts_again(
        self, new_job: NewJob, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = new_job(JOBS["several"][0])

        def stop_there(frame: int) -> None:
            if frame == 14:
                raise Interrupted("draining", keep=False)

        with monkeypatch.context() as patch:
            patch.setattr("worker.run.CHECKPOINT_VERSION", -1)
            with pytest.raises(Interrupted):
                job.run(stop_there)
        job.progress.clear()
        job.run()
        assert job.progress[0].steps_done == 1
        assert job.files() == undisturbed("several")

    def test_resuming_costs_no_more_than_a_chunk(self, new_job: NewJob) -> None:
        job = new_job(JOBS["first"][0])

        def stop_there(frame: int) -> None:
            if frame == 8:
                raise Interrupted("draining", keep=False)

        with pytest.raises(Interrupted):
            job.run(stop_there)
        job.progress.clear()
        job.run()
        assert job.progress[0].steps_done == 7  # the third chunk's first frame
        assert job.progress[0].frames_done == 7

    def test_nothing_is_left_of_a_chunk_where_another_run_may_be_at_it(self, new_job: NewJob) -> None:
        job = new_job(JOBS["first"][0])

        def stop_there(frame: int) -> None:
            if frame == 5:
                raise Interrupted("lease lost", keep=False)

        with pytest.raises(Interrupted):
            job.run(stop_there)
        assert [result.frame for result in job.results()] == [0, 1, 2]


class TestDeterminism:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_the_number_of_threads_does_not_matter(
        self, new_job: NewJob, extractor: FeatureExtractor, dtype: torch.dtype
    ) -> None:
        files = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            job = new_job(JOBS["gone"][0])
            job.extractor = FeatureExtractor(extractor.checkpoint, device="cpu", dtype=dtype)
            job.run()
            files.append(job.files())
        assert files[0] == files[1]

    @pytest.mark.parametrize("workers", [0, 2, 5])
    def test_encoding_ahead_does_not_matter(
        self, new_job: NewJob, monkeypatch: pytest.MonkeyPatch, workers: int
    ) -> None:
        from model import lookahead

        usual = new_job(JOBS["several"][0])
        usual.run()
        monkeypatch.setattr(
            "worker.run.encode_ahead",
            lambda *given, **options: lookahead.encode_ahead(*given, workers=workers, **options),
        )
        other = new_job(JOBS["several"][0])
        other.run()
        assert other.files() == usual.files()


class Watched(FeatureExtractor):
    """Counts what it encodes."""

    calls = 0

    def __call__(self, image: np.ndarray, grid: Grid) -> torch.Tensor:
        self.calls += 1
        return super().__call__(image, grid)


class TestKeptFeatures:
    """Results are the same bytes whatever of the features was there."""

    @pytest.fixture(autouse=True)
    def small_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Four frames share a file, which is no multiple of a chunk."""
        monkeypatch.setattr("model.kept.features.frames_per_file", lambda frame_bytes: 4)

    @pytest.fixture
    def watched(self, extractor: FeatureExtractor) -> Watched:
        return Watched(extractor.checkpoint, device="cpu", dtype=torch.float32)

    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The frames whose pixels were converted, in order."""
        found: list[int] = []
        usual = Media.to_rgb

        def told(media: Media, frame: Any, orientation: Any) -> np.ndarray:
            found.append(round(float(frame.pts * media.time_base) * 25))
            return usual(media, frame, orientation)

        monkeypatch.setattr(Media, "to_rgb", told)
        return found

    @pytest.mark.parametrize("name", JOBS)
    def test_a_second_run_decodes_and_encodes_nothing(
        self, new_job: NewJob, undisturbed: Undisturbed, watched: Watched, decoded: list[int], tmp_path: Path, name: str
    ) -> None:
        first, second = (new_job(JOBS[name][0], **JOBS[name][1]) for _ in range(2))
        first.extractor = second.extractor = watched
        first.run(features=tmp_path)
        # A frame that both passes go through is computed once.
        assert watched.calls == len(set(decoded))
        watched.calls = 0
        decoded.clear()
        second.run(features=tmp_path)
        assert (watched.calls, decoded) == (0, [])
        assert first.files() == second.files() == undisturbed(name)

    def test_other_frames_of_the_same_video(
        self, new_job: NewJob, undisturbed: Undisturbed, watched: Watched, tmp_path: Path
    ) -> None:
        for name in ("stride", "range", "several"):  # a few, more, all; each finds what the others left
            job = new_job(JOBS[name][0], **JOBS[name][1])
            job.extractor = watched
            job.run(features=tmp_path)
            assert job.files() == undisturbed(name)
        assert watched.calls == FRAMES

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_in_both_precisions(
        self, new_job: NewJob, extractor: FeatureExtractor, tmp_path: Path, dtype: torch.dtype
    ) -> None:
        jobs = [new_job(JOBS["several"][0]) for _ in range(3)]
        for job, features in zip(jobs, (None, tmp_path, tmp_path), strict=True):
            job.extractor = Watched(extractor.checkpoint, device="cpu", dtype=dtype)
            job.run(features=features)
        assert jobs[0].files() == jobs[1].files() == jobs[2].files()
        assert jobs[2].extractor.calls == 0  # type: ignore[attr-defined]

    @pytest.mark.parametrize("stop", [2, 7, 11, 16])
    def test_an_interrupted_run_goes_on_with_them(
        self, new_job: NewJob, undisturbed: Undisturbed, watched: Watched, tmp_path: Path, stop: int
    ) -> None:
        job = new_job(JOBS["several"][0])
        job.extractor = watched

        def stop_there(frame: int) -> None:
            if frame == stop:
                raise Interrupted("draining", keep=False)

        with pytest.raises(Interrupted):
            job.run(stop_there, features=tmp_path)
        before = watched.calls
        job.run(features=tmp_path)
        assert job.files() == undisturbed("several")
        # Frames that were on their way when it was stopped are encoded again, and the memory's are not.
        assert watched.calls - before <= FRAMES - min(FRAMES, stop) + 5

    @pytest.mark.parametrize("name", ["several", "backward"])
    def test_too_little_room_and_damaged_files(
        self, new_job: NewJob, undisturbed: Undisturbed, tmp_path: Path, name: str
    ) -> None:
        for room in (1, 40_000, 1 << 26):
            job = new_job(JOBS[name][0], **JOBS[name][1])
            job.run(features=tmp_path, max_bytes=room)
            assert job.files() == undisturbed(name)
            assert sum(path.stat().st_size for path in tmp_path.glob("*/*.features")) <= room
        for number, path in enumerate(sorted(tmp_path.glob("*/*.features"))):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) - 10] + b"0123456789" if number % 2 else data[: len(data) // 2])
        job = new_job(JOBS[name][0], **JOBS[name][1])
        job.run(features=tmp_path)
        assert job.files() == undisturbed(name)

    def test_a_full_disk_fails_no_job(
        self, new_job: NewJob, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("model.kept.group.os.pwrite", full)
        job = new_job(JOBS["several"][0])
        job.run(features=tmp_path)
        assert job.files() == undisturbed("several")
        assert list(tmp_path.glob("*/*.features")) == []


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        from PIL import Image

        path = tmp_path / "images"
        path.mkdir()
        for i, image in enumerate(CLIP.frames()):
            Image.fromarray(image).save(path / f"{i:05}.png")
        return path

    def _job(self, folder: Path, root: Path, extractor: FeatureExtractor, anchor: int, damaged: int) -> Job:
        """A job on a folder of which one image breaks after it was accepted."""
        with open_video(folder) as source:
            spec = resolve(parse_job(json.dumps({"anchors": [_anchor(anchor, 1, 2)]})), source.info)
            table = source.table
        (folder / f"{damaged:05}.png").write_bytes(b"no image any more")
        return Job(folder, table, root, spec, extractor)

    @pytest.mark.parametrize("damaged", [1, 2, 3, 7, 10])
    def test_a_damaged_frame_is_named_and_everything_before_it_is_readable(
        self, folder: Path, tmp_path: Path, extractor: FeatureExtractor, damaged: int
    ) -> None:
        job = self._job(folder, tmp_path / "job", extractor, 0, damaged)
        with pytest.raises(InputError, match=f"[Ff]rame {damaged}|{damaged:05}"):
            job.run()
        assert [result.frame for result in job.results()] == list(range(damaged))
        assert all(result.objects[1].visible for result in job.results())

    def test_on_the_way_back_too(self, folder: Path, tmp_path: Path, extractor: FeatureExtractor) -> None:
        job = self._job(folder, tmp_path / "job", extractor, 10, 4)
        with pytest.raises(InputError, match=r"[Ff]rame 4|00004"):
            job.run()
        assert [result.frame for result in job.results()] == list(range(5, 10))

    def test_a_repaired_frame_lets_the_job_go_on(
        self, folder: Path, tmp_path: Path, extractor: FeatureExtractor
    ) -> None:
        whole = self._job(folder, tmp_path / "whole", extractor, 0, 0)
        good = (folder / "00007.png").read_bytes()
        from PIL import Image

        Image.fromarray(CLIP.frame(0)).save(folder / "00000.png")
        whole.run()
        job = self._job(folder, tmp_path / "job", extractor, 0, 7)
        with pytest.raises(InputError):
            job.run()
        (folder / "00007.png").write_bytes(good)
        job.run()
        assert job.files() == whole.files()


_MEMORY = """
import json, resource, sys
from pathlib import Path
from app.files import JobFiles
from app.jobspec import parse_job, resolve
from app.results import ResultStore
from app.storage import LocalStore
from model.catalogue import find_model
from model.checkpoint import load_checkpoint
from model.features import FeatureExtractor
from model.kept import KeptFeatures
from model.video import open_video
from worker.models import prepare_process
from worker.run import run_job

prepare_process(1)  # as every process that runs jobs
extractor = FeatureExtractor(load_checkpoint(find_model("uvc-r18").path), device="cpu")
for frames in (300, 1500):
    with open_video(Path(sys.argv[1])) as source:
        # Labelled in the middle, so that both passes run and each frame is worked through once.
        label = {"object": 1, "box": [20, 12, 24, 20], "keypoints": [{"name": "a", "x": 30, "y": 20}]}
        request = {"anchors": [{"frame": frames // 2, "labels": [label]}], "options": {"end": frames}}
        spec = resolve(parse_job(json.dumps(request)), source.info)
        # As small as it gets: what grows with frames does not depend on their size.
        spec = spec.model_copy(update={"options": spec.options.model_copy(update={"working_size": 16})})
        files = JobFiles(LocalStore(Path(sys.argv[2])), "local", f"j_{frames}")
        results = ResultStore(files.store, files.prefix, spec.options.frames, 16)
        resident = [0]

        def sample(progress):
            # Not the process's own record, which loading the model may have set higher than any job comes.
            resident[0] = max(resident[0], int(Path("/proc/self/statm").read_text().split()[1]))

        kept = KeptFeatures(
            Path(sys.argv[2]) / "features", 1 << 24, video_sha256="1", table=source.table, model_sha256="2"
        )
        run_job(spec, source, results, files, extractor, on_frame=sample, kept=kept)
        assert results.count() == frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak, resident[0] * resource.getpagesize() // 1024)
"""


def test_peak_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    # Sixty frames forth and back: rendering them all would take longer.
    write_clip(render_clip(width=64, height=48, frame_count=1500, loop=60), tmp_path / "long.mp4")
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path / "long.mp4"), str(tmp_path / "jobs")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    few_frames, many_frames = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    print(f"KiB at most ever, and during the job: {few_frames} with 300 frames, {many_frames} with 1,500")
    # 1,200 frames are 11 MiB as pictures alone, and their features, soft maps and results are more.
    for few, many in zip(few_frames, many_frames, strict=True):
        assert many - few < 3 * 1024
