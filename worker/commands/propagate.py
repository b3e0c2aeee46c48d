"""`labelprop propagate`: labels a video in this process, without a server.

It goes the way of the service: the same request, the same checks, the same run, the same results and formats.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from app.commands.labels import add_arguments, request_of
from app.files import JobFiles
from app.formats import ExportInput, Format, find_format
from app.jobspec import JobSpec, build_labels, parse_job, resolve, with_mask
from app.results import ResultStore
from app.settings import settings
from app.storage import LocalStore
from model.errors import InputError, MediaError
from model.features import FeatureExtractor
from model.labels import FrameResult
from model.video import Frame, VideoSource, open_video
from worker.models import WarmModels, prepare_process
from worker.run import Progress, run_job

_DESCRIPTION = """Carries labels through a video, or a folder or zip of images, in this process.

  labelprop propagate clip.mp4 --mask first.png --out labels
  labelprop propagate frames/ --box 1:100,80,60,40 --out labels --formats davis,coco,overlay
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop propagate --help`."""
    args = _parser().parse_args(argv)
    formats = [find_format(name) for name in args.formats.split(",") if name]
    _check_paths(args.video, args.out)
    if args.threads < 0:
        raise InputError("--threads must be 0 or more; 0 chooses.")
    home = settings().home
    request, mask = request_of(args)
    with open_video(args.video, limits=settings().limits) as source:
        job_in = parse_job(json.dumps(request))
        spec = resolve(job_in if mask is None else with_mask(job_in, mask, source.info), source.info, home=home)
        prepare_process(args.threads)
        extractor = WarmModels(home, args.device).get(spec.options.model, spec.options.model_sha256)
        args.out.mkdir(parents=True, exist_ok=True)
        # Beside the output, so that what is large stays on the disk that was chosen for it.
        with tempfile.TemporaryDirectory(prefix=".labelprop-", dir=args.out) as scratch:
            files = JobFiles(LocalStore(Path(scratch)), "local", "j_command")
            results = ResultStore(files.store, files.prefix, spec.options.frames, settings().chunk_frames)
            with _bar(len(spec.options.frames), quiet=args.quiet) as bar:
                broken = _run(spec, source, results, files, extractor, bar)
            if broken is None or results.count():
                _export(formats, spec, source, results, args)
    if broken is not None:
        raise broken
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop propagate", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "video", type=Path, metavar="VIDEO_OR_FOLDER", help="a video file, or a folder or zip of images"
    )
    add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--formats", default="davis", metavar="A,B", help="davis, coco, overlay; several with commas (default: davis)"
    )
    parser.add_argument(
        "--device", default=settings().device, help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=settings().threads, help="CPU threads; 0 chooses (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _check_paths(video: Path, out: Path) -> None:
    if not video.exists():
        raise InputError(f"There is no file or folder {video}.")
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file. Give --out a folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"Nothing may be written in {above}. Give --out another folder.")


def _run(
    spec: JobSpec, source: VideoSource, results: ResultStore, files: JobFiles, extractor: FeatureExtractor, bar: tqdm
) -> MediaError | None:
    """Runs the job; returns the error of a frame that does not decode, since what was done until then is kept."""
    try:
        run_job(spec, source, results, files, extractor, on_frame=lambda progress: _show(bar, progress))
    except MediaError as error:
        return error
    return None


def _export(
    formats: Sequence[Format], spec: JobSpec, source: VideoSource, results: ResultStore, args: argparse.Namespace
) -> None:
    objects, _ = build_labels(spec)
    covered = spec.options.frames

    def all_results() -> Iterator[FrameResult]:
        return results.iter()

    def frames_from(first: int) -> Iterator[Frame]:
        return source.frames(first, covered.stop, covered.step)

    given = ExportInput(source.info, source.table, objects, all_results, frames_from, video_name=args.video.stem)
    for format_ in formats:
        format_.write_into(given, args.out)
        if not args.quiet:
            print(f"{format_.name}: {args.out}")


def _bar(total: int, *, quiet: bool) -> tqdm:
    return tqdm(total=total, unit="frame", desc="propagate", disable=quiet or None, dynamic_ncols=True)


def _show(bar: tqdm, progress: Progress) -> None:
    # Steps of both passes are scaled to the frames that come out, so that the bar moves evenly.
    bar.n = round(progress.frames_total * progress.steps_done / progress.steps_total)
    bar.refresh()
