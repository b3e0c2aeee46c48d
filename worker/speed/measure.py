"""One run of `labelprop bench`: a video, so many objects, so many frames, everything about it measured side by side.

The whole path goes from the file to stored results exactly as a job does, stages overlapped; the stages are then timed
alone, one after the other, on all cores, from the frame on at which memory is full. Beside each frame's affinity stands
the floor under it on the same features (`worker.speed.windows`). The dense float32 reference does a few frames, and
optical flow all of them.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.files import JobFiles
from app.jobspec import JobSpec, build_labels, parse_job, resolve, with_mask
from app.results import ResultStore
from app.settings import settings
from app.storage import LocalStore
from model.affinity import dense_matches
from model.channels import ChannelSet
from model.compared import Compared
from model.cores import available_cores
from model.decoding import decode
from model.errors import InputError
from model.evaluation.metrics import jaccard
from model.features import FeatureExtractor
from model.geometry import Grid
from model.presets import find_preset
from model.propagator import Propagator
from model.side_by_side import set_threads
from model.video import Frame, VideoSource, open_video
from worker.models import WarmModels, prepare_process
from worker.run import run_job
from worker.speed import flow
from worker.speed.material import Scene, index_map_of, labelled
from worker.speed.operations import encoder_operations, matrix_rate, operations_of
from worker.speed.stopwatch import Stopwatch
from worker.speed.windows import BareWindows

_SCORED = 60  # frames at most, evenly over the clip


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        video: the video.
        mask: PNG of its first frame.
        scene: what the video shows, where that is known; its truth is scored against.
        frames: how many of its frames are propagated.
        folder: for results; not used by any other case.
        model, preset: their names.
        device: as `FeatureExtractor` takes it.
        threads: CPU threads; 0 chooses.
        timed_frames: of how many frames, memory being full, the stages are timed.
        reference_frames: how many the dense reference does; 0 leaves it out.
        flow: whether optical flow does it too.
        float32: whether features are held in float32 whatever the device prefers.
    """

    video: Path
    mask: bytes
    scene: Scene | None
    frames: int
    folder: Path
    model: str
    preset: str
    device: str
    threads: int = 0
    timed_frames: int = 10
    reference_frames: int = 3
    flow: bool = True
    float32: bool = False


