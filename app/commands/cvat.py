"""`labelprop cvat`: labels from a CVAT task, carried through its frames by a service, and back as tracks.

    labelprop cvat pull --task 7           read the task's frames and drawn shapes into ./cvat-task-7
    labelprop cvat propagate --task 7      run a job on them (pulls first where nothing was pulled)
    labelprop cvat push --task 7           write the results into the task; --dry-run only says what it would do
    labelprop cvat tracker                 serve CVAT's serverless tracker function (see docs/cvat.md)

Every step can be repeated: a pull reads the task anew, a run that was started goes on, a push replaces what an earlier
one wrote. Frames, shapes and jobs are those of the task, whatever frame step, range or deleted frames it has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from app.client import Client, ServiceError
from app.commands.submit import DEFAULT_URL, wait
from app.integrations.cvat import pull as pulling
from app.integrations.cvat import push as pushing
from app.integrations.cvat import sdk
from app.integrations.cvat.folder import Folder, digest
from app.integrations.cvat.task import Task
from model.errors import InputError

_OPTIONS = ("model", "preset", "direction", "working_size")
_REGIONS = ("mask", "polygon", "rectangle")


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop cvat --help`."""
    if argv and argv[0] == "tracker":
        # It needs the model, and so torch, which this package never imports.
        run: Callable[[Sequence[str]], int] = import_module("worker.commands.cvat_tracker").main
        return run(argv[1:])
    args = _parser().parse_args(argv)
    folder = Folder(args.dir or Path(f"cvat-task-{args.task}"))
    try:
        step: Callable[[argparse.Namespace, Folder], int] = args.step
        return step(args, folder)
    except (ServiceError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or folder.path}: {error.strerror}", file=sys.stderr)
        return 1


def _pull(args: argparse.Namespace, folder: Folder) -> int:
    with sdk.connect(args) as server:
        task = Task.read(server, args.task, whole=args.video is not None)
        annotations = pulling.read_annotations(server, task)
        for kept in folder.replaced().values():
            for kind, entries in kept.items():
                annotations[kind] += entries
        pulled = pulling.pull(task, annotations)
        job_in = {
            "objects": pulled.imported.objects,
            "anchors": pulled.imported.anchors,
            "options": task.frames.options,
            "metadata": {"cvat": {"server": task.server, "task": task.id}},
        }
        folder.save_pull(task, pulled.objects, pulling.read_sources(server, task), job_in)
        if args.video is None:
            with tqdm(total=len(task.frames.kept), unit="frame", desc="downloading") as bar:
                pulling.download_frames(server, task, folder.frames, on_frame=lambda: _advance(bar))
    names = ", ".join(f"{object_['id']} {object_['name']}" for object_ in pulled.imported.objects)
    print(f"task {task.id} {task.name!r}: {len(task.frames.kept)} frames, {len(job_in['anchors'])} labelled; {names}")
    if pulled.skipped:
        print(f"{pulled.skipped} shapes stand on deleted frames and are left out", file=sys.stderr)
    print(folder.path)
    return 0


def _propagate(args: argparse.Namespace, folder: Folder) -> int:
    if not (folder.path / "task.json").exists():
        _pull(args, folder)
    task, _, _ = _pulled(args, folder)
    if task.frames.whole != (args.video is not None):
        raise InputError(
            f"{folder.path} was pulled {'for' if task.frames.whole else 'without'} the original video. Give --video to"
            " both pull and propagate, or to neither."
        )
    spec = folder.job()
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    spec["options"] = {**spec["options"], **given}
    video = args.video or folder.frames
    with Client(args.url) as client:
        asked = _digest(args.url, spec, video)
        job = _resumed(client, folder, asked) or _started(client, folder, asked, spec, video)
        job = wait(client, job["id"])
        if job["status"] != "succeeded":
            reason = (job["error"] or {}).get("detail", "it was cancelled")
            print(f"error: the job {job['status']}: {reason}", file=sys.stderr)
            return 1
        count = folder.save_results(client.frames(job["id"]))
        folder.save_run({**folder.run(), "labels": digest(folder.job())})
    print(f"{count} frames labelled; `labelprop cvat push --task {args.task}` writes them into CVAT")
    return 0


def _resumed(client: Client, folder: Folder, asked: str) -> dict[str, Any] | None:
    """The job that an earlier call started on the same labels and frames, where it still can be used."""
    run = folder.run()
    if run.get("digest") != asked:
        return None
    try:
        job = client.job(run["job"])
    except ServiceError as error:
        if error.status == 404:
            return None
        raise
    if job["status"] in ("failed", "cancelled"):
        return None
    print(f"job {job['id']} of an earlier call goes on", file=sys.stderr)
    return job


def _started(client: Client, folder: Folder, asked: str, spec: dict[str, Any], video: Path) -> dict[str, Any]:
    with tqdm(unit="B", unit_scale=True, desc="uploading") as bar:

        def show(sent: int, size: int) -> None:
            bar.total = size
            bar.update(sent - bar.n)

        uploaded = client.upload(video, on_bytes=show)
    try:
        job = client.submit({**spec, "video_id": uploaded["id"]})
    except ServiceError:
        client.delete_video(uploaded["id"])
        raise
    folder.save_run({"digest": asked, "video": uploaded["id"], "job": job["id"]})
    return job


