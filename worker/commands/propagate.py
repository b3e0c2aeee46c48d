"""`labelprop propagate`: labels a video in this process, without a server.

It goes the way of the service: the same request, the same checks, the same run, the same results and formats.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from app.annotations import embedded, own_words, read_annotations, with_annotations
from app.commands.labels import Asked, add_arguments, add_format_arguments, request_of
from app.commands.submit import options_of
from app.files import JobFiles
from app.formats import EXPORTS, ExportInput, ImportInput, choose_options, find_format
from app.jobspec import JobSpec, build_labels, parse_job, resolve, with_mask
from app.results import ResultStore
from app.settings import settings
from app.storage import LocalStore
from model.errors import InputError, MediaError
from model.features import FeatureExtractor
from model.kept import KeptFeatures
from model.labels import FrameResult
from model.review import as_json, suggest
from model.video import Frame, VideoSource, open_video
from worker.models import WarmModels, prepare_process
from worker.run import Progress, run_job

_DESCRIPTION = """Carries labels through a video, or a folder or zip of images, in this process.

  labelprop propagate clip.mp4 --mask first.png --out labels
  labelprop propagate frames/ --box 1:100,80,60,40 --out labels --formats davis,coco,overlay
  labelprop propagate clip.mp4 --mask first.png --out labels --review 5
"""

REVIEW_FILE = "review.json"


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop propagate --help`."""
    args = _parser().parse_args(argv)
    formats = options_of(args.format_options, [find_format(name).name for name in args.formats.split(",") if name])
    _check_paths(args.video, args.out)
    if args.threads < 0:
        raise InputError("--threads must be 0 or more; 0 chooses.")
    if args.review < 0:
        raise InputError("--review must be 0 or more: the number of frames to name.")
    home = settings().home
    asked = request_of(args)
    with open_video(args.video, limits=settings().limits) as source:
        spec = _spec(asked, source, args.video.name, home)
        prepare_process(args.threads)
        extractor = WarmModels(home, args.device).get(spec.options.model, spec.options.model_sha256)
        kept = _kept(source, spec, args.keep_features)
        args.out.mkdir(parents=True, exist_ok=True)
        # Beside the output, so that what is large stays on the disk that was chosen for it.
        with tempfile.TemporaryDirectory(prefix=".labelprop-", dir=args.out) as scratch:
            files = JobFiles(LocalStore(Path(scratch)), "local", "j_command")
            results = ResultStore(files.store, files.prefix, spec.options.frames, settings().chunk_frames)
            with _bar(len(spec.options.frames), quiet=args.quiet) as bar:
                broken = _run(spec, source, results, files, extractor, kept, bar)
            if broken is None or results.count():
                _export(formats, spec, source, results, args)
                if args.review:
                    _review(spec, results, args)
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
    add_format_arguments(parser, default="davis")
    parser.add_argument(
        "--device", default=settings().device, help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=settings().threads, help="CPU threads; 0 chooses (default: 0)")
    parser.add_argument(
        "--keep-features",
        type=_gibibytes,
        default=settings().kept_features_bytes,
        metavar="GIB",
        help="disk for the features of frames, which the next run over this video need not compute; 0 keeps and uses "
        f"none (default: {settings().kept_features_bytes / (1 << 30):g})",
    )
    parser.add_argument(
        "--review",
        type=int,
        default=0,
        metavar="N",
        help=f"name the N frames whose correction would help most, also in DIR/{REVIEW_FILE}",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _gibibytes(text: str) -> int:
    """GiB as bytes. Raises ArgumentTypeError."""
    try:
        count = int(float(text) * (1 << 30))
    except (ValueError, OverflowError):
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GiB, such as 4 or 0.5; 0 keeps none")
    return count


def _check_paths(video: Path, out: Path) -> None:
    if not video.exists():
        raise InputError(f"There is no file or folder {video}.")
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file. Give --out a folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"Nothing may be written in {above}. Give --out another folder.")


