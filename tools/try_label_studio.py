"""Tries the backend on a real Label Studio: its server on SQLite, our service, a rendered clip, and its page.

    python3 -m venv /tmp/ls && /tmp/ls/bin/pip install label-studio
    python tools/try_label_studio.py --label-studio /tmp/ls/bin/label-studio --picture docs/label-studio.jpg

It makes a project with a `<VideoRectangle>`, uploads the clip, connects the backend with a name and a password, draws a
box around each object on the first frame (the webhook starts the job), asks for predictions as the page's "Retrieve
Predictions" does, asks interactively with both regions, tracks through the newer events, runs `labelprop label-studio
pull` and `push` twice each, and compares every keyframe that Label Studio then holds with our own result of the picture
that it stands on (which must agree) and with the clip's exact truth (which says how good the model is). At last it
opens the task in Label Studio's page, looks where it seeks to for a frame, and takes a picture. Everything that it
started has stopped when it ends. It is no part of the tests: Label Studio is heavy.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from webdriver import Browser  # noqa: E402

from app.client import Client  # noqa: E402
from app.formats.label_studio_frames import PageFrames  # noqa: E402
from app.settings import Settings  # noqa: E402
from app.supervisor import Service  # noqa: E402
from model.labels.raster import tight_box  # noqa: E402
from model.rendered import RenderedClip, render_clip, write_clip  # noqa: E402
from model.video import FrameTable  # noqa: E402

USER, PASSWORD = "try@example.com", secrets.token_urlsafe(9)
TOKEN = secrets.token_hex(20)
BACKEND_USER, BACKEND_PASSWORD = "label-studio", secrets.token_urlsafe(9)
FPS = 25
CONFIG = f"""<View>
  <Labels name="videoLabels" toName="video" allowEmpty="true">
    <Label value="flower" background="#e6194b"/>
    <Label value="puppet" background="#3cb44b"/>
  </Labels>
  <Video name="video" value="$video" framerate="{FPS}"/>
  <VideoRectangle name="box" toName="video" smart="true"/>
