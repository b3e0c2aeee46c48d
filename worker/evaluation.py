"""Evaluation of a model on a benchmark: every clip goes the way of a job, and what comes out is scored.

Clips are independent, so several may be evaluated side by side, each in a process of its own: single frames do not
scale over many cores.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np

from app.files import JobFiles
from app.formats.overlay import draw
from app.jobspec import JobSpec, default_colour, parse_job, resolve, rgb
from app.results import ResultStore
from app.settings import settings
from app.storage import LocalStore
from model.errors import InputError
from model.evaluation.benchmark import Benchmark, Clip, ClipScore
from model.labels import Anchor, FrameResult, rle
from model.pictures import Picture, scaled
from model.video import VideoInfo, VideoSource, open_video
from worker.models import WarmModels, prepare_process
from worker.run import Progress, run_job

_WORST_OF_A_CLIP = 3
_PICTURE_HEIGHT = 200


@dataclass(frozen=True)
class Task:
    """What is asked of every clip.

    Attributes:
        benchmark: the dataset.
        options: a job's options, as `POST /v1/jobs` takes them.
        device: as `FeatureExtractor` takes it.
        threads: CPU threads of one process; 0 shares the cores between the processes.
        out: where predictions are written and scratch files lie; None writes no predictions.
    """

    benchmark: Benchmark[Any]
    options: dict[str, Any]
    device: str
    threads: int
    out: Path | None


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """A frame where the prediction is far from the truth, both drawn."""

    clip: str
    frame: int
    score: float
    truth: Picture
    predicted: Picture


@dataclass(frozen=True, eq=False)
class Outcome:
    """One clip, evaluated.

    Attributes:
        score: how good it is.
        frames: how many frames were propagated.
        seconds: from the file to stored results, as a job runs; without loading the model and without scoring.
        worst: a few frames, the worst first; empty where no predictions are written.
    """

    score: ClipScore
    frames: int
    seconds: float
    worst: tuple[WorstFrame, ...]


def evaluate(
    task: Task, clips: Sequence[Clip], *, workers: int = 1, on_frames: Callable[[int], None] = lambda count: None
) -> Generator[Outcome]:
    """Evaluates clips and yields what came of each, in their order.

    Args:
        task: what is asked.
        clips: of the task's benchmark.
        workers: how many are evaluated side by side; 1 stays in this process.
        on_frames: called with how many more frames are done.

    Raises:
        InputError: a clip's files cannot be used, or a process of several died.
    """
    if workers == 1:
        runner = _Runner(task, workers)
        for clip in clips:
            yield runner.run(clip, on_frames)
        return
    context = multiprocessing.get_context("spawn")
    done: SimpleQueue[int] = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start, (task, workers, done))
    try:
        waiting = [pool.submit(_run, clip) for clip in clips]
        for future in waiting:
            yield _heard(future, done, on_frames)
    except BrokenProcessPool:
        detail = "A process that evaluated a clip died; it may have run out of memory. Try again with fewer --workers."
        raise InputError(detail) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # Until there are none: one may just have been starting when its pool broke.
        while children := set(multiprocessing.active_children()) - others:
            for child in children:
                child.terminate()
                child.join()


def request_of(given: Anchor, benchmark: Benchmark[Any], options: dict[str, Any]) -> dict[str, Any]:
    """The job, in the JSON of `POST /v1/jobs`, that carries what a benchmark gives."""
    labels = []
    for label in given.labels:
        document: dict[str, Any] = {"object": label.object}
        if label.box is not None:
            document["box"] = list(label.box)
        elif label.mask is not None:
            document["mask"] = rle.encode(label.mask)
        if label.keypoints:
            document["keypoints"] = [{"name": point.name, "x": point.x, "y": point.y} for point in label.keypoints]
        labels.append(document)
    anchor: dict[str, Any] = {"frame": given.frame, "labels": labels}
    if given.void is not None:
        anchor["void"] = rle.encode(given.void)
    objects = [{"id": label.object, "name": benchmark.object(label.object).name} for label in given.labels]
    return {"objects": objects, "anchors": [anchor], "options": options}


class _Runner:
    """Evaluates clips in this process, one after the other, on a warm model."""

    def __init__(self, task: Task, workers: int) -> None:
        self._task = task
        prepare_process(task.threads, processes=workers)
        self._models = WarmModels(settings().home, task.device)

    def run(self, clip: Clip, on_frames: Callable[[int], None]) -> Outcome:
        with _named(clip), open_video(clip.video, limits=settings().limits) as source, self._scratch() as scratch:
            _check(clip, source.info)
            spec = self._spec(clip, source.info)
            extractor = self._models.get(spec.options.model, spec.options.model_sha256)
            files = JobFiles(LocalStore(scratch), "local", "j_evaluate")
            results = ResultStore(files.store, files.prefix, spec.options.frames, settings().chunk_frames)
            counted = _Counted(on_frames)
            start = time.perf_counter()
            run_job(spec, source, results, files, extractor, on_frame=counted)
            seconds = time.perf_counter() - start
            benchmark, out = self._task.benchmark, self._task.out
            score = benchmark.score(clip, results.iter())
            worst: tuple[WorstFrame, ...] = ()
            if out is not None:
                benchmark.write(clip, results.iter(), out)
                worst = tuple(_worst(benchmark, clip, score, source, results))
        return Outcome(score, clip.frame_count, seconds, worst)

    def _spec(self, clip: Clip, info: VideoInfo) -> JobSpec:
        benchmark = self._task.benchmark
        options = {**self._task.options, "end": clip.frame_count}
        request = request_of(benchmark.given(clip), benchmark, options)
        return resolve(parse_job(json.dumps(request)), info, home=settings().home)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".labelprop-", dir=self._task.out) as folder:
            yield Path(folder)


class _Counted:
    """From a job's progress to how many more frames are done."""

    def __init__(self, on_frames: Callable[[int], None]) -> None:
        self._on_frames, self._done = on_frames, 0

    def __call__(self, progress: Progress) -> None:
        if progress.frames_done > self._done:
            self._on_frames(progress.frames_done - self._done)
            self._done = progress.frames_done


