"""`labelprop bench`: how fast propagation is on this machine, stage by stage, beside the dense reference.

Everything is timed in one run, because machines are noisy and only ratios travel. The whole path goes from the file to
stored results exactly as a job does, stages overlapped; the stages are then timed alone, one after the other; and the
dense float32 reference (full N x N similarities to every memory frame, then mask and top-k) does the same frames.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from model.cores import available_cores
from model.decoding import decode
from model.features import FeatureExtractor
from model.geometry import Grid
from model.labels import indexed_png
from model.presets import find_preset
from model.propagator import Propagator
from model.rendered import render_clip, write_clip
from model.video import VideoSource, open_video
from worker.models import WarmModels, prepare_process
from worker.run import run_job

_WARM_UP = 3


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop bench --help`."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="labelprop-bench-") as folder:
        video, mask = _material(args, Path(folder))
        with open_video(video, limits=settings().limits) as source:
            request: dict[str, Any] = {"options": {"end": min(args.frames, source.info.frame_count)}}
            request["options"].update({"model": args.model} if args.model else {})
            job_in = with_mask(parse_job(json.dumps(request)), mask, source.info)
            spec = resolve(job_in, source.info, home=settings().home)
            report = _Bench(spec, source, Path(folder), args).run()
    _print(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


class _Bench:
    def __init__(self, spec: JobSpec, source: VideoSource, folder: Path, args: argparse.Namespace) -> None:
        self.spec, self.source, self.folder, self.args = spec, source, folder, args
        self.frames = spec.options.frames
        objects, anchors = build_labels(spec)
        grid = Grid.fit(spec.video.width, spec.video.height, spec.options.working_size)
        self.channels = ChannelSet(objects, anchors, grid)
        self.preset = find_preset(spec.options.preset)
        models = WarmModels(settings().home, args.device)
        self.extractor = models.get(spec.options.model, spec.options.model_sha256)

    def run(self) -> dict[str, Any]:
        self.extractor(next(self.source.frames(0, 1)).image, self.channels.grid)  # loading is not what is timed
        prepare_process(self.args.threads)
        whole = self._whole()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        torch.set_num_threads(self.args.threads or available_cores())
        stages = self._stages()
        dense = self._dense() if self.args.reference_frames else None
        precision = str(self.extractor.dtype).removeprefix("torch.")
        return {
            "video": f"{self.spec.video.width} x {self.spec.video.height}, {len(self.frames)} frames",
            "objects": len(self.channels.objects),
            "preset": self.preset.name,
            "model": self.spec.options.model,
            "device": f"{self.extractor.device}, {precision}, {available_cores()} cores",
            "torch": torch.__version__,
            "whole_fps": len(self.frames) / whole,
            "peak_memory_mib": peak,
            "stages_ms": stages,
            "dense_reference_ms": dense,
            "whole_vs_dense": None if dense is None else sum(dense.values()) / (1000 * whole / len(self.frames)),
        }

    def _whole(self) -> float:
        """Seconds from the file to stored results, as a job runs."""
        files = JobFiles(LocalStore(self.folder / "store"), "local", "j_bench")
        results = ResultStore(files.store, files.prefix, self.frames, settings().chunk_frames)
        start = time.perf_counter()
        run_job(self.spec, self.source, results, files, self.extractor, on_frame=lambda progress: None)
        return time.perf_counter() - start

    def _stages(self) -> dict[str, float]:
        """Milliseconds a frame of every stage, alone and on all cores."""
        watch = _Stopwatch(self.extractor.device)
        propagator = Propagator(self.extractor, self.channels, self.preset)
        files = JobFiles(LocalStore(self.folder / "stages"), "local", "j_bench")
        results = ResultStore(files.store, files.prefix, self.frames, settings().chunk_frames)
        frames = self.source.frames(self.frames.start, self.frames.stop)
        for chunk in range(results.chunk_count):
            done = []
            for index in results.frames_of(chunk):
                with watch("decode", count=index >= _WARM_UP):
                    frame = next(frames)
                with watch("encode", count=index >= _WARM_UP):
                    features = self.extractor(frame.image, self.channels.grid)
                with watch("affinity", count=index >= _WARM_UP):
                    soft = propagator.step(frame, features)
                with watch("upsample", count=index >= _WARM_UP):
                    done.append(
                        decode(self.channels, frame.index, frame.time_ms, soft.values, soft.known, soft.evidence)
                    )
            with watch("store", count=True, frames=len(done)):
                results.write_chunk("f", chunk, done)
        return watch.milliseconds()

    def _dense(self) -> dict[str, float]:
        """The same for the dense float32 reference, once its memory is full."""
        extractor = FeatureExtractor(self.extractor.checkpoint, device=self.args.device, dtype=torch.float32)
        watch = _Stopwatch(extractor.device)
        memory = self.preset.recent_frames + 1
        frames = list(self.source.frames(0, min(memory + self.args.reference_frames, self.frames.stop)))
        features = [extractor(frame.image, self.channels.grid) for frame in frames[:memory]]
        given = self.channels.maps(0).values
        labels = given.flatten(1).T.repeat(len(features), 1).to(extractor.device)
        for frame in frames[memory:]:
            with watch("encode", count=True):
                query = extractor(frame.image, self.channels.grid)
            with watch("affinity", count=True):
                values = self._dense_step(query, torch.stack(features), labels)
            with watch("upsample", count=True):
                known = np.ones(len(self.channels), bool)
                decode(self.channels, frame.index, frame.time_ms, values.T.reshape(given.shape).cpu(), known)
            features = [features[0], *features[2:], query]
        return watch.milliseconds()

    def _dense_step(self, query: torch.Tensor, memory: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        preset = self.preset
        found = dense_matches(query, memory, radius=preset.radius, top_k=preset.top_k, temperature=preset.temperature)
        return (found.weights[:, :, None] * labels[found.sources]).sum(dim=1)


class _Stopwatch:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spent: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, stage: str, *, count: bool, frames: int = 1) -> Iterator[None]:
        start = self._now()
        yield
        if count:
            self._spent.setdefault(stage, []).append((self._now() - start) / frames)

    def milliseconds(self) -> dict[str, float]:
        """The median of every stage."""
        return {stage: 1000 * float(np.median(spent)) for stage, spent in self._spent.items()}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _material(args: argparse.Namespace, folder: Path) -> tuple[Path, bytes]:
    """The video and the first frame's mask: the caller's, or a rendered clip."""
    if args.video is not None:
        return args.video, args.mask.read_bytes()
    clip = render_clip(width=args.width, height=args.height, frame_count=args.frames)
    write_clip(clip, folder / "clip.mp4")
    return folder / "clip.mp4", indexed_png.encode(clip.mask(0))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labelprop bench", description="Times propagation, stage by stage.")
    parser.add_argument("--video", type=Path, help="a video or a folder of images (default: a rendered clip)")
    parser.add_argument("--mask", type=Path, help="PNG of its first frame; goes with --video")
    parser.add_argument("--frames", type=int, default=48, help="how many frames (default: 48)")
    parser.add_argument("--width", type=int, default=854, help="of the rendered clip (default: 854)")
    parser.add_argument("--height", type=int, default=480, help="of the rendered clip (default: 480)")
    parser.add_argument("--model", help="name of a model (default: uvc-r18)")
    parser.add_argument("--device", default=settings().device, help="auto, cpu, cuda ... (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=settings().threads, help="CPU threads; 0 chooses (default: 0)")
    parser.add_argument(
        "--reference-frames", type=int, default=3, help="frames for the dense reference; 0 leaves it out (default: 3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser


def _print(report: dict[str, Any]) -> None:
    print(f"{report['video']}, {report['objects']} objects, preset {report['preset']}, model {report['model']}")
    print(f"{report['device']}, torch {report['torch']}\n")
    dense = report["dense_reference_ms"] or {}
    print(f"{'ms a frame, alone':<20}{'labelprop':>12}{'dense float32':>16}")
    for stage, spent in report["stages_ms"].items():
        other = f"{dense[stage]:.1f}" if stage in dense else ""
        print(f"{stage:<20}{spent:>12.1f}{other:>16}")
    print(f"\nwhole path, overlapped: {report['whole_fps']:.2f} frames a second")
    if report["whole_vs_dense"] is not None:
        print(f"dense reference:        {1000 / sum(dense.values()):.2f} frames a second")
        print(f"ratio:                  {report['whole_vs_dense']:.1f}")
    print(f"peak memory:            {report['peak_memory_mib']:.0f} MiB")
