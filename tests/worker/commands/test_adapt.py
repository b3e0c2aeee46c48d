from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.cli import main
from model.catalogue import find_model
from model.rendered import render_clip
from model.training.journal import read_journal

from .conftest import Command

# So high a rate ruins any weights, and yet they stay numbers.
RUINOUS = ("--set", "learning_rate=1", "--set", "rising=1")


def _errors(said: str) -> tuple[float, float]:
    found = re.search(r"cycle error ([\d.]+) -> ([\d.]+)", said)
    assert found
    return float(found[1]), float(found[2])


class TestKept:
    def test_a_better_model_is_installed(
        self, adapt: Command, installed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert adapt("--set", "learning_rate=2e-4", "--steps", "20") == 0
        said = capsys.readouterr().out
        before, after = _errors(said)
        assert after < before
        assert "measured on 1 held-out video" in said
        assert "--model ours" in said
        model = find_model("ours", installed)
        assert "from uvc-r18" in model.metadata["trained"]
        assert model.path.read_bytes() == (installed / "adapt" / "ours" / "ours.safetensors").read_bytes()
        # And is a base in turn, and can be made longer.
        assert adapt("--base", "ours", *RUINOUS, name="theirs") == 1
        assert main(["adapt", "--name", "ours", "--resume", "--steps", "21", "--threads", "1", "--quiet"]) in (0, 1)

    def test_the_settings_are_gentle(self, adapt: Command, installed: Path) -> None:
        assert adapt("--quiet") in (0, 1)
        rates = [entry.lr for entry in read_journal(installed / "adapt" / "ours" / "log.jsonl")]
        assert 0 < max(rates) <= 1e-4


class TestNotKept:
    def test_a_worse_model_leaves_its_log_alone(
        self, adapt: Command, installed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert adapt(*RUINOUS) == 1
        said = capsys.readouterr().out
        before, after = _errors(said)
        assert after > before
        assert "not better than uvc-r18" in said
        assert f"{before:.3f} before, {after:.3f} after" in said
        folder = installed / "adapt" / "ours"
        assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == ["log.jsonl"]
        assert not (installed / "models").exists()
        # The name and the folder are free for another try.
        assert adapt(*RUINOUS, "--quiet") == 1

    def test_weights_that_are_no_numbers_are_not_better(self, adapt: Command, installed: Path) -> None:
        assert adapt("--set", "learning_rate=1e30", "--set", "rising=1", "--steps", "10", "--quiet") == 1
        assert not (installed / "models").exists()


class TestFootage:
    def test_one_folder_of_frames_is_measured_itself(
        self, adapt: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "00001"
        folder.mkdir()
        for at, image in enumerate(render_clip(width=96, height=80, frame_count=12).frames()):
            Image.fromarray(image).save(folder / f"{at:05}.jpg")
        assert adapt(footage=folder) in (0, 1)
        assert "measured on the footage itself" in capsys.readouterr().out

    def test_photographs_alone_are_refused(
        self, adapt: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "one.png")
        assert adapt(footage=tmp_path / "one.png") == 2
        assert "None of the footage moves" in capsys.readouterr().err

    def test_options(self, adapt: Command, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments, reason in (
            (("--base", "nope"), "There is no model 'nope'"),
            (("--set", "clips=0"), "Adapting needs video"),
            (("--minutes", "1"), "either --steps or --minutes"),
            (("--resume",), "There is no run to resume"),
        ):
            assert adapt(*arguments) == 2
            assert reason in capsys.readouterr().err
        assert adapt(name="uvc-r18") == 2
        assert "already" in capsys.readouterr().err
        assert main(["adapt", "--videos", "x"]) == 2
        assert "--name NAME" in capsys.readouterr().err
        assert not list(installed.iterdir())

    def test_another_command_s_run_is_not_resumed(
        self, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--quiet", budget=("--steps", "1")) == 0
        assert main(["adapt", "--out", str(tmp_path / "out"), "--resume"]) == 2
        assert "labelprop train" in capsys.readouterr().err