@contextmanager
def _named(clip: Clip) -> Iterator[None]:
    """Says which clip an error is about, by an error of the plain kind: others do not pass between processes."""
    try:
        yield
    except InputError as error:
        detail = error.detail if clip.name in error.detail else f"{clip.name}: {error.detail}"
        raise InputError(detail, slug=error.slug) from error


def _check(clip: Clip, info: VideoInfo) -> None:
    size = (info.width, info.height)
    if clip.size is not None and clip.size != size:
        raise InputError(
            f"{clip.video} shows frames of {size[0]} x {size[1]} pixels, but {clip.truth} is for {clip.size[0]} x "
            f"{clip.size[1]}."
        )
    if info.frame_count < clip.frame_count:
        raise InputError(f"{clip.video} has {info.frame_count} frames, but {clip.truth} is for {clip.frame_count}.")


def _worst(
    benchmark: Benchmark[Any], clip: Clip, score: ClipScore, source: VideoSource, results: ResultStore
) -> Iterator[WorstFrame]:
    """The worst frames of a clip, away from each other: neighbours fail alike."""
    apart = max(3, clip.frame_count // 8)
    chosen: list[int] = []
    for frame in sorted(score.frames, key=lambda frame: score.frames[frame]):
        if len(chosen) < _WORST_OF_A_CLIP and all(abs(frame - other) >= apart for other in chosen):
            chosen.append(frame)
    for frame in chosen:
        image, predicted = source.frame(frame).image, results.read(frame)
        assert predicted is not None
        truth, found = (_drawn(benchmark, image, each) for each in (benchmark.truth(clip, frame), predicted))
        yield WorstFrame(clip.name, frame, score.frames[frame], truth, found)


def _drawn(benchmark: Benchmark[Any], image: Picture, result: FrameResult) -> Picture:
    # As jobs are drawn: the datasets' own palette begins with a red too dark to be seen.
    objects = tuple(
        replace(benchmark.object(found.object), colour=rgb(default_colour(found.object))) for found in result.objects
    )
    return np.asarray(scaled(draw(image, benchmark.shown(result), objects), _PICTURE_HEIGHT))


# What a process of several keeps: its runner, and where it tells of its frames.
_here: tuple[_Runner, SimpleQueue[int]] | None = None


def _start(task: Task, workers: int, done: SimpleQueue[int]) -> None:
    global _here
    _here = (_Runner(task, workers), done)


def _run(clip: Clip) -> Outcome:
    assert _here is not None
    runner, done = _here
    return runner.run(clip, done.put)


def _heard(future: Future[Outcome], done: SimpleQueue[int], on_frames: Callable[[int], None]) -> Outcome:
    """The future's outcome; what all processes tell meanwhile is passed on."""
    while True:
        finished = bool(wait([future], timeout=0.1).done)
        while not done.empty():
            on_frames(done.get())
        if finished:
            return future.result()
