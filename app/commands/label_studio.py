"""`labelprop label-studio pull|push`: a whole project of Label Studio at once.

`pull` takes the tasks of a project on whose video somebody drew boxes, and has them carried through their videos by a
running service; `push` writes what came out as predictions with scores. Both may be repeated: a task whose boxes have
not changed is not carried again, and a prediction that is there already is not doubled. What was pulled is remembered
in the jobs' own metadata, so that `push` may run anywhere and at any time.

The address and the token of Label Studio come from `LABELPROP_LABEL_STUDIO_URL` and `LABELPROP_LABEL_STUDIO_TOKEN`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.client import FINAL, Client, ServiceError
from app.commands.submit import DEFAULT_URL
from app.formats.label_studio_frames import PageFrames
from app.formats.label_studio_video import Controls, Named, Sequences
from app.integrations.label_studio.config import VideoConfig, video_config
from app.integrations.label_studio.prompts import drawn_regions, prediction_of, read_prompt, version_of
from app.integrations.label_studio.remote import LabelStudio, RemoteError
from app.problems import Problem
from app.settings import Settings, settings
from model.errors import InputError
from model.video import FrameTable, VideoInfo, probe

Document = dict[str, Any]
_MARK = "label_studio"
_PAGE = 20  # tasks come with all that was drawn on them


@dataclass(frozen=True)
class Place:
    """A project, and the two services between which things go.

    Attributes:
        remote: Label Studio.
        client: Labelprop.
        project: the project's number.
    """

    remote: LabelStudio
    client: Client
    project: int

    def marks(self) -> Iterator[tuple[Document, Document]]:
        """The jobs that were pulled from this project, newest first, with what `pull` noted in each."""
        for job in self.client.jobs():
            mark = job["metadata"].get(_MARK)
            if isinstance(mark, dict) and (mark.get("url"), mark.get("project")) == (self.remote.url, self.project):
                yield job, mark


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    given = settings()
    hosts = tuple(given.label_studio_media_hosts.split(","))
    try:
        remote = LabelStudio(args.ls_url or given.label_studio_url, given.label_studio_token, media_hosts=hosts)
        with Client(args.url) as client:
            place = Place(remote, client, args.project)
            return pull(place, args, given) if args.what == "pull" else push(place, args)
    except (ServiceError, RemoteError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Problem as problem:
        print(f"error: {problem.detail}", file=sys.stderr)
        return 1


def pull(place: Place, args: argparse.Namespace, given: Settings) -> int:
    """Submits a job for every task with boxes that has none yet, and waits for them. Returns the exit status."""
    config = _config(place)
    known = {mark["key"]: job for job, mark in place.marks() if job["status"] not in ("failed", "cancelled")}
    options = {
        name: value for name in ("model", "preset", "working_size") if (value := getattr(args, name)) is not None
    }
    jobs: list[Document] = []
    counts = {"without boxes": 0, "already pulled": 0, "submitted": 0, "refused": 0}
    videos = {mark["sha256"]: job["video_id"] for job, mark in place.marks()}
    for task in tqdm(list(_tasks(place, args.task)), unit="task", desc="pulling"):
        drawn = drawn_regions(task, {})
        key = _key(drawn, config.media(task) if drawn else "", str(config.rate(task)), options)
        if not drawn:
            counts["without boxes"] += 1
        elif key in known:
            counts["already pulled"] += 1
            jobs.append(known[key])
        elif args.dry_run:
            counts["submitted"] += 1
            tqdm.write(f"task {task['id']}: {len(drawn)} results would be carried")
        else:
            try:
                jobs.append(_submit(place, task, drawn, config, key, options, videos, given))
                counts["submitted"] += 1
            except (InputError, Problem, ServiceError) as error:
                counts["refused"] += 1
                tqdm.write(f"task {task['id']}: {getattr(error, 'detail', error)}")
    ended = [] if args.dry_run or args.no_wait else _wait(place.client, jobs)
    failed = [job for job in ended if job["status"] != "succeeded"]
    for job in failed:
        print(f"job {job['id']} {job['status']}: {(job['error'] or {}).get('detail', '')}", file=sys.stderr)
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + (" (dry run)" if args.dry_run else ""))
    return 1 if failed or counts["refused"] else 0


def push(place: Place, args: argparse.Namespace) -> int:
    """Writes the predictions of the jobs that have ended. Returns the exit status."""
    newest: dict[int, tuple[Document, Document]] = {}
    for job, mark in place.marks():
        if job["status"] != "cancelled" and (not args.task or mark["task"] in args.task):
            newest.setdefault(mark["task"], (job, mark))
    config = _config(place)
    counts = {"written": 0, "there already": 0, "not done yet": 0, "failed": 0}
    for task, (job, mark) in tqdm(sorted(newest.items()), unit="task", desc="pushing"):
        if job["status"] != "succeeded":
            counts["failed" if job["status"] == "failed" else "not done yet"] += 1
            continue
        try:
            written = _write(place, task, _prediction(place, job, mark, config.controls), dry_run=args.dry_run)
            counts["written" if written else "there already"] += 1
        except RemoteError as error:
            counts["failed"] += 1
            tqdm.write(f"task {task}: {error}")
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + (" (dry run)" if args.dry_run else ""))
    return 1 if counts["failed"] else 0


def _write(place: Place, task: int, prediction: Document, *, dry_run: bool) -> bool:
    """Makes a prediction the task's only one of its model; returns whether it had to be written."""
    found = place.remote.call("GET", "/api/predictions/", params={"task": task})
    ours = [entry for entry in found if entry.get("model_version") == prediction["model_version"]]
    same = [entry for entry in ours if entry.get("result") == prediction["result"]]
    if not dry_run:
        if not same:
            # Before those that it replaces go, so that the task is never without.
            place.remote.call("POST", "/api/predictions/", body={"task": task, "project": place.project, **prediction})
        for entry in ours:
            if entry not in same[:1]:
                place.remote.call("DELETE", f"/api/predictions/{entry['id']}/")
    return not same


