from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from model.errors import InputError
from model.training.config import RECIPES
from model.training.heldout import HeldOut
from model.training.trainer import Budget
from worker.training_folder import RunFolder, RunSpec, writing

SPEC = RunSpec(
    command="train",
    name="mine",
    videos=("/a.mp4", "/b"),
    config=RECIPES["uvc"],
    budget=Budget(minutes=2.5),
    seed=3,
    fps=7.5,
    short_side=200,
    memory_bytes=1 << 30,
    held_out=0.1,
    weights={"cats": 2.0},
    base="uvc-r18",
    base_sha256="00ff",
    before=HeldOut(1.25, None),
    frames=17,
    installed="aa",
)


class TestSpec:
    def test_there_and_back(self) -> None:
        assert RunSpec.from_json(SPEC.to_json()) == SPEC
        plain = dataclasses.replace(SPEC, budget=Budget(steps=9), weights={}, base=None, before=None)
        assert RunSpec.from_json(plain.to_json()) == plain

    @pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"version": 2}', '{"version": 1, "name": "x"}'])
    def test_something_else(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 (each has words of its own)
            RunSpec.from_json(text)

    def test_a_file_of_something_else_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"compilerOptions": {}}))
        with pytest.raises(InputError, match=r"config\.json is not the config of a training run"):
            RunFolder(tmp_path).read_spec()


class TestFolder:
    def test_nothing_done_leaves_nothing(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "deep" / "out")
        with folder.claimed():
            assert folder.path.is_dir()
        assert not folder.path.exists()

    def test_what_was_done_stays(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "out")
        with folder.claimed():
            folder.write_spec(SPEC)
        assert folder.read_spec() == SPEC
        folder.check(resume=True)
        with pytest.raises(InputError, match="--resume"):
            folder.check(resume=False)

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "out")
        with folder.claimed():
            with pytest.raises(InputError, match="Another process"), RunFolder(tmp_path / "out").claimed():
                pass
            folder.write_spec(SPEC)
        with folder.claimed():
            pass

    def test_discarding_keeps_the_log_alone(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "out")
        for path in (folder.config, folder.state, folder.log, folder.plot, folder.model("mine")):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        for path in (folder.pictures / "000001.jpg", folder.path / "training" / "mine.safetensors"):
            path.parent.mkdir()
            path.write_bytes(b"x")
        folder.discard("mine")
        assert [path.name for path in folder.path.iterdir()] == ["log.jsonl"]
        folder.check(resume=False)


def test_writing_says_what_the_system_said() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as cause:
        hidden = RuntimeError("enforce fail at 672")
        hidden.__context__ = cause
    with (
        pytest.raises(InputError, match=r"out failed: No space left on device\..*--resume") as found,
        writing(Path("out")),
    ):
        raise OSError("state.pt could not be written") from hidden
    assert found.value.slug == "storage-full"
