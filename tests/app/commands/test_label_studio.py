from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.client import Client
from app.settings import settings as settings_of_process

# The stand-in and what is drawn on its tasks are those of the backend's tests.
_spec = spec_from_file_location(
    "label_studio_fixtures", Path(__file__).parents[1] / "integrations" / "label_studio" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
label_studio, settings, region, task = (
    _fixtures.label_studio,
    _fixtures.settings,
    _fixtures.region,
    _fixtures.task,
)
TOKEN = _fixtures.TOKEN


@pytest.fixture
def environment(label_studio: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LABELPROP_LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABELPROP_LABEL_STUDIO_TOKEN", TOKEN)
    settings_of_process.cache_clear()
    yield
    settings_of_process.cache_clear()


@pytest.fixture
def run(
    environment: None, server: str, playing_worker: None, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def do(what: str, *more: str) -> tuple[int, str]:
        code = main(["label-studio", what, "--project", "1", "--url", server, *more])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return do


def predictions(stand_in: Any) -> list[Any]:
    return [entry for document in stand_in.tasks.values() for entry in document["predictions"]]


def test_tasks_go_round(run: Callable, label_studio: Any, server: str, task: Callable, clip: Any, truth: Any) -> None:
    label_studio.tasks = {7: task(), 8: task(id=8, annotations=[]), 9: task(id=9)}
    code, said = run("pull", "--dry-run")
    assert (code, "2 submitted" in said, "task 7: 2 results would be carried" in said) == (0, True, True)
    with Client(server) as client:
        assert list(client.jobs()) == []
        code, said = run("pull")
        assert code == 0, said
        assert "1 without boxes, 0 already pulled, 2 submitted, 0 refused" in said
        assert "1 without boxes, 2 already pulled, 0 submitted, 0 refused" in run("pull")[1]
        jobs = list(client.jobs())
        assert len(jobs) == 2
        assert len({job["video_id"] for job in jobs}) == 1
        assert TOKEN not in str(jobs)
    code, said = run("push", "--dry-run")
    assert "2 written" in said
    assert predictions(label_studio) == []
    code, said = run("push")
    assert (code, "2 written, 0 there already" in said) == (0, True), said
    assert "0 written, 2 there already" in run("push")[1]
    found = predictions(label_studio)
    assert [(entry["task"], entry["model_version"], entry["score"]) for entry in found] == [
        (7, "labelprop uvc-r18", 0.875),
        (9, "labelprop uvc-r18", 0.875),
    ]
    for number, entry in enumerate(found[0]["result"]):
        assert (entry["id"], entry["value"]["labels"]) == (f"r{number + 1}", [clip.objects[number].name])
        for keyframe in entry["value"]["sequence"]:
            box = truth(keyframe["frame"] - 1).objects[number].box
            assert keyframe["x"] == pytest.approx(100 * box[0] / clip.width, abs=1e-3)


def test_boxes_that_change_are_carried_again_and_replace_the_prediction(
    run: Callable, label_studio: Any, task: Callable, region: Callable
) -> None:
    label_studio.tasks = {7: task()}
    run("pull")
    run("push")
    first = predictions(label_studio)
    label_studio.tasks[7]["annotations"] = [{"result": [region(1, 3)]}]
    assert "1 submitted" in run("pull")[1]
    assert "1 written" in run("push", "--task", "7")[1]
    (second,) = predictions(label_studio)
    assert second["id"] != first[0]["id"]
    assert [entry["id"] for entry in second["result"]] == ["r1"]
    assert "0 written" in run("push", "--task", "5")[1]


def test_what_cannot_be_carried_is_named_and_the_rest_goes_on(
    run: Callable, label_studio: Any, task: Callable, region: Callable
) -> None:
    gone = task(id=8, data={"video": "/data/upload/1/none.mp4"})
    label_studio.tasks = {7: task(region(1, width=0)), 8: gone, 9: task(id=9)}
    code, said = run("pull")
    assert code == 1
    assert "task 7: task 7, result 0, keyframe 0 has no extent" in said
    assert "task 8: " in said
    assert "answers 404" in said
    assert "1 submitted, 2 refused" in said
    assert run("pull", "--task", "9")[0] == 0


def test_jobs_that_are_not_done_are_left_for_later(
    environment: None, server: str, label_studio: Any, task: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    label_studio.tasks = {7: task()}
    arguments = ["--project", "1", "--url", server]
    assert main(["label-studio", "pull", *arguments, "--no-wait", "--working-size", "64"]) == 0
    assert main(["label-studio", "push", *arguments]) == 0
    assert "0 written, 0 there already, 1 not done yet" in capsys.readouterr().out
    with Client(server) as client:
        (job,) = client.jobs()
        assert job["options"]["working_size"] == 64


def test_a_task_that_was_deleted_does_not_stop_the_others(run: Callable, label_studio: Any, task: Callable) -> None:
    label_studio.tasks = {7: task(), 9: task(id=9)}
    run("pull")
    del label_studio.tasks[7]
    code, said = run("push")
    assert (code, "task 7: GET /api/predictions/: Label Studio answers 400" in said) == (1, True)
    assert "1 written, 0 there already, 0 not done yet, 1 failed" in said


def test_refusals_of_either_side_are_named(
    run: Callable, label_studio: Any, monkeypatch: pytest.MonkeyPatch, task: Callable
) -> None:
    label_studio.tasks = {7: task()}
    assert run("pull", "--model", "none-such")[0] == 1
    vectors = '<View><Video name="v"/><VideoVector name="p" toName="v"/></View>'
    label_studio.project["label_config"] = vectors
    code, said = run("pull")
    assert (code, "only <VideoRectangle> is carried" in said) == (2, True)
    monkeypatch.setenv("LABELPROP_LABEL_STUDIO_TOKEN", "wrong")
    settings_of_process.cache_clear()
    code, said = run("push")
    assert (code, "Check the access token" in said) == (1, True)
    code, said = run("push", "--ls-url", "nonsense")
    assert (code, "only http and https" in said) == (1, True)