def _config(place: Place) -> VideoConfig:
    project = place.remote.call("GET", f"/api/projects/{place.project}/")
    config = video_config(str(project.get("label_config") or ""))
    if config.tag != "VideoRectangle":
        raise InputError(f"The project labels with <{config.tag}>; only <VideoRectangle> is carried.")
    return config


def _tasks(place: Place, only: list[int]) -> Iterator[Document]:
    """The project's tasks with everything that was drawn on them.

    They are listed: looking at a single task makes Label Studio ask its connected models about it.
    """
    for task in place.remote.pages("/api/tasks", {"project": place.project, "fields": "all"}, page_size=_PAGE):
        if not only or task["id"] in only:
            yield task


def _submit(
    place: Place,
    task: Document,
    drawn: list[Document],
    config: VideoConfig,
    key: str,
    options: Document,
    videos: dict[str, str],
    given: Settings,
) -> Document:
    """Fetches the task's file, uploads it unless the service has it, and submits the job."""
    with tempfile.TemporaryDirectory(prefix="labelprop-") as folder:
        path = Path(folder) / "media"
        sha256 = _save(place.remote.media(config.media(task), task["id"]), path, given.max_upload_bytes)
        info, table = probe(path, limits=given.limits)
        rate = config.rate(task)
        prompt = read_prompt(drawn, info, table, rate=rate, where=f"task {task['id']}")
        mark = {
            "url": place.remote.url,
            "project": place.project,
            "task": task["id"],
            "key": key,
            "sha256": sha256,
            "rate": str(rate),
            "named": {str(id_): [named.region, list(named.labels)] for id_, named in prompt.named.items()},
            "info": info.to_json(),
        }
        video_id = videos.get(sha256)
        if video_id is None or not _has_video(place.client, video_id):
            video_id = videos[sha256] = place.client.upload(path)["id"]
    return place.client.create_job(
        video_id, anchors=prompt.anchors, objects=prompt.objects, options=options, metadata={_MARK: mark}
    )


def _save(pieces: Iterator[bytes], path: Path, max_bytes: int) -> str:
    """Writes a file piece by piece; returns its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > max_bytes:
                raise InputError(f"The file has more than {max_bytes} bytes (LABELPROP_MAX_UPLOAD_BYTES).")
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _has_video(client: Client, video_id: str) -> bool:
    try:
        client.video(video_id)
    except ServiceError as error:
        if error.status == 404:
            return False
        raise
    return True


def _wait(client: Client, jobs: list[Document]) -> list[Document]:
    """The jobs as they ended."""
    total = sum(job["progress"]["frames_total"] for job in jobs)
    with tqdm(total=total, unit="frame", desc="propagating") as bar:
        while True:
            jobs = [job if job["status"] in FINAL else client.job(job["id"]) for job in jobs]
            bar.update(sum(job["progress"]["frames_done"] for job in jobs) - bar.n)
            if all(job["status"] in FINAL for job in jobs):
                return jobs
            time.sleep(1.0)


def _prediction(place: Place, job: Document, mark: Document, controls: Controls) -> Document:
    info = VideoInfo.from_json(mark["info"])
    named = {int(id_): Named(region, tuple(labels)) for id_, (region, labels) in mark["named"].items()}
    times: list[int] = []

    def documents() -> Iterator[Document]:
        for document in place.client.frames(job["id"]):
            times.append(max(document["time_ms"], times[-1] + 1 if times else 0))
            yield document

    gathered = Sequences((info.width, info.height), named).add_json(documents())
    # A job that was pulled covers every frame, so that its results hold the whole frame table, in milliseconds.
    table = FrameTable(np.array(times, np.int64), np.ones(len(times), np.bool_), Fraction(1, 1000))
    page = PageFrames(table, info.duration_ms, Fraction(mark["rate"]))
    return prediction_of(gathered, page, controls, job["options"]["model"])


def _key(drawn: list[Document], media: str, rate: str, options: Document) -> str:
    text = json.dumps([drawn, media, rate, options, version_of("")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop label-studio",
        description="Carry the boxes of a Label Studio project through their videos, and write predictions.",
        epilog="LABELPROP_LABEL_STUDIO_TOKEN holds the access token, of either kind.",
    )
    commands = parser.add_subparsers(dest="what", required=True)
    pulling = commands.add_parser("pull", help="run jobs for the tasks on which boxes were drawn")
    pushing = commands.add_parser("push", help="write the results of those jobs as predictions")
    for command in (pulling, pushing):
        command.add_argument("--project", type=int, required=True, help="the project's number")
        command.add_argument("--task", type=int, action="append", default=[], help="only this task; may be repeated")
        command.add_argument("--ls-url", help="Label Studio (default: LABELPROP_LABEL_STUDIO_URL)")
        command.add_argument("--url", default=DEFAULT_URL, help=f"the service (default: {DEFAULT_URL})")
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    pulling.add_argument("--no-wait", action="store_true", help="do not wait for the jobs")
    pulling.add_argument("--model", help="name of a model (default: uvc-r18)")
    pulling.add_argument("--preset", help="named settings (default: plain)")
    pulling.add_argument("--working-size", type=int, help="short side as the network sees it")
    return parser