</View>"""


def main() -> int:
    args = _parser().parse_args()
    clip = render_clip(width=args.width, height=args.height, frame_count=args.frames)
    with tempfile.TemporaryDirectory(prefix="labelprop-try-") as folder:
        work = Path(folder)
        write_clip(clip, work / "clip.mp4")
        with _label_studio(args.label_studio, work) as url:
            settings = Settings(
                home=work / "home",
                port=0,
                label_studio_url=url,
                label_studio_token=TOKEN,
                label_studio_user=BACKEND_USER,
                label_studio_password=BACKEND_PASSWORD,
                label_studio_wait_s=80,
            )
            (work / "logs").mkdir()
            with Service(settings=settings, logs=work / "logs") as service:
                try:
                    _try(url, service.url, clip, work, args.picture)
                except BaseException:
                    _tails(work)
                    raise
    print("everything has stopped")
    return 0


def _try(url: str, ours: str, clip: RenderedClip, work: Path, picture: Path | None) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Token {TOKEN}"}, timeout=120, trust_env=False) as api:
        project = _json(api.post("/api/projects/", json={"title": "Labelprop", "label_config": CONFIG}))["id"]
        with (work / "clip.mp4").open("rb") as file:
            _json(api.post(f"/api/projects/{project}/import", files={"file": ("clip.mp4", file, "video/mp4")}))
        task = _json(api.get("/api/tasks/", params={"project": project, "fields": "all"}))["tasks"][0]
        print(f"project {project}, task {task['id']}: {task['data']}")
        connection = {
            "url": f"{ours}/integrations/label-studio",
            "project": project,
            "title": "Labelprop",
            "is_interactive": True,
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": BACKEND_USER,
            "basic_auth_pass": BACKEND_PASSWORD,
        }
        backend = _json(api.post("/api/ml", json=connection))
        print(f"backend {backend['id']}: {backend['readable_state']}")
        # Label Studio made a webhook of its own accord, but not with the name and the password.
        (webhook,) = _json(api.get("/api/webhooks/", params={"project": project}))
        key = base64.b64encode(f"{BACKEND_USER}:{BACKEND_PASSWORD}".encode()).decode()
        _json(api.patch(f"/api/webhooks/{webhook['id']}/", json={"headers": {"Authorization": f"Basic {key}"}}))
        drawn = [_region(clip, id_) for id_ in (1, 2)]
        _json(api.post(f"/api/tasks/{task['id']}/annotations/", json={"result": drawn, "lead_time": 5}))
        with Client(ours) as client:
            for _ in range(100):
                if any(client.jobs()):
                    break
                time.sleep(0.1)
            print(f"its webhook {webhook['url']} has started {next(client.jobs())['id']}")

        begun = time.monotonic()
        chosen = {"selectedItems": {"all": True, "excluded": []}, "ordering": [], "project": project}
        said = _json(
            api.post("/api/dm/actions", params={"id": "retrieve_tasks_predictions", "project": project}, json=chosen)
        )
        print(f"retrieve predictions: {said} after {time.monotonic() - begun:.1f} s")
        found = _json(api.get("/api/predictions/", params={"task": task["id"]}))
        assert len(found) == 1, found
        print(f"prediction {found[0]['id']} of {found[0]['model_version']!r}, score {found[0]['score']}")
        _compare(clip, found[0]["result"], ours)

        interactive = _json(
            api.post(
                f"/api/ml/{backend['id']}/interactive-annotating",
                json={"task": task["id"], "context": {"result": drawn}},
            )
        )
        regions = interactive["data"]["result"]
        assert [region["id"] for region in regions] == [region["id"] for region in drawn], interactive
        print(f"interactive: {len(regions)} regions, {[len(r['value']['sequence']) for r in regions]} keyframes")
        _events(api, backend["id"], task["id"], clip)

        assert api.delete(f"/api/predictions/{found[0]['id']}/").status_code == 204
        assert _json(api.get("/api/predictions/", params={"task": task["id"]})) == []
        environment = {
            **os.environ,
            "LABELPROP_LABEL_STUDIO_URL": url,
            "LABELPROP_LABEL_STUDIO_TOKEN": TOKEN,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        for what in ("pull", "push"):
            for more in (["--dry-run"], [], []):  # the second time there is nothing left to do
                command = [
                    sys.executable,
                    "-m",
                    "app.cli",
                    "label-studio",
                    what,
                    "--project",
                    str(project),
                    "--url",
                    ours,
                ]
                done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True)
                print(f"{what} {' '.join(more)}: {done.stdout.strip()}")
                assert done.returncode == 0, done.stderr
        found = _json(api.get("/api/predictions/", params={"task": task["id"]}))
        assert len(found) == 1, [entry["id"] for entry in found]
        _compare(clip, found[0]["result"], ours)
        if picture is not None:
            _look(url, project, task["id"], picture)


def _events(api: httpx.Client, backend: int, task: int, clip: RenderedClip) -> None:
    """The interactive events, through Label Studio's own proxy of them."""

    def send(**context: Any) -> dict[str, Any]:
        answer = _json(api.post(f"/api/ml/{backend}/interactive-annotating", json={"task": task, "context": context}))
        assert "data" in answer, answer
        return answer["data"]["result"][0]

    print(f"capabilities: {json.dumps(send(event='capabilities')['value'])[:160]}")
    box = _percent(clip, 1, 10)
    shown = [{"type": "rectanglelabels", "value": box}]
    started = send(event="track", time_ms=402, direction="both", max_frames=8, result=shown)
    assert started["type"] == "track_started", started
    frames: list[int] = []
    value: dict[str, Any] = {"done": False}
    while not value["done"]:
        value = send(event="track_progress", session_id=started["value"]["session_id"])["value"]
        assert not value["error"], value
        frames += [frame["frame"] for frame in value["frames"]]
    print(f"track: frames {sorted(frames)} of {value['total']}")
    assert sorted(frames) == list(range(2, 19))
    assert send(event="release")["type"] == "release_ack"


