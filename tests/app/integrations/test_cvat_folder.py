from __future__ import annotations

from pathlib import Path

import pytest

from app.integrations.cvat.folder import Folder, digest
from app.integrations.cvat.task import FrameMap, Segment, Task
from model.errors import InputError

TASK = Task(7, "http://x", "t", 24, 16, FrameMap(5, 2, 3, (1,), True), (Segment(1, 0, 4),), ({"id": 1},), 4)


def test_what_was_pulled_comes_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new" / "d")
    folder.save_pull(TASK, {2: {"region": None}}, {1: {"shapes": [], "tracks": []}}, {"anchors": []})
    assert folder.pulled() == (TASK, {2: {"region": None}}, {1: {"shapes": [], "tracks": []}})
    assert folder.job() == {"anchors": []}
    assert folder.run() == {}
    folder.save_run({"job": "j"})
    assert folder.run() == {"job": "j"}


def test_results_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(InputError, match="labelprop cvat propagate"):
        next(folder.results())
    results = [{"frame": frame, "time_ms": 0, "objects": []} for frame in (3, 4)]
    assert folder.save_results(iter(results)) == 2

    def broken() -> object:
        yield results[0]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        folder.save_results(broken())  # type: ignore[arg-type]
    assert [result.frame for result in folder.results()] == [3, 4]


def test_replaced_shapes_are_kept_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.replaced() == {}
    for shapes in ([{"id": 1}], [{"id": 1}, {"id": 2}]):
        folder.add_replaced(5, {"shapes": shapes, "tracks": []})
    assert folder.replaced() == {5: {"shapes": [{"id": 1}, {"id": 2}], "tracks": []}}


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(InputError, match=r"task\.json.*labelprop cvat pull"):
        folder.pulled()
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(InputError, match=r"task\.json cannot be read"):
        folder.pulled()
    (tmp_path / "task.json").write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="another version"):
        folder.pulled()


def test_a_digest_sees_every_difference() -> None:
    assert digest({"a": 1, "b": 2}, "x") == digest({"b": 2, "a": 1}, "x")
    assert len({digest({"a": 1}), digest({"a": 2}), digest({"a": 1}, 1)}) == 3
