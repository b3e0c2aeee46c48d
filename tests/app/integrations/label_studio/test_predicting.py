from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from model.labels import FrameResult
from model.rendered import RenderedClip

Predict = Callable[..., dict[str, Any]]


@pytest.mark.usefixtures("playing_worker")
def test_every_region_of_a_task_is_carried(
    predict: Predict, task: Callable, clip: RenderedClip, truth: Callable[[int], FrameResult], client: TestClient
) -> None:
    answer = predict(task())
    ((prediction,),) = answer["results"]
    assert (prediction["model_version"], prediction["score"]) == ("labelprop uvc-r18", 0.875)
    assert answer["pending"] == answer["problems"] == []
    assert [(r["id"], r["type"], r["value"]["labels"]) for r in prediction["result"]] == [
        ("r1", "videorectangle", [clip.objects[0].name]),
        ("r2", "videorectangle", [clip.objects[1].name]),
    ]
    for number, found in enumerate(prediction["result"]):
        assert (found["from_name"], found["to_name"]) == ("box", "video")
        for keyframe in found["value"]["sequence"]:
            box = truth(keyframe["frame"] - 1).objects[number].box
            assert box is not None
            assert keyframe["x"] == pytest.approx(100 * box[0] / clip.width, abs=1e-3)
            assert keyframe["height"] == pytest.approx(100 * box[3] / clip.height, abs=1e-3)
    (job,) = client.get("/v1/jobs").json()["jobs"]
    assert job["metadata"] == {"source": "label-studio", "project": "1", "task": 7}
    assert [o["name"] for o in job["objects"]] == [o.name for o in clip.objects]


@pytest.mark.usefixtures("playing_worker")
def test_asking_again_starts_nothing_new_and_other_labels_do(
    predict: Predict, task: Callable, region: Callable, client: TestClient, label_studio: Any
) -> None:
    assert predict(task()) == predict(task())
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1
    predict(task(region(1, 3)))
    assert len(client.get("/v1/jobs").json()["jobs"]) == 2
    assert len(client.get("/v1/videos").json()["videos"]) == 1
    assert [path for _, path, _ in label_studio.seen] == ["/data/upload/1/0a1b2c3d-clip.mp4"]


@pytest.mark.usefixtures("playing_worker")
def test_an_interactive_request_speaks_of_its_own_regions(predict: Predict, task: Callable, region: Callable) -> None:
    (prediction,) = predict(task(region(1)), result=[region(2)])["results"]
    assert [found["id"] for found in prediction["result"]] == ["r2"]


@pytest.fixture
def impatient(client: TestClient, predict: Predict, task: Callable, wait_for: Any) -> None:
    """The file is there, and nobody waits long for a job."""

    def there() -> bool:
        (prediction,) = predict(task(), event="prewarm")["results"]
        return bool(prediction["result"][0]["value"]["status"] == "ok")

    wait_for(there)
    client.app.state.context.settings.__dict__["label_studio_wait_s"] = 0.2  # type: ignore[attr-defined]


@pytest.mark.usefixtures("impatient")
def test_a_job_that_is_not_done_is_pending_and_stores_nothing(
    client: TestClient, predict: Predict, task: Callable
) -> None:
    answer = predict(task())
    assert answer["results"] == [[]]
    (pending,) = answer["pending"]
    assert (pending["task"], pending["status"], pending["frames_done"], pending["frames_total"]) == (7, "queued", 0, 12)
    interactive = predict(task(), result=[task()["annotations"][0]["result"][0]])
    assert interactive["results"] == [{"result": []}]


def test_a_task_on_which_nobody_drew_has_no_prediction(predict: Predict, task: Callable) -> None:
    assert predict(task(annotations=[]))["results"] == [[]]
    assert predict(task(annotations=[], predictions=[{"model_version": "labelprop uvc-r18", "result": []}]))[
        "results"
    ] == [[]]


def test_what_is_wrong_with_the_only_task_is_the_answer(predict: Predict, task: Callable, region: Callable) -> None:
    wrong = predict(task(region(1, x="left")), status=422)
    assert wrong["type"] == "/problems/bad-annotations"
    assert "task 7, result 0, keyframe 0 has no usable `x`" in wrong["detail"]
    gone = predict(task(data={"video": "/data/upload/1/none.mp4"}), status=422)
    assert gone["type"] == "/problems/media-unreachable"
    assert "answers 404" in gone["detail"]
    assert "`data.video`" in predict(task(data={"image": "x"}), status=422)["detail"]


@pytest.mark.usefixtures("playing_worker")
def test_of_several_tasks_the_good_ones_are_answered(predict: Predict, task: Callable, region: Callable) -> None:
    answer = predict(task(), task(region(1, width=0), id=8), task(annotations=[], id=9))
    assert [len(found) for found in answer["results"]] == [1, 0, 0]
    (problem,) = answer["problems"]
    assert (problem["task"], problem["type"]) == (8, "/problems/bad-annotations")


@pytest.mark.usefixtures("impatient")
def test_a_job_that_was_cancelled_is_tried_anew(
    predict: Predict, task: Callable, client: TestClient, settings: Any
) -> None:
    predict(task())
    job = client.get("/v1/jobs").json()["jobs"][0]["id"]
    client.post(f"/v1/jobs/{job}/cancel")
    assert predict(task())["pending"][0]["job"] != job


def test_a_file_that_is_no_video_is_refused(predict: Predict, task: Callable, label_studio: Any) -> None:
    label_studio.files["/data/upload/1/notes.mp4"] = b"not a video at all"
    refused = predict(task(data={"video": "/data/upload/1/notes.mp4"}), status=422)
    assert refused["type"] == "/problems/not-a-video"


def test_variable_names_of_the_configuration_are_followed(
    predict: Predict, task: Callable, playing_worker: None, clip_file: Path
) -> None:
    config = """<View><Video name="v" value="$clip" framerate="$fps"/><VideoRectangle name="b" toName="v"/></View>"""
    given = task(data={"clip": "/data/upload/1/0a1b2c3d-clip.mp4", "fps": 50})
    ((prediction,),) = predict(given, config=config)["results"]
    found = prediction["result"][0]
    assert (found["from_name"], found["to_name"], found["value"]["framesCount"]) == ("b", "v", 24)
