"""`labelprop submit`: upload a video, submit a job, wait with a progress bar, download the results."""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from app.client import Client, ServiceError
from app.commands import labels
from app.formats import EXPORTS, choose_options, find_format
from app.formats.options import parse_options
from model.errors import InputError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_FORMATS = "davis,coco,overlay"


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    asked = labels.request_of(args)
    formats = [find_format(name).name for name in args.formats.split(",") if name]
    options = options_of(args.format_options, formats)
    try:
        with Client(args.url) as client, asked.packed() as annotations:
            return _submit(client, args, asked, annotations, options)
    except (ServiceError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1


def wait(client: Client, job_id: str) -> dict[str, Any]:
    """Waits for a job with a progress bar on standard error; returns the job as it ended."""
    with tqdm(unit="frame", desc="propagating") as bar:

        def show(job: dict[str, Any]) -> None:
            bar.total = job["progress"]["frames_total"]
            bar.update(job["progress"]["frames_done"] - bar.n)

        return client.wait(job_id, on_progress=show)


def options_of(text: str, formats: Sequence[str]) -> dict[str, dict[str, str]]:
    """The options of each format, from `--format-options`: each takes those that it heeds.

    Raises:
        InputError: an option that none of them heeds, or a value that it cannot have.
    """
    given = parse_options(text)
    heeded = {name: {key: given[key] for key in EXPORTS[name].options if key in given} for name in formats}
    for name, options in heeded.items():
        choose_options(EXPORTS[name], options)
    unused = sorted(set(given) - {key for options in heeded.values() for key in options})
    if unused:
        known = sorted({key for name in formats for key in EXPORTS[name].options})
        detail = f"--format-options {unused[0]}: none of the formats has it; they have: {', '.join(known) or 'none'}."
        raise InputError(detail, slug="invalid-request")
    return heeded


def download(
    client: Client, job_id: str, formats: Iterable[str] | Mapping[str, Mapping[str, str]], folder: Path
) -> list[Path]:
    """Downloads exports into a folder; the PNGs of `davis` are unpacked there. Returns what was written.

    Args:
        client: of the service.
        job_id: whose results.
        formats: names, or options by name.
        folder: where they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    options = formats if isinstance(formats, Mapping) else {name: {} for name in formats}
    for name in options:
        path = client.export(job_id, name, folder / EXPORTS[name].filename, options=options[name])
        if EXPORTS[name].write_folder is not None:
            written += _unpack(path, folder)
            path.unlink()
        else:
            written.append(path)
    return written


def _submit(
    client: Client,
    args: argparse.Namespace,
    asked: labels.Asked,
    annotations: Path | None,
    formats: Mapping[str, Mapping[str, str]],
) -> int:
    asked.spec.pop("video_id", None)
    with tqdm(unit="B", unit_scale=True, desc="uploading") as bar:
        video = client.upload(args.video, fps=args.fps, on_bytes=_advance(bar))
    try:
        job = client.submit(
            {**asked.spec, "video_id": video["id"]}, mask=asked.mask, annotations=annotations, format=asked.format
        )
    except ServiceError:
        client.delete_video(video["id"])
        raise
    print(f"video {video['id']}  job {job['id']}", file=sys.stderr)
    try:
        job = wait(client, job["id"])
    except KeyboardInterrupt:
        print(f"cancelling job {job['id']}", file=sys.stderr)
        client.cancel(job["id"])
        raise
    if job["status"] != "succeeded":
        reason = (job["error"] or {}).get("detail", "it was cancelled")
        print(f"error: the job {job['status']}: {reason}", file=sys.stderr)
        if job["progress"]["frames_done"] == 0:
            return 1
    for path in download(client, job["id"], formats, args.out)[-8:]:
        print(path)
    return 0 if job["status"] == "succeeded" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop submit", description="Send a video and its labels to a running service, wait, download."
    )
    parser.add_argument("video", type=Path, help="a video file, or a zip of images")
    labels.add_arguments(parser)
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the service (default: {DEFAULT_URL})")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    labels.add_format_arguments(parser, default=DEFAULT_FORMATS)
    parser.add_argument("--fps", help="frame rate of a zip of images")
    return parser


def _advance(bar: tqdm) -> Callable[[int, int], None]:
    def show(sent: int, size: int) -> None:
        bar.total = size
        bar.update(sent - bar.n)

    return show


def _unpack(archive: Path, folder: Path) -> list[Path]:
    written = []
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            # Names come over the wire: only their last part is used.
            target = folder / PurePosixPath(entry.filename).name
            target.write_bytes(opened.read(entry))
            written.append(target)
    return written
