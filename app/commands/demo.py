"""`labelprop demo`: the whole service at work on a rendered clip, scored against its exact truth.

It starts a service of its own in a temporary home, so that it neither needs nor touches one that is running, sends the
clip over REST with the first frame's mask and keypoints, waits, downloads the results and measures them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.client import Client, ServiceError
from app.commands.submit import download, wait
from app.supervisor import Service
from app.supervisor import ServiceError as StartError
from model.evaluation.metrics import boundary_f, jaccard, pck
from model.labels import LabelObject, indexed_png
from model.rendered import RenderedClip, render_clip, write_clip


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop demo --help`."""
    args = _parser().parse_args(argv)
    out: Path = args.out
    (out / "masks").mkdir(parents=True, exist_ok=True)
    clip = render_clip(width=args.width, height=args.height, frame_count=args.frames)
    print(f"rendering {clip.frame_count} frames of {clip.width} x {clip.height} to {out / 'clip.mp4'}")
    write_clip(clip, out / "clip.mp4")
    mask = indexed_png.encode(clip.mask(0))
    (out / "first-frame.png").write_bytes(mask)
    spec = _spec(clip)
    (out / "job.json").write_text(json.dumps(spec, indent=1) + "\n")
    with tempfile.TemporaryDirectory(prefix="labelprop-demo-") as home:
        logs = Path(home) / "logs"
        logs.mkdir()
        try:
            with Service(home=Path(home), port=0, logs=logs) as service, Client(service.url) as client:
                print(f"the service runs at {service.url}: Redis, API and two workers")
                frames = _propagate(client, clip, spec, mask, out)
        except (StartError, ServiceError) as error:
            kept = shutil.copytree(logs, out / "logs", dirs_exist_ok=True)
            print(f"error: {error}\nThe service's logs are in {kept}.", file=sys.stderr)
            return 1
    print("the service has stopped\n")
    _report(clip, out, frames)
    return 0


def _propagate(
    client: Client, clip: RenderedClip, spec: dict[str, Any], mask: bytes, out: Path
) -> list[dict[str, Any]]:
    video = client.upload(out / "clip.mp4")
    print(f"uploaded as {video['id']}: {video['codec']}, {video['frame_count']} frames, {video['duration_ms']} ms")
    job = client.submit({**spec, "video_id": video["id"]}, mask=mask)
    job = wait(client, job["id"])
    if job["status"] != "succeeded":
        raise ServiceError(f"The job {job['status']}: {(job['error'] or {}).get('detail')}")
    download(client, job["id"], ["davis"], out / "masks")
    download(client, job["id"], ["coco", "overlay"], out)
    return list(client.frames(job["id"]))


def _spec(clip: RenderedClip) -> dict[str, Any]:
    """The request: names, a skeleton, and the keypoints of the first frame; the regions come as a PNG beside it."""
    points = [{"name": p.name, "x": p.x, "y": p.y, "visible": p.visible} for p in clip.keypoints(0)]
    return {
        "objects": [_declaration(declared) for declared in clip.objects],
        "anchors": [{"frame": 0, "labels": [{"object": clip.objects[1].id, "keypoints": points}]}],
        "metadata": {"made by": "labelprop demo"},
    }


def _declaration(declared: LabelObject) -> dict[str, Any]:
    skeleton = declared.skeleton
    points = None if skeleton is None else {"points": list(skeleton.points), "edges": [list(e) for e in skeleton.edges]}
    return {"id": declared.id, "name": declared.name, "skeleton": points}


def _report(clip: RenderedClip, out: Path, frames: Sequence[dict[str, Any]]) -> None:
    """Prints J and F as DAVIS scores them (without the first and the last frame), and PCK (without the first)."""
    scored = range(1, clip.frame_count - 1)
    size = (clip.width, clip.height)
    predicted = {
        i: indexed_png.decode((out / "masks" / f"{i:05d}.png").read_bytes(), size=size, max_pixels=size[0] * size[1])
        for i in scored
    }
    rows = []
    for declared in clip.objects:
        pairs = [(predicted[i] == declared.id, clip.mask(i) == declared.id) for i in scored]
        j = float(np.mean([jaccard(*pair) for pair in pairs]))
        f = float(np.mean([boundary_f(*pair) for pair in pairs]))
        rows.append((declared.name, j, f))
    print(f"{'against the exact truth':<26}{'J':>8}{'F':>8}{'J&F':>8}")
    for name, j, f in [*rows, ("mean", float(np.mean([r[1] for r in rows])), float(np.mean([r[2] for r in rows])))]:
        print(f"{name:<26}{j:>8.3f}{f:>8.3f}{(j + f) / 2:>8.3f}")
    names = [point.name for point in clip.keypoints(0)]
    found = [_points(result, clip.objects[1].id, names) for result in frames]
    truth = [[(p.x, p.y) if p.visible else None for p in clip.keypoints(i)] for i in range(clip.frame_count)]
    for alpha in (0.1, 0.2):
        print(f"{f'keypoints, PCK@{alpha}':<26}{pck(found, truth, alpha):>8.3f}")
    print(f"\nLook at {out / 'overlay.mp4'}; masks are in {out / 'masks'}, COCO in {out / 'coco.json'}.")


def _points(result: dict[str, Any], object_id: int, names: Sequence[str]) -> list[tuple[float, float] | None]:
    objects = {entry["object"]: entry for entry in result["objects"]}
    points = {point["name"]: (point["x"], point["y"]) for point in objects[object_id]["keypoints"]}
    return [points.get(name) for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop demo", description="Starts a service, labels a rendered clip over REST, scores it, stops."
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the results (default: demo-out)")
    parser.add_argument("--frames", type=int, default=60, help="length of the clip (default: 60)")
    parser.add_argument("--width", type=int, default=854, help="(default: 854)")
    parser.add_argument("--height", type=int, default=480, help="(default: 480)")
    return parser