def _digest(url: str, spec: dict[str, Any], video: Path) -> str:
    state = video.stat()
    return digest(url, spec, str(video.resolve()), state.st_size, state.st_mtime_ns)


def _push(args: argparse.Namespace, folder: Folder) -> int:
    task, objects, sources = _pulled(args, folder)
    next(folder.results(), None)  # an empty folder is said before anything is asked of CVAT
    if folder.run().get("labels") != digest(folder.job()):
        raise InputError(
            "The task was pulled anew since these results were made. Run `labelprop cvat propagate` first."
        )
    if args.region is not None:
        _choose_region(task, objects, args.region)
    with sdk.connect(args) as server:
        if server.address != task.server:
            raise InputError(f"{folder.path} is of {task.server}, not of {server.address}. Pull the task again.")
        with tqdm(total=len(task.segments), unit="job", desc="comparing") as bar:
            plans = list(
                pushing.plan(
                    server,
                    task,
                    objects,
                    folder.results,
                    sources=sources,
                    replace=args.replace,
                    overwrite_edited=args.overwrite_edited,
                    on_job=lambda: _advance(bar),
                )
            )
        for push in plans:
            print(_summary(push))
        if args.dry_run:
            print("dry run: nothing was changed")
            return 0
        requests = sum(len(push.requests()) for push in plans)
        with tqdm(total=requests, unit="request", desc="writing", disable=not requests) as bar:
            for push in plans:
                if push.replace:
                    folder.add_replaced(push.job, push.sources)
                pushing.apply(server, push, on_request=lambda: _advance(bar))
    kept = sum(len(entries) for push in plans for entries in push.sources.values())
    if kept and not args.replace:
        print(f"{kept} drawn shapes and tracks stand beside the results; --replace takes them out")
    return 0


def _pulled(args: argparse.Namespace, folder: Folder) -> tuple[Task, dict[int, Any], dict[int, Any]]:
    task, objects, sources = folder.pulled()
    if task.id != args.task:
        raise InputError(f"{folder.path} holds task {task.id}. Give another --dir for task {args.task}.")
    return task, objects, sources


def _choose_region(task: Task, objects: dict[int, Any], region: str) -> None:
    for back in objects.values():
        if back["region"] is None:
            continue
        label = task.label(back["region"]["label_id"])
        if label["type"] not in ("any", region):
            raise InputError(f"The label {label['name']!r} takes {label['type']} only; --as {region} cannot be.")
        back["region"]["type"] = region


def _summary(push: pushing.JobPush) -> str:
    create, delete = push.create, push.delete
    said = [f"creates {len(create['tracks'])} tracks and {len(create['shapes'])} masks"]
    if delete["tracks"] or delete["shapes"]:
        said.append(f"replaces {len(delete['tracks'])} tracks and {len(delete['shapes'])} masks of an earlier run")
    if push.same:
        said.append(f"finds {len(push.same)} objects as they should be")
    if push.edited:
        ids = ", ".join(map(str, push.edited))
        said.append(f"leaves objects {ids}, which a person has changed (--overwrite-edited replaces them)")
    taken = sum(map(len, push.sources.values()))
    if taken and push.replace:
        said.append(f"takes out {taken} drawn shapes")
    return f"job {push.job}: " + "; ".join(said)


def _advance(bar: tqdm) -> None:
    bar.update(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop cvat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="command", required=True, metavar="pull|propagate|push|tracker")
    for name, step, text in (
        ("pull", _pull, "read a task's frames and drawn shapes"),
        ("propagate", _propagate, "run a job on them"),
        ("push", _push, "write the results into the task"),
    ):
        made = steps.add_parser(name, help=text, description=f"CVAT: {text}.")
        made.set_defaults(step=step)
        made.add_argument("--task", type=int, required=True, metavar="ID", help="the task")
        made.add_argument("--dir", type=Path, help="working folder (default: cvat-task-ID)")
        if name in ("pull", "propagate"):
            made.add_argument("--video", type=Path, help="the video that the task was made of, instead of its pictures")
        if name == "propagate":
            made.add_argument("--url", default=DEFAULT_URL, help=f"the service (default: {DEFAULT_URL})")
            made.add_argument("--model", help="name of a model (default: uvc-r18)")
            made.add_argument("--preset", help="named settings (default: plain)")
            made.add_argument("--direction", choices=("both", "forward", "backward"), help="(default: both)")
            made.add_argument("--working-size", type=int, help="short side as the network sees it")
        if name == "push":
            made.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
            made.add_argument(
                "--as",
                dest="region",
                choices=_REGIONS,
                help="what regions become (default: as drawn, or as the label wants)",
            )
            made.add_argument(
                "--replace",
                action="store_true",
                help="take the drawn shapes out, once the results are in (a copy is kept)",
            )
            made.add_argument(
                "--overwrite-edited", action="store_true", help="replace also results that a person has changed in CVAT"
            )
        sdk.add_arguments(made)
    steps.add_parser("tracker", help="serve CVAT's serverless tracker function (see docs/cvat.md)", add_help=False)
    return parser
