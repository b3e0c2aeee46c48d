"""`labelprop bench`: how fast propagation is on this machine, beside what it is to be measured against.

Everything is timed in one run, because machines are noisy and only ratios travel: for every size, number of objects and
length that is asked for, see `worker.speed.measure`.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from app.schemas.jobs import OptionsIn
from app.settings import settings
from model.catalogue import find_model
from model.errors import InputError
from model.features import choose_device
from model.presets import find_preset
from model.video import open_video
from worker.speed.material import IN_SCENE, Scene, counts, object_counts, sizes
from worker.speed.measure import Case, measure_apart
from worker.speed.tables import markdown, plain

_DESCRIPTION = """Times propagation: every stage alone, the whole path from the file to stored results, and beside them
the bare products of all windows with one top-k, the dense float32 reference, and OpenCV's DIS optical flow carrying
the masks (where `pip install 'labelprop[flow]'` put it).

  labelprop bench
  labelprop bench --sizes 480p,1080p --objects 1,4,16 --lengths 300,3000 --json speed.json
  labelprop bench --video film.mp4 --mask first.png

Every combination of size, objects and length is a row; each is measured in a process of its own."""

_SIZES, _OBJECTS, _LENGTHS = "480p", "1,4,16", "48"
_LEAST_FRAMES = 3


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop bench --help`."""
    args = _parser().parse_args(argv)
    _check(args)
    with tempfile.TemporaryDirectory(prefix="labelprop-bench-") as folder:
        runs = [_told(case, args.quiet) for case in _cases(args, Path(folder))]
    report = {
        "schema_version": 1,
        "command": shlex.join(["labelprop", "bench", *argv]),
        "processor": _processor(),
        "runs": _with_ratio(runs),
    }
    print(plain(report) if args.markdown is None else markdown(report, args.markdown))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = OptionsIn()
    parser = argparse.ArgumentParser(
        prog="labelprop bench", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", metavar="A,B", help=f"of the rendered clips: 480p,1080p or 640x360 (default: {_SIZES})"
    )
    parser.add_argument("--objects", metavar="A,B", help=f"how many are labelled (default: {_OBJECTS})")
    parser.add_argument("--lengths", metavar="A,B", default=_LENGTHS, help="frames propagated (default: %(default)s)")
    parser.add_argument("--video", type=Path, help="a video or a folder of images in place of the rendered clips")
    parser.add_argument("--mask", type=Path, help="PNG of its first frame; goes with --video")
    parser.add_argument("--model", default=defaults.model, help="name of a model (default: %(default)s)")
    parser.add_argument("--preset", default=defaults.preset, help="named settings (default: %(default)s)")
    parser.add_argument("--device", default=settings().device, help="auto, cpu, cuda ... (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=settings().threads, metavar="N", help="CPU threads; 0 chooses (default: 0)"
    )
    parser.add_argument(
        "--timed-frames", type=int, default=10, metavar="N", help="frames whose stages are timed (default: %(default)s)"
    )
    parser.add_argument(
        "--reference-frames",
        type=int,
        default=3,
        metavar="N",
        help="frames of each size for the dense reference; 0 leaves it out (default: %(default)s)",
    )
    parser.add_argument(
        "--float32", action="store_true", help="as on a processor that has no bfloat16 units, where this one has them"
    )
    parser.add_argument("--no-flow", dest="flow", action="store_false", help="leave optical flow out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--markdown", metavar="NAME", help="print what docs/performance.md has under that name")
    parser.add_argument("--quiet", action="store_true", help="do not say what is being measured")
    return parser


def _check(args: argparse.Namespace) -> None:
    """Finds what is wrong before anything is rendered.

    Raises:
        InputError: what it is.
    """
    if (args.video is None) != (args.mask is None):
        raise InputError("--video and --mask go together: the mask says what is to be carried.")
    if args.video is not None and (args.sizes is not None or args.objects is not None):
        raise InputError(
            "--sizes and --objects are of rendered clips; a --video has its own size, and its mask its own."
        )
    if args.video is not None and not args.video.exists():
        raise InputError(f"There is no file or folder {args.video}.")
    if args.mask is not None and not args.mask.is_file():
        raise InputError(f"There is no file {args.mask}. --mask takes a PNG of the first frame.")
    for option in ("threads", "reference_frames", "timed_frames"):
        least = 1 if option == "timed_frames" else 0
        if getattr(args, option) < least:
            raise InputError(f"--{option.replace('_', '-')} must be {least} or more, not {getattr(args, option)}.")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"There is no folder {args.json.parent} to write --json into.")
    find_model(args.model, settings().home)
    find_preset(args.preset)
    choose_device(args.device)


def _cases(args: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """What is asked for, one after the other; a clip is there while its case is measured."""
    lengths = counts(args.lengths, "--lengths", least=_LEAST_FRAMES)
    common = Case(
        video=folder / "clip.mp4",
        mask=b"",
        scene=None,
        frames=0,
        folder=folder,
        model=args.model,
        preset=args.preset,
        device=args.device,
        threads=args.threads,
        timed_frames=args.timed_frames,
        reference_frames=args.reference_frames,
        flow=args.flow,
        float32=args.float32,
    )
    if args.video is not None:
        with open_video(args.video, limits=settings().limits) as source:
            count = source.info.frame_count
        for length in dict.fromkeys(min(length, count) for length in lengths):
            results = folder / str(length)
            yield replace(common, video=args.video, mask=args.mask.read_bytes(), frames=length, folder=results)
            common = replace(common, reference_frames=0)
        return
    objects = object_counts(args.objects or _OBJECTS)
    for number, (width, height) in enumerate(sizes(args.sizes or _SIZES)):
        of_size = common  # the dense reference depends on the size alone, and is done once
        for length, count in product(lengths, objects):
            scene = Scene(width, height, count, max(IN_SCENE, objects[-1]), length)
            if count == objects[0]:
                scene.write(common.video)
            results = folder / f"{number}-{length}-{count}"
            yield replace(of_size, mask=scene.mask(), scene=scene, frames=length, folder=results)
            of_size = replace(of_size, reference_frames=0)


def _told(case: Case, quiet: bool) -> dict[str, Any]:
    if not quiet:
        scene = case.scene
        what = (
            case.video.name if scene is None else f"{scene.width} x {scene.height}, labelled objects: {scene.objects}"
        )
        print(f"measuring {what}, {case.frames} frames ...", file=sys.stderr, flush=True)
    return measure_apart(case)


def _with_ratio(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside every run, how many times as fast it was as the dense reference at its size."""
    dense = {(run["width"], run["height"]): run["dense_ms"] for run in runs if run["dense_ms"]}
    found = []
    for run in runs:
        reference = dense.get((run["width"], run["height"]))
        ratio = None if reference is None else run["whole_fps"] * sum(reference.values()) / 1000
        found.append({**run, "whole_vs_dense": ratio})
    return found


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
