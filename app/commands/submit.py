"""`labelprop submit`: upload a video, submit a job, wait with a progress bar, download the results."""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from app.client import Client, ServiceError
from app.commands import labels
from app.formats import EXPORTS, find_format

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_FORMATS = ",".join(EXPORTS)


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    spec, mask = labels.request_of(args)
    formats = [find_format(name).name for name in args.formats.split(",") if name]
    try:
        with Client(args.url) as client:
            return _submit(client, args, spec, mask, formats)
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


def download(client: Client, job_id: str, formats: Sequence[str], folder: Path) -> list[Path]:
    """Downloads exports into a folder; the PNGs of `davis` are unpacked there. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name in formats:
        path = client.export(job_id, name, folder / EXPORTS[name].filename)
        if EXPORTS[name].media_type == "application/zip":
            written += _unpack(path, folder)
            path.unlink()
        else:
            written.append(path)
    return written


def _submit(
    client: Client, args: argparse.Namespace, spec: dict[str, Any], mask: bytes | None, formats: Sequence[str]
) -> int:
    spec.pop("video_id", None)
    with tqdm(unit="B", unit_scale=True, desc="uploading") as bar:
        video = client.upload(args.video, fps=args.fps, on_bytes=_advance(bar))
    try:
        job = client.submit({**spec, "video_id": video["id"]}, mask=mask)
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
    parser.add_argument("--formats", default=DEFAULT_FORMATS, help=f"exports to download (default: {DEFAULT_FORMATS})")
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
