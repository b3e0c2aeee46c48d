from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from app.files import JobFiles
from app.jobspec import JobSpec, parse_job, resolve, with_mask
from app.results import ResultStore
from app.storage import LocalStore
from model.errors import InputError
from model.evaluation.metrics import jaccard
from model.geometry import Grid
from model.labels import indexed_png
from model.rendered import FLOWER, PUPPET, render_clip, write_clip
from model.video import open_video
from worker.run import Progress
from worker.speed import flow
from worker.speed.flow import FlowCarrier, run_flow
from worker.speed.stopwatch import Stopwatch

needs_opencv = pytest.mark.skipif(not flow.available(), reason="OpenCV is not installed (the extra `flow`)")


def _spec(video: Path, request: dict[str, object], mask: bytes | None) -> JobSpec:
    with open_video(video) as source:
        asked = parse_job(json.dumps(request))
        return resolve(asked if mask is None else with_mask(asked, mask, source.info), source.info)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flow") / "clip.mp4"
    write_clip(render_clip(width=192, height=144, frame_count=8), path)
    return path


@needs_opencv
@pytest.mark.parametrize(("working_size", "least"), [(240, 0.55), (120, 0.45)])
def test_masks_follow_the_rendered_objects(working_size: int, least: float) -> None:
    clip = render_clip(width=320, height=240, frame_count=8)
    first = clip.mask(0)
    regions = {identity: first == identity for identity in (PUPPET, FLOWER)}
    carrier = FlowCarrier(Grid.fit(320, 240, working_size), clip.frame(0), regions, threads=1)
    for i in range(1, 8):
        masks = carrier.step(clip.frame(i))
    truth = clip.mask(7)
    assert not (masks[FLOWER] & masks[PUPPET]).any()
    for identity in (FLOWER, PUPPET):
        assert masks[identity].shape == truth.shape
        assert jaccard(masks[identity], truth == identity) > least > jaccard(first == identity, truth == identity)


@needs_opencv
def test_a_job_is_done_from_the_file_to_stored_results(video: Path, tmp_path: Path) -> None:
    clip = render_clip(width=192, height=144, frame_count=8)
    spec = _spec(video, {}, indexed_png.encode(clip.mask(0)))
    files = JobFiles(LocalStore(tmp_path), "local", "j_flow")
    results = ResultStore(files.store, files.prefix, spec.options.frames, 3)
    watch, heard = Stopwatch(), list[Progress]()
    with open_video(video) as source:
        run_flow(spec, source, results, on_frame=heard.append, watch=watch, threads=1)
    watch.frame_done(frames=8)
    assert set(watch.milliseconds()) == {"decode", "flow", "store"}
    assert [progress.frames_done for progress in heard] == list(range(1, 9))
    found = list(results.iter())
    assert [result.frame for result in found] == list(range(8))
    assert found[4].time_ms == 160
    assert {each.source for each in found[0].objects} == {"anchor"}
    assert np.array_equal(found[0].objects[0].mask, clip.mask(0) == FLOWER)
    for each in found[7].objects:
        assert (each.source, each.visible) == ("propagated", True)
        assert jaccard(each.mask, clip.mask(7) == each.object) > 0.5


@needs_opencv
@pytest.mark.parametrize("frame", [0, 3])
def test_what_flow_cannot_carry_is_refused(video: Path, tmp_path: Path, frame: int) -> None:
    label = (
        {"object": 1, "keypoints": [{"name": "tip", "x": 5, "y": 6}]} if frame == 0 else {"object": 1, "box": [9] * 4}
    )
    objects = [{"id": 1, "name": "a", "skeleton": {"points": ["tip"], "edges": []}}]
    spec = _spec(video, {"objects": objects, "anchors": [{"frame": frame, "labels": [label]}]}, None)
    files = JobFiles(LocalStore(tmp_path), "local", "j_flow")
    results = ResultStore(files.store, files.prefix, spec.options.frames, 3)
    with open_video(video) as source, pytest.raises(InputError, match="from the first frame on"):
        run_flow(spec, source, results)


def test_without_opencv_the_reason_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert not flow.available()
    with pytest.raises(InputError, match=r"pip install 'labelprop\[flow\]'"):
        flow.opencv()


def test_nothing_else_imports_opencv() -> None:
    root = Path(__file__).parents[3]
    naming = [
        path.relative_to(root).as_posix()
        for room in ("app", "model", "worker", "tools")
        for path in (root / room).rglob("*.py")
        if "cv2" in path.read_text()
    ]
    assert naming == ["worker/speed/flow.py"]
