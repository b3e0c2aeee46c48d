"""`labelprop evaluate`: how good a model is, by the field's own protocols on the field's own folders."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from app.schemas.jobs import OptionsIn
from app.settings import settings
from model.catalogue import ModelFile, find_model
from model.cores import available_cores
from model.errors import InputError
from model.evaluation.benchmark import Clip, Selection
from model.evaluation.catalogue import BENCHMARKS, open_benchmark
from model.features import choose_device, native_dtype
from model.pictures import montage
from model.presets import Preset, find_preset
from worker.evaluation import Outcome, Task, WorstFrame, evaluate

_DESCRIPTION = """Evaluates a model on a dataset in its own folder layout.

  labelprop evaluate davis --root DAVIS
  labelprop evaluate jhmdb --root JHMDB --sequences CLIP,CLIP --json jhmdb.json
  labelprop evaluate boxes --root OTB --model mine --out predictions

Propagation is that of `labelprop propagate`; only the first frame's truth is given to it."""

_WORST = 12


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop evaluate --help`."""
    args = _parser().parse_args(argv)
    _check(args)
    model, preset = find_model(args.model, settings().home), find_preset(args.preset)
    choose_device(args.device)
    benchmark = open_benchmark(args.benchmark, args.root)
    wanted = None if args.sequences is None else [name.strip() for name in args.sequences.split(",") if name.strip()]
    selection = benchmark.select(wanted, args.frames)
    for folder in (args.out, args.json and args.json.parent):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    options = {"model": model.name, "preset": preset.name}
    task = Task(benchmark, options, args.device, args.threads, args.out)
    workers = min(args.workers, len(selection.clips))
    table = _Table(benchmark.columns, selection)
    start = time.perf_counter()
    outcomes: list[Outcome] = []
    with _bar(selection.clips, quiet=args.quiet) as bar:
        for outcome in evaluate(task, selection.clips, workers=workers, on_frames=bar.update):
            outcomes.append(outcome)
            if not args.quiet:
                tqdm.write(("" if len(outcomes) > 1 else table.head() + "\n") + table.row(outcome))
    seconds = time.perf_counter() - start
    mean = benchmark.mean([outcome.score for outcome in outcomes])
    if not args.quiet:
        print(table.foot(mean, outcomes))
        _remarks(selection, args.frames)
    if args.json is not None:
        report = _report(args, model, preset, selection, outcomes, mean, workers=workers, seconds=seconds)
        args.json.write_text(json.dumps(_finite(report), indent=1) + "\n")
    if args.out is not None:
        _picture(outcomes, args.out / "worst.jpg")
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = OptionsIn()
    parser = argparse.ArgumentParser(
        prog="labelprop evaluate", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=tuple(BENCHMARKS), help="which dataset, and its protocol")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    parser.add_argument("--sequences", metavar="A,B", help="only these (default: the dataset's own list, or all)")
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N frames of each, for a quick look")
    parser.add_argument("--model", default=defaults.model, help="name of a model (default: %(default)s)")
    parser.add_argument("--preset", default=defaults.preset, help="named settings (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write predictions in the dataset's layout, and the worst frames"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number and setting there")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="sequences side by side, each in a process (default: 1)"
    )
    parser.add_argument(
        "--device", default=settings().device, help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=settings().threads, help="CPU threads of each; 0 chooses (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _check(args: argparse.Namespace) -> None:
    """Refuses what would only be found out after the work is done."""
    if args.threads < 0:
        raise InputError("--threads must be 0 or more; 0 chooses.")
    if args.workers < 1:
        raise InputError("--workers must be 1 or more.")
    if args.frames is not None and args.frames < 1:
        raise InputError("--frames must be 1 or more.")
    if args.sequences is not None and not args.sequences.strip(" ,"):
        raise InputError("--sequences names none. Give names with commas between them, or leave it out.")
    if args.json is not None and args.json.is_dir():
        raise InputError(f"--json {args.json} is a folder. Name a file.")
    for option, folder in (("--json", args.json and args.json.parent), ("--out", args.out)):
        if folder is not None and not _can_be_written(folder):
            raise InputError(f"Nothing can be written in {folder}. Give {option} another place.")
    if args.out is not None and args.out.resolve().is_relative_to(args.root.resolve()):
        raise InputError("--out lies in --root. Predictions must not lie among the truth; give another folder.")


def _can_be_written(folder: Path) -> bool:
    """Whether files can be written in a folder, which need not be there yet."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


class _Table:
    """The numbers as text, a line per sequence."""

    def __init__(self, columns: Sequence[str], selection: Selection[Any]) -> None:
        self._columns = columns
        self._width = max(len("sequence"), *(len(clip.name) for clip in selection.clips))

    def head(self) -> str:
        return self._line("sequence", [*self._columns, "frames", "frames/s"])

    def row(self, outcome: Outcome) -> str:
        return self._line(outcome.score.name, [*self._cells(outcome.score.numbers), *_pace([outcome])])

    def foot(self, mean: Mapping[str, float], outcomes: Sequence[Outcome]) -> str:
        cells = self._line("mean", [*self._cells(mean), *_pace(outcomes)])
        return "-" * len(cells) + "\n" + cells

    def _cells(self, numbers: Mapping[str, float]) -> list[str]:
        return ["-" if math.isnan(numbers[name]) else f"{numbers[name]:.3f}" for name in self._columns]

    def _line(self, name: str, cells: Sequence[str]) -> str:
        titles = [*self._columns, "frames", "frames/s"]
        return f"{name:<{self._width}}" + "".join(
            f"  {cell:>{max(7, len(title))}}" for cell, title in zip(cells, titles, strict=True)
        )


def _pace(outcomes: Sequence[Outcome]) -> list[str]:
    frames, seconds = sum(outcome.frames for outcome in outcomes), sum(outcome.seconds for outcome in outcomes)
    return [str(frames), f"{frames / seconds:.2f}"]


def _remarks(selection: Selection[Any], frames: int | None) -> None:
    if frames is not None:
        print(f"Only the first {frames} frames of each sequence: not the numbers of the protocol.")
    if selection.absent:
        listed = len(selection.absent) + len(selection.clips)
        print(f"{len(selection.clips)} of the {listed} sequences that are listed; the others are not here.")


def _report(
    args: argparse.Namespace,
    model: ModelFile,
    preset: Preset,
    selection: Selection[Any],
    outcomes: Sequence[Outcome],
    mean: Mapping[str, float],
    *,
    workers: int,
    seconds: float,
) -> dict[str, Any]:
    device = choose_device(args.device)
    frames, propagating = sum(each.frames for each in outcomes), sum(each.seconds for each in outcomes)
    return {
        "schema_version": 1,
        "benchmark": args.benchmark,
        "protocol": BENCHMARKS[args.benchmark].protocol,
        "root": str(args.root),
        "sequences_from": selection.origin,
        "sequences_absent": list(selection.absent),
        "first_frames_only": args.frames,
        "model": {"name": model.name, "sha256": model.sha256},
        "preset": asdict(preset),
        "device": str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})",
        "precision": str(native_dtype(device)).removeprefix("torch."),
        "torch": torch.__version__,
        "cores": available_cores(),
        "threads": args.threads,
        "workers": workers,
        "wall_seconds": round(seconds, 3),
        "frames": frames,
        "propagation_seconds": round(propagating, 3),
        "frames_per_second": round(frames / propagating, 3),
        "mean": dict(mean),
        "sequences": [
            {
                "name": each.score.name,
                "frames": each.frames,
                "seconds": round(each.seconds, 3),
                "frames_per_second": round(each.frames / each.seconds, 3),
                **each.score.numbers,
                "scores_by_frame": {str(frame): round(score, 4) for frame, score in each.score.frames.items()},
                "details": each.score.details,
            }
            for each in outcomes
        ],
    }


def _finite(value: Any) -> Any:
    """The same with null for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _picture(outcomes: Sequence[Outcome], path: Path) -> None:
    """The worst frames beside the truth: of every sequence its worst, then its second worst."""
    ranked: list[WorstFrame] = []
    for rank in zip_longest(*(outcome.worst for outcome in outcomes)):
        ranked += sorted((frame for frame in rank if frame is not None), key=lambda frame: frame.score)
    shown = ranked[:_WORST]
    names = [f"{worst.clip}, frame {worst.frame}: {worst.score:.3f}" for worst in shown]
    rows = [(worst.truth, worst.predicted) for worst in shown]
    montage(rows, captions=("truth", "predicted"), names=names, height=200).save(path, quality=88)


def _bar(clips: Sequence[Clip], *, quiet: bool) -> tqdm:
    total = sum(clip.frame_count for clip in clips)
    return tqdm(total=total, unit="frame", desc="evaluate", disable=quiet or None, dynamic_ncols=True)
