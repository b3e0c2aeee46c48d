from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from model.errors import ModelError
from model.training.state import load_state, save_state

STATE = {"steps": 7, "encoder": {"weight": torch.arange(5.0)}, "budget": [None, 2.5], "config": {"gap_ms": (60.0, 9.0)}}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", STATE)
    loaded = load_state(tmp_path / "state.pt")
    assert torch.equal(loaded["encoder"]["weight"], torch.arange(5.0))
    assert {name: loaded[name] for name in ("steps", "budget", "config")} == {
        "steps": 7,
        "budget": [None, 2.5],
        "config": {"gap_ms": (60.0, 9.0)},
    }


def test_a_later_state_replaces_the_earlier_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for steps in (1, 2):
        save_state(tmp_path / "state.pt", {"steps": steps})
    assert load_state(tmp_path / "state.pt")["steps"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_full_disk_leaves_the_earlier_state(
    tmp_path: Path, files_no_larger_than: Callable[[int], AbstractContextManager[None]]
) -> None:
    save_state(tmp_path / "state.pt", {"steps": 1})
    with files_no_larger_than(4096), pytest.raises(OSError, match=r"state\.pt|too large"):
        save_state(tmp_path / "state.pt", {"steps": 2, "encoder": torch.zeros(100_000)})
    assert load_state(tmp_path / "state.pt")["steps"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_state(tmp_path / "missing" / "state.pt", STATE)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "code"])
def test_what_is_no_state_is_refused_with_its_path(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.pt"
    save_state(path, STATE)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "code":
        torch.save({"version": 1, "steps": Harmful()}, path)
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no state at all"}[damage])
    with pytest.raises(ModelError, match=r"state\.pt") as caught:
        load_state(path)
    assert caught.value.slug == "bad-state"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [{"version": 99, "steps": 1}, {"steps": 1}, [1, 2]])
def test_another_version_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(ModelError, match="another version") as caught:
        load_state(tmp_path / "state.pt")
    assert caught.value.slug == "bad-state"


class Harmful:
    """Calls a function where it is unpickled without care."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("unpickled",)


def test_the_harmful_object_would_have_run(capsys: pytest.CaptureFixture[str]) -> None:
    pickle.loads(pickle.dumps(Harmful()))
    assert capsys.readouterr().out == "unpickled\n"