def _look(url: str, project: int, task: int, picture: Path) -> None:
    """Opens the task in the page, shows the prediction on a later frame, and takes a picture."""
    with Browser(height=1060) as browser:
        browser.open(f"{url}/user/login/")
        browser.type("input[name=email]", USER)
        browser.type("input[name=password]", PASSWORD)
        browser.click("button[type=submit]")
        browser.wait("return location.pathname.startsWith('/projects') || location.pathname === '/'")
        browser.open(f"{url}/projects/{project}/data?task={task}")
        browser.wait("return window.Htx && window.Htx.annotationStore && window.Htx.annotationStore.predictions.length")
        browser.wait("return document.querySelector('video') && document.querySelector('video').readyState >= 2")
        browser.run("const store = window.Htx.annotationStore; store.selectPrediction(store.predictions[0].id);")
        time.sleep(3)
        table = FrameTable(np.arange(0, 40_000, 1000 // FPS), np.ones(1000, np.bool_), Fraction(1, 1000))
        page = PageFrames(table, 40_000, Fraction(FPS))
        for number in (1, 2, 24, 40, 11):
            browser.run(
                "const s = window.Htx.annotationStore.selected;"
                "s.objects.find(o => o.type === 'video').setFrame(arguments[0]);",
                number,
            )
            time.sleep(1)
            at = browser.run("return document.querySelector('video').currentTime")
            assert page.index(number) == page.at(1000 * at) == number - 1, (number, at)
            print(f"frame {number} of the page: it seeks to {at:.3f} s, which is picture {page.at(1000 * at)}")
        shown = browser.run(
            "return window.Htx.annotationStore.selected.regions.map(r => [r.labels, r.sequence.length])"
        )
        time.sleep(2)
        print(f"the page shows {shown}")
        browser.picture(picture.with_suffix(".png"))
        if picture.suffix != ".png":
            with Image.open(picture.with_suffix(".png")) as taken:
                taken.convert("RGB").save(picture, quality=80, optimize=True)
            picture.with_suffix(".png").unlink()
        print(f"picture: {picture}")


def _region(clip: RenderedClip, object_id: int) -> dict[str, Any]:
    keyframe = {"frame": 1, "time": 1 / FPS, "enabled": True, "rotation": 0, **_percent(clip, object_id, 0)}
    return {
        "id": f"drawn{object_id}",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "origin": "manual",
        "value": {
            "framesCount": clip.frame_count,
            "duration": clip.frame_count / FPS,
            "sequence": [keyframe],
            "labels": [clip.objects[object_id - 1].name],
        },
    }


def _percent(clip: RenderedClip, object_id: int, frame: int) -> dict[str, float]:
    box = tight_box(clip.mask(frame) == object_id)
    assert box is not None
    sides = (clip.width, clip.height, clip.width, clip.height)
    return dict(zip(("x", "y", "width", "height"), (100 * v / s for v, s in zip(box, sides, strict=True)), strict=True))


def _compare(clip: RenderedClip, regions: list[dict[str, Any]], ours: str) -> None:
    """Every keyframe's box must be our result on that frame; how far both are from the truth is printed."""
    with Client(ours) as client:
        job = next(client.jobs())
        results = {document["frame"]: document for document in client.frames(job["id"])}
    assert len(regions) == len(clip.objects)
    for region in regions:
        object_id = [o.name for o in clip.objects].index(region["value"]["labels"][0]) + 1
        sequence = region["value"]["sequence"]
        for keyframe in sequence:
            entries = results[keyframe["frame"] - 1]["objects"]
            box = next(entry["box"] for entry in entries if entry["object"] == object_id)
            expected = [100 * v / s for v, s in zip(box, (clip.width, clip.height) * 2, strict=True)]
            given = [keyframe[name] for name in ("x", "y", "width", "height")]
            assert all(abs(a - b) < 1e-3 for a, b in zip(given, expected, strict=True)), (keyframe, box)
        good = [_iou(keyframe, _percent(clip, object_id, keyframe["frame"] - 1)) for keyframe in sequence]
        print(
            f"  {region['value']['labels'][0]}: {len(sequence)} keyframes, each on its frame; score {region['score']},"
            f" IoU with the truth {sum(good) / len(good):.3f}, of the first ten {sum(good[:10]) / 10:.3f}"
        )


def _iou(a: dict[str, float], b: dict[str, float]) -> float:
    width = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
    height = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
    both = max(0.0, width) * max(0.0, height)
    return both / (a["width"] * a["height"] + b["width"] * b["height"] - both)


@contextmanager
def _label_studio(command: Path, work: Path) -> Iterator[str]:
    """A Label Studio server of its own, on SQLite in `work`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "LABEL_STUDIO_BASE_DATA_DIR": str(work / "label-studio"),
        # Both of them are on this machine, which Label Studio refuses unless it is told otherwise.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DEBUG": "false",
    }
    arguments = ["start", "--port", str(port), "--internal-host", "127.0.0.1", "--no-browser", "--log-level", "WARNING"]
    arguments += ["--username", USER, "--password", PASSWORD, "--user-token", TOKEN, "--enable-legacy-api-token"]
    url = f"http://127.0.0.1:{port}"
    with (work / "label-studio.log").open("wb") as log:
        process = subprocess.Popen(
            [str(command), *arguments], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            begun = time.monotonic()
            while True:
                try:
                    answer = httpx.get(f"{url}/health", timeout=10, trust_env=False)
                    if answer.status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                if process.poll() is not None or time.monotonic() - begun > 400:
                    raise RuntimeError((work / "label-studio.log").read_text()[-3000:])
                time.sleep(1)
            print(f"Label Studio runs at {url} after {time.monotonic() - begun:.0f} s")
            yield url
        finally:
            os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def _tails(work: Path) -> None:
    for path in (work / "label-studio.log", *sorted((work / "logs").glob("*"))):
        print(f"--- {path.name}\n{path.read_text(errors='replace')[-2500:]}", file=sys.stderr)


def _json(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise RuntimeError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:800]}")
    return answer.json()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--label-studio", type=Path, required=True, help="the command, in an environment of its own")
    parser.add_argument("--picture", type=Path, help="where a picture of the page goes; without it no browser is used")
    parser.add_argument("--frames", type=int, default=40, help="length of the clip (default: 40)")
    parser.add_argument("--width", type=int, default=480, help="(default: 480)")
    parser.add_argument("--height", type=int, default=272, help="(default: 272)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