def _spec(asked: Asked, source: VideoSource, video_name: str, home: Path) -> JobSpec:
    """The job, with labels of another tool where there are any."""
    job_in = parse_job(json.dumps(asked.spec))
    if asked.mask is not None:
        job_in = with_mask(job_in, asked.mask, source.info)
    with tempfile.TemporaryDirectory() as scratch:
        path, format_name = asked.annotations, asked.format
        if path is None and job_in.annotations is not None:
            path, format_name = embedded(job_in.annotations).save(Path(scratch)), job_in.format
        if path is None:
            return resolve(job_in, source.info, home=home)
        given = ImportInput(path, source.info, source.table, video_name)
        merged = with_annotations(job_in, read_annotations(given, format_name))
    try:
        return resolve(merged, source.info, home=home)
    except InputError as error:
        raise own_words(error, job_in, merged) from None


def _kept(source: VideoSource, spec: JobSpec, max_bytes: int) -> KeptFeatures | None:
    """The features of earlier runs over the same content, whatever it was called."""
    if not max_bytes:
        return None
    try:
        content = source.content_sha256()
    except (OSError, MediaError):
        return None  # what cannot be read is for the run to name, after the frames before it
    model = spec.options.model_sha256
    return KeptFeatures(
        settings().features_dir, max_bytes, video_sha256=content, table=source.table, model_sha256=model
    )


def _run(
    spec: JobSpec,
    source: VideoSource,
    results: ResultStore,
    files: JobFiles,
    extractor: FeatureExtractor,
    kept: KeptFeatures | None,
    bar: tqdm,
) -> MediaError | None:
    """Runs the job; returns the error of a frame that does not decode, since what was done until then is kept."""
    try:
        run_job(spec, source, results, files, extractor, on_frame=lambda progress: _show(bar, progress), kept=kept)
    except MediaError as error:
        return error
    return None


def _export(
    formats: Mapping[str, Mapping[str, str]],
    spec: JobSpec,
    source: VideoSource,
    results: ResultStore,
    args: argparse.Namespace,
) -> None:
    objects, _ = build_labels(spec)
    covered = spec.options.frames

    def all_results() -> Iterator[FrameResult]:
        return results.iter()

    def frames_from(first: int) -> Iterator[Frame]:
        return source.frames(first, covered.stop, covered.step)

    given = ExportInput(source.info, source.table, objects, all_results, frames_from, video_name=args.video.stem)
    for name, options in formats.items():
        format_ = EXPORTS[name]
        format_.write_into(replace(given, options=choose_options(format_, options)), args.out)
        if not args.quiet:
            print(f"{format_.name}: {args.out}")


def _review(spec: JobSpec, results: ResultStore, args: argparse.Namespace) -> None:
    """Names the frames to look at first; the file is written even where there is none."""
    suggestions = suggest(results.iter(), args.review)
    document = {"schema_version": 1, "frames": as_json(suggestions)}
    (args.out / REVIEW_FILE).write_text(json.dumps(document, indent=2) + "\n")
    if args.quiet:
        return
    names = {each.id: each.name for each in build_labels(spec)[0]}
    print("look at first:" if suggestions else "look at first: nothing stands out")
    for each in suggestions:
        minutes, milliseconds = divmod(each.time_ms, 60_000)
        what = f"confidence {each.confidence:.2f}" if each.visible else "taken to be gone"
        print(f"  frame {each.frame} at {minutes}:{milliseconds / 1000:06.3f}: {names[each.object]}, {what}")


def _bar(total: int, *, quiet: bool) -> tqdm:
    return tqdm(total=total, unit="frame", desc="propagate", disable=quiet or None, dynamic_ncols=True)


def _show(bar: tqdm, progress: Progress) -> None:
    # Steps of both passes are scaled to the frames that come out, so that the bar moves evenly.
    bar.n = round(progress.frames_total * progress.steps_done / progress.steps_total)
    bar.refresh()