def measure_apart(case: Case) -> dict[str, Any]:
    """`measure` in a process of its own, so that peak memory is this case's.

    Raises:
        InputError: as `measure`; or the process died.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, case).result()
    except BrokenProcessPool:
        detail = "The process that measured died; it may have run out of memory. Try smaller --sizes, and "
        raise InputError(detail + "--reference-frames 0: the dense reference takes the most.") from None


def measure(case: Case) -> dict[str, Any]:
    """Everything about one case, as JSON holds it: times in milliseconds a frame, rates in frames a second.

    Raises:
        InputError: the video, the mask, the model or the device cannot be used. Of the plain kind, which passes
            between processes.
    """
    try:
        with open_video(case.video, limits=settings().limits) as source:
            return _Run(case, source).go()
    except InputError as error:
        raise InputError(error.detail, slug=error.slug) from error


class _Run:
    def __init__(self, case: Case, source: VideoSource) -> None:
        self.case, self.source = case, source
        options = {"end": case.frames, "model": case.model, "preset": case.preset}
        asked = with_mask(parse_job(json.dumps({"options": options})), case.mask, source.info)
        self.spec: JobSpec = resolve(asked, source.info, home=settings().home)
        self.frames = self.spec.options.frames
        if len(self.frames) < 3:
            raise InputError("A video of three frames is the least that can be measured.")
        objects, anchors = build_labels(self.spec)
        self.preset = find_preset(self.spec.options.preset)
        video, working_size = self.spec.video, self.spec.options.working_size
        grid = Grid.of(self.preset, video.width, video.height, working_size)
        self.channels = ChannelSet(objects, anchors, grid, box_sides=self.preset.box_sides)
        # Frames in memory beside the first, when it is as full as it gets.
        self.recent = min(self.preset.recent_frames, len(self.frames) - 2)
        models = WarmModels(settings().home, case.device)
        self.extractor = models.get(self.spec.options.model, self.spec.options.model_sha256)
        if case.float32:
            self.extractor = FeatureExtractor(self.extractor.checkpoint, device=case.device, dtype=torch.float32)

    def go(self) -> dict[str, Any]:
        self.extractor(next(self.source.frames(0, 1)).image, self.channels.grid)  # loading is not what is timed
        prepare_process(self.case.threads)
        results, seconds = self._whole()
        memory = _peak_memory(), _peak_device_memory(self.extractor.device)
        torch.set_num_threads(self.case.threads or available_cores())
        stages, bare, operations = self._stages()
        rate = matrix_rate(self.extractor.device, self.extractor.dtype)
        dense = self._dense() if self.case.reference_frames else None
        by_flow, flow_results = self._flow()
        video, precision = self.spec.video, str(self.extractor.dtype).removeprefix("torch.")
        return {
            "width": video.width,
            "height": video.height,
            "objects": len(self.channels.objects),
            "frames": len(self.frames),
            "preset": self.preset.name,
            "model": self.spec.options.model,
            "model_sha256": self.spec.options.model_sha256,
            "device": _device_name(self.extractor.device),
            "precision": precision,
            "cores": available_cores(),
            "torch": torch.__version__,
            "whole_fps": len(self.frames) / seconds,
            "peak_memory_mib": memory[0],
            "peak_device_memory_mib": memory[1],
            "stages_ms": stages,
            "bare_ms": bare,
            "affinity_vs_bare": stages["affinity"] / sum(bare.values()),
            "dense_ms": dense,
            "flow": by_flow,
            "J": self._scores(results, flow_results),
            "operations": {"matrix_rate": rate, **operations},
        }

    def _store(self, name: str, frames: range) -> tuple[JobFiles, ResultStore]:
        files = JobFiles(LocalStore(self.case.folder / name), "local", "j_bench")
        return files, ResultStore(files.store, files.prefix, frames, settings().chunk_frames)

    def _whole(self) -> tuple[ResultStore, float]:
        """The results, and the seconds from the file to where they are stored, as a job runs."""
        files, results = self._store("whole", self.frames)
        start = time.perf_counter()
        run_job(self.spec, self.source, results, files, self.extractor, on_frame=lambda progress: None)
        return results, time.perf_counter() - start

    def _stages(self) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
        """Every stage alone, the bare windows on the same features, and the operations of both."""
        watch, bare_watch, reading, encoding, storing = (Stopwatch(self.extractor.device) for _ in range(5))
        propagator, compared = self._propagator(), Compared(self.extractor, self.preset)
        windows = self._windows(compared.width)
        first = self.recent + 1
        last = min(len(self.frames), first + self.case.timed_frames) - 1
        _, results = self._store("stages", self.frames[: last + 1])
        encoded = self._encoded(self.source.frames(0, last + 1), first, reading, encoding)
        for chunk in range(results.chunk_count):
            done = []
            for index in results.frames_of(chunk):
                frame, features = next(encoded)
                seen = compared(features)
                if index >= first:
                    windows.best(seen, bare_watch)
                    bare_watch.frame_done()
                before = propagator.state() if index == last else {}
                with watch("affinity"):
                    soft = propagator.step(frame, features)
                with watch("upsample"):
                    done.append(
                        decode(
                            self.channels,
                            frame.index,
                            frame.time_ms,
                            soft.values,
                            soft.known,
                            soft.evidence,
                            declare_gone=self.preset.declares_gone,
                        )
                    )
                watch.frame_done(count=index >= first)
                windows.write(0 if index == 0 else 1 + index % self.recent, seen)
            with storing("store"):
                results.write_chunk("f", chunk, done)
            storing.frame_done(frames=len(done))
        # Counting takes time, so the last step is counted apart from being timed, in one thread that is looked at.
        threads = set_threads(1)
        again = self._propagator()
        set_threads(threads)
        again.restore(before, self.source.frame)
        operations = {
            "encoder": encoder_operations(self.extractor.checkpoint, self.channels.grid),
            "bare": windows.multiplications,
            "affinity": operations_of(lambda: again.step(frame, features)),
        }
        stages = [each.milliseconds() for each in (reading, encoding, watch, storing)]
        return {name: ms for each in stages for name, ms in each.items()}, bare_watch.milliseconds(), operations

    def _encoded(
        self, frames: Iterator[Frame], first: int, reading: Stopwatch, encoding: Stopwatch
    ) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Frames with their features, as many encoded together as in a job; timed from the frame `first` on."""
        batch = self.extractor.batch
        while True:
            some: list[Frame] = []
            while len(some) < batch:
                with reading("decode"):
                    frame = next(frames, None)
                if frame is None:
                    break
                reading.frame_done(count=frame.index >= first)
                some.append(frame)
            if not some:
                return
            with encoding("encode"):
                features = self.extractor.encode([frame.image for frame in some], self.channels.grid)
            # A short batch is filled up: it costs as much as a full one, of which each frame has its share.
            encoding.frame_done(count=some[-1].index >= first, frames=batch)
            yield from zip(some, features, strict=True)

    def _propagator(self) -> Propagator:
        return Propagator(self.extractor, self.channels, self.preset)

    def _windows(self, width: int) -> BareWindows:
        grid, extractor = self.channels.grid, self.extractor
        return BareWindows(
            grid.rows,
            grid.columns,
            width,
            self.recent + 1,
            radius=self.preset.radius,
            top_k=self.preset.top_k,
            dtype=extractor.dtype,
            device=extractor.device,
        )

    def _dense(self) -> dict[str, float]:
        """The same for the dense float32 reference, once its memory is full."""
        extractor = FeatureExtractor(self.extractor.checkpoint, device=self.case.device, dtype=torch.float32, batch=1)
        watch, compared = Stopwatch(extractor.device), Compared(extractor, self.preset)
        memory = self.recent + 1
        frames = list(self.source.frames(0, min(memory + self.case.reference_frames, self.frames.stop)))
        features = [compared(extractor(frame.image, self.channels.grid)) for frame in frames[:memory]]
        given = self.channels.maps(0).values
        labels = given.flatten(1).T.repeat(len(features), 1).to(extractor.device)
        for frame in frames[memory:]:
            with watch("encode"):
                query = compared(extractor(frame.image, self.channels.grid))
            with watch("affinity"):
                values = self._dense_step(query, torch.stack(features), labels)
            with watch("upsample"):
                known = np.ones(len(self.channels), bool)
                decode(self.channels, frame.index, frame.time_ms, values.T.reshape(given.shape).cpu(), known)
            watch.frame_done()
            features = [features[0], *features[2:], query]
        return watch.milliseconds()

    def _dense_step(self, query: torch.Tensor, memory: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        preset = self.preset
        found = dense_matches(query, memory, radius=preset.radius, top_k=preset.top_k, temperature=preset.temperature)
        return (found.weights[:, :, None] * labels[found.sources]).sum(dim=1)

    def _flow(self) -> tuple[dict[str, Any] | None, ResultStore | None]:
        """Optical flow from the file to stored results, one stage after the other."""
        if not self.case.flow:
            return None, None
        if not flow.available():
            return {"missing": flow.HOW_TO_GET}, None
        _, results = self._store("flow", self.frames)
        watch = Stopwatch()
        start = time.perf_counter()
        flow.run_flow(self.spec, self.source, results, watch=watch, threads=self.case.threads or available_cores())
        seconds = time.perf_counter() - start
        watch.frame_done(frames=len(self.frames))
        return {"whole_fps": len(self.frames) / seconds, "stages_ms": watch.milliseconds()}, results

    def _scores(self, results: ResultStore, flow_results: ResultStore | None) -> dict[str, float | None] | None:
        """The mean J over objects and frames of both, where the truth is known."""
        if self.case.scene is None:
            return None
        return {
            "labelprop": _score(self.case.scene, results),
            "flow": None if flow_results is None else _score(self.case.scene, flow_results),
        }


def _score(scene: Scene, results: ResultStore) -> float:
    """The mean J over labelled objects and frames, evenly chosen over the clip, without the first."""
    clip, count = scene.clip(), len(results.frame_indices)
    # One that another hides on the first frame is not labelled there.
    identities = [i for i in np.unique(labelled(clip.mask(0), scene.objects)).tolist() if i]
    values = []
    for index in np.unique(np.linspace(1, count - 1, _SCORED).round().astype(int)).tolist():
        truth, result = labelled(clip.mask(index), scene.objects), results.read(index)
        assert result is not None
        found = index_map_of(result, truth.shape)
        values += [jaccard(found == identity, truth == identity) for identity in identities]
    return float(np.mean(values))


def _peak_memory() -> float:
    """This process's highest resident size so far, in MiB."""
    try:
        # Of this program alone; the other also counts what the process was before it became this program.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1024 / (1024 if sys.platform == "darwin" else 1)


def _peak_device_memory(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
