from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.integrations.cvat import sdk
from app.integrations.cvat.task import FrameMap, Task, frame_step
from model.errors import InputError


@pytest.fixture
def read(stand_in: Any) -> Callable[..., Task]:
    """Reads the task of a stand-in."""

    def do(server: Any, task: int = 7, whole: bool = False) -> Task:
        names = ("server_port", "auth", "organization", "profile")
        args = SimpleNamespace(server_host=server.url, insecure=False, **dict.fromkeys(names))
        with sdk.connect(args) as connected:  # type: ignore[arg-type]
            return Task.read(connected, task, whole=whole)

    return do


@given(
    st.integers(1, 60), st.integers(0, 40), st.integers(1, 9), st.sets(st.integers(0, 59), max_size=20), st.booleans()
)
def test_every_frame_goes_there_and_back(size: int, start: int, step: int, deleted: set[int], whole: bool) -> None:
    gone = tuple(sorted(number for number in deleted if number < size))
    frames = FrameMap(size, start, step, gone, whole)
    indices = [frames.to_video(number) for number in range(size)]
    assert [index is None for index in indices] == [number in gone for number in range(size)]
    kept = [index for index in indices if index is not None]
    assert [frames.to_task(index) for index in kept] == frames.kept
    if whole:
        covered = range(frames.options["start"], frames.options["end"], frames.options["stride"])
        assert len(covered) == size
        assert set(kept) <= set(covered)
        assert kept == [start + number * step for number in frames.kept]
    else:
        assert kept == list(range(frames.frame_count))
        assert frames.options == {}
    assert frames.to_task(-1) is None


@pytest.mark.parametrize(("text", "step"), [("step=5", 5), ("step = 3", 3), ("", 1), ("step=0", 1), ("other", 1)])
def test_steps_of_frame_filters(text: str, step: int) -> None:
    assert frame_step(text) == step


def test_a_task_is_read_whole_and_survives_the_disk(cvat: Callable[..., Any], read: Callable[..., Task]) -> None:
    server = cvat(range(0, 12, 2), start_frame=4, step=2, deleted=(3,), segments=[(0, 2), (3, 5), (2, 5)])
    task = read(server)
    assert (task.name, task.width, task.height, task.chunk_size) == ("street <1>", 96, 64, 4)
    assert (task.frames.size, task.frames.start, task.frames.step, task.frames.deleted) == (6, 4, 2, (3,))
    # All pages of jobs, without the one of ground truth, by their frames.
    assert [(s.job, s.start, s.stop) for s in task.segments] == [(100, 0, 2), (102, 2, 5), (101, 3, 5)]
    assert [label["name"] for label in task.labels] == ["flower", "outline", "box", "dot", "puppet"]
    assert task.labels[4]["sublabels"] == [{"id": 51, "name": "head"}, {"id": 52, "name": "left_hand"}]
    assert Task.from_json(task.to_json()) == task
    with pytest.raises(InputError, match="no label 99"):
        task.label(99)


def test_tasks_that_cannot_be_carried(cvat: Callable[..., Any], read: Callable[..., Task]) -> None:
    server = cvat()
    meta, task = server.meta, server.task
    server.meta = lambda: {**meta(), "frames": [*meta()["frames"], {**meta()["frames"][0], "width": 5}]}
    with pytest.raises(InputError, match="2 sizes"):
        read(server)
    server.meta = lambda: {**meta(), "size": 0}
    with pytest.raises(InputError, match="no frames yet"):
        read(server)
    server.task = lambda: {**task(), "dimension": "3d"}
    with pytest.raises(InputError, match="three-dimensional"):
        read(server)
