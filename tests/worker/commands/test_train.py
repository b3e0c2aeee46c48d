from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from app.cli import main
from model.catalogue import find_model, list_models
from model.checkpoint import load_checkpoint
from model.labels import indexed_png
from model.rendered import render_clip, write_clip
from model.training.companion import load_autoencoder
from model.training.journal import Entry, read_journal
from model.training.state import load_state

from .conftest import TINY, Command

Wait = Callable[..., Any]
Full = Callable[[int], AbstractContextManager[None]]


def _losses(log: Path) -> list[tuple[int, str, float, dict[str, float]]]:
    return [(entry.step, entry.phase, entry.lr, dict(entry.losses)) for entry in read_journal(log)]


def _entries(log: Path) -> list[Entry]:
    """Also while nothing is there yet."""
    return read_journal(log) if log.exists() else []


class TestResult:
    def test_the_model_is_installed_and_propagates(
        self, train: Command, installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--picture-every", 2, "--name", "mine") == 0
        said = capsys.readouterr().out
        assert "3 clips, 0 photographs" in said
        assert "--model mine" in said
        assert "one pre-made batch" in said
        out = tmp_path / "out"
        model = find_model("mine", installed)
        assert model.path.read_bytes() == (out / "mine.safetensors").read_bytes()
        assert model in list_models(installed)
        assert model.metadata["name"] == "mine"
        assert "random weights" in model.metadata["trained"]
        assert [entry.step for entry in read_journal(out / "log.jsonl")] == [1, 2, 3, 4]
        assert sorted(path.name for path in (out / "pictures").iterdir()) == ["000002.jpg", "000004.jpg"]
        with Image.open(out / "losses.png") as plot:
            plot.load()
        assert not list(out.rglob("*.part"))
        # And it is one that `propagate` takes.
        clip = render_clip(width=64, height=48, frame_count=3)
        write_clip(clip, tmp_path / "clip.mp4")
        (tmp_path / "first.png").write_bytes(indexed_png.encode(clip.mask(0)))
        labels = tmp_path / "labels"
        arguments = [tmp_path / "clip.mp4", "--mask", tmp_path / "first.png", "--out", labels, "--model", "mine"]
        assert main(["propagate", *map(str, arguments), "--device", "cpu", "--quiet"]) == 0
        assert len(list(labels.iterdir())) == 3

    def test_the_paper_s_recipe_leaves_its_auto_encoder_beside_the_model(
        self, train: Command, installed: Path, tmp_path: Path
    ) -> None:
        steps = ("--steps", "12")
        uvc = ("--recipe", "uvc", "--set", "photographs=0", "--set", "autoencoder_share=0.2")
        assert train(*uvc, "--picture-every", 4, "--quiet", budget=steps) == 0
        phases = [entry.phase for entry in read_journal(tmp_path / "out" / "log.jsonl")]
        assert phases == ["autoencoder"] * 3 + ["matching"] * 3 + ["joint"] * 6
        assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == [
            "000004.jpg",
            "000008.jpg",
            "000012.jpg",
        ]
        path = installed / "models" / "training" / "out.safetensors"
        with safe_open(path, "pt") as file:
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
        state = load_state(tmp_path / "out" / "state.pt")["autoencoder"]
        for name, tensor in load_autoencoder(path).state_dict().items():
            assert torch.equal(tensor, state[name].half().float())
        assert load_checkpoint(find_model("out", installed).path).lightness
        # Who goes on from it need not train one again.
        assert train(*uvc, "--base", "out", "--quiet", out="next", budget=steps) == 0
        assert read_journal(tmp_path / "next" / "log.jsonl")[0].phase == "matching"

    def test_it_begins_from_a_base_and_says_how_that_was(
        self, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--base", "uvc-r18", "--set", "learning_rate=1e-30", budget=("--steps", "1")) == 0
        said = capsys.readouterr().out
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        before = config["before"]["cycle_error"]
        assert f"cycle error {before:.3f} -> " in said
        base = load_checkpoint(find_model("uvc-r18").path).encoder.conv1.weight
        own = load_checkpoint(tmp_path / "out" / "out.safetensors").encoder.conv1.weight
        assert torch.equal(base, own)

    def test_a_bad_file_among_good_ones_is_named_and_skipped(
        self, train: Command, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(videos, tmp_path / "more")
        (tmp_path / "more" / "broken.mp4").write_bytes(b"no video")
        assert train("--quiet", footage=tmp_path / "more", budget=("--steps", "1")) == 0
        said = capsys.readouterr()
        assert "skipped    broken.mp4: " in said.err
        assert not said.out

    def test_minutes_end_a_run_too(self, train: Command, tmp_path: Path) -> None:
        assert train("--quiet", budget=("--minutes", "0.01")) == 0
        entries = read_journal(tmp_path / "out" / "log.jsonl")
        assert entries[-1].minutes >= 0.01 > entries[-2].minutes if len(entries) > 1 else entries[-1].minutes >= 0.01

    def test_sources_are_weighed(self, train: Command, tmp_path: Path, videos: Path) -> None:
        footage = tmp_path / "weighed"
        footage.mkdir()
        for at, path in enumerate(sorted(videos.iterdir())):
            shutil.copy(path, footage / f"{'cats' if at else 'dogs'}__{path.name}")
        assert train("--weight", "dogs=0", "--weight", "cats=2", "--held-out", "0", "--quiet", footage=footage) == 0
        assert "2 clips" in find_model("out", tmp_path / "home").metadata["trained"]

    def test_speed_alone_leaves_nothing(
        self, videos: Path, installed: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["train", "--videos", str(videos), "--speed", *TINY]) == 0
        assert "on one pre-made batch" in capsys.readouterr().out
        assert not list(installed.iterdir())


class TestResuming:
    def test_a_killed_run_goes_on_as_if_nothing_had_been(
        self, train: Command, videos: Path, installed: Path, tmp_path: Path, wait_for: Wait
    ) -> None:
        steps = ("--steps", "30")
        command = [sys.executable, "-m", "app.cli", "train", "--videos", str(videos), "--out", str(tmp_path / "killed")]
        # Saved several times a second, so that the kill comes between two saves or in the middle of one.
        process = subprocess.Popen(
            [*command, *steps, *TINY, "--save-every", "0.005", "--quiet"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "LABELPROP_HOME": str(installed)},
        )
        try:
            # The plot is drawn after the first save that comes after a step.
            wait_for(lambda: (tmp_path / "killed" / "losses.png").exists() or process.poll() is not None)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        log = tmp_path / "killed" / "log.jsonl"
        assert 0 < len(_losses(log)) < 30
        assert not (installed / "models").exists()
        resumed = ["train", "--out", str(tmp_path / "killed"), "--resume"]
        assert main([*resumed, "--threads", "1", "--log-every", "1", "--quiet"]) == 0
        assert train("--quiet", out="whole", budget=steps) == 0
        assert _losses(log) == _losses(tmp_path / "whole" / "log.jsonl")
        first, second = (
            load_checkpoint(tmp_path / out / f"{out}.safetensors").encoder.state_dict() for out in ("killed", "whole")
        )
        assert all(torch.equal(first[name], second[name]) for name in first)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on(
        self,
        number: signal.Signals,
        train: Command,
        installed: Path,
        tmp_path: Path,
        wait_for: Wait,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        log = tmp_path / "out" / "log.jsonl"

        def ask() -> None:
            wait_for(lambda: len(_entries(log)) >= 2)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=ask)
        before = signal.getsignal(number)
        thread.start()
        try:
            assert train("--quiet", budget=("--steps", "100000")) == 130
        finally:
            thread.join()
        assert signal.getsignal(number) is before
        assert f"train --out {tmp_path / 'out'} --resume" in capsys.readouterr().err
        done = _entries(log)[-1].step
        assert load_state(tmp_path / "out" / "state.pt")["steps"] == done
        assert not (installed / "models").exists()
        resumed = ["train", "--out", str(tmp_path / "out"), "--resume", "--steps", str(done + 2), "--log-every", "1"]
        assert main([*resumed, "--threads", "1", "--quiet"]) == 0
        assert [entry.step for entry in read_journal(log)] == list(range(1, done + 3))

    def test_a_finished_run_can_be_made_longer_and_replaces_its_own_model(
        self, train: Command, installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--quiet") == 0
        first = find_model("out", installed).sha256
        assert train("--resume", "--quiet", footage=None, budget=("--steps", "6")) == 0
        assert [entry.step for entry in read_journal(tmp_path / "out" / "log.jsonl")] == [1, 2, 3, 4, 5, 6]
        assert find_model("out", installed).sha256 != first
        # Somebody else's model of that name is not this run's to replace.
        shutil.copy(find_model("uvc-r18").path, installed / "models" / "out.safetensors")
        assert train("--resume", "--quiet", footage=None, budget=("--steps", "8")) == 2
        assert "There is a model 'out' already" in capsys.readouterr().err
        assert train("--resume", "--quiet", "--replace", footage=None, budget=("--steps", "8")) == 0

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--seed", "5"),
            ("--fps", "3"),
            ("--short-side", "64"),
            ("--memory", "0.5"),
            ("--held-out", "0.4"),
            ("--name", "other"),
            ("--recipe", "uvc"),
            ("--base", "uvc-r18"),
            ("--weight", "x=2"),
            ("--videos", "elsewhere"),
            ("--set", "crop=128"),
        ],
    )
    def test_what_contradicts_the_run_is_refused_by_name(
        self, option: str, value: str, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--quiet", budget=("--steps", "1")) == 0
        saved = (tmp_path / "out" / "state.pt").read_bytes()
        assert train("--resume", option, value, footage=None, budget=("--steps", "2")) == 2
        assert option in capsys.readouterr().err
        assert (tmp_path / "out" / "state.pt").read_bytes() == saved

    def test_a_damaged_state_is_refused(
        self, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--quiet", budget=("--steps", "1")) == 0
        (tmp_path / "out" / "state.pt").write_bytes(b"PK nothing")
        assert train("--resume", footage=None, budget=("--steps", "2")) == 2
        assert "state.pt cannot be read" in capsys.readouterr().err

    def test_a_second_process_is_kept_out(
        self, train: Command, tmp_path: Path, videos: Path, wait_for: Wait, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = [sys.executable, "-m", "app.cli", "train", "--videos", str(videos), "--out", str(tmp_path / "out")]
        process = subprocess.Popen([*command, *TINY, "--minutes", "5", "--quiet"], env=os.environ)
        try:
            wait_for(lambda: (tmp_path / "out" / "config.json").exists() or process.poll() is not None)
            assert train("--resume", footage=None, budget=()) == 2
            assert "Another process is training in" in capsys.readouterr().err
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 130


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--base", "nope"], "There is no model 'nope'. Choose one of: uvc-r18"),
            (["--recipe", "nope"], "There is no recipe 'nope'. Choose one of: full, uvc"),
            (["--set", "nope=1"], "There is no field 'nope'"),
            (["--set", "crop"], "'crop' is not of the form"),
            (["--set", "crop=wide"], "crop=wide is not a value"),
            (["--set", "crop=100"], "multiples of 8"),
            (["--set", "recipe=uvc"], "by --recipe"),
            (["--minutes", "1"], "either --steps or --minutes"),
            (["--name", "uvc-r18"], "There is a model 'uvc-r18' already"),
            (["--name", "../up"], "cannot be a model's name"),
            (["--name", "a.safetensors"], "cannot be a model's name"),
            (["--name", ""], "cannot be a model's name"),
            (["--weight", "nope=1"], "there is no source 'nope'"),
            (["--weight", "nope=-1"], "a number of 0 or more"),
            (["--device", "abacus"], "There is no device 'abacus'"),
            (["--fps", "0"], "--fps must be above 0"),
            (["--memory", "nan"], "--memory must be above 0"),
            (["--memory", "0.0000001"], "memory"),
            (["--held-out", "1"], "--held-out must be a share"),
            (["--base", "uvc-r18", "--recipe", "uvc"], "--set input=colour"),
            (["--resume"], "There is no run to resume"),
        ],
    )
    def test_options(
        self,
        arguments: list[str],
        reason: str,
        train: Command,
        installed: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert train(*arguments, "--quiet") == 2
        assert reason in capsys.readouterr().err
        assert not list(tmp_path.rglob("*.safetensors"))
        assert not (tmp_path / "out").exists()

    def test_neither_steps_nor_minutes(self, train: Command, capsys: pytest.CaptureFixture[str]) -> None:
        assert train(budget=()) == 2
        assert "either --steps or --minutes" in capsys.readouterr().err

    def test_footage(self, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert train(footage=None) == 2
        assert "--videos PATH" in capsys.readouterr().err
        assert train(footage=tmp_path / "nowhere") == 2
        assert "There is no file or folder" in capsys.readouterr().err
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        assert train(footage=tmp_path / "broken.mp4") == 2
        assert "Nothing could be read" in capsys.readouterr().err

    def test_places(self, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_bytes(b"")
        assert train(out="file") == 2
        assert "is a file" in capsys.readouterr().err
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("mine")
        assert train(out="full") == 2
        assert "is not empty" in capsys.readouterr().err
        assert train("--quiet", budget=("--steps", "1")) == 0
        assert train() == 2
        assert "holds a training run already" in capsys.readouterr().err

    def test_a_disk_without_room_is_found_out_before_the_first_step(
        self, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], files_no_larger_than: Full
    ) -> None:
        with files_no_larger_than(1 << 20):
            assert train("--quiet") == 2
        assert "File too large" in capsys.readouterr().err
        assert not list((tmp_path / "out").glob("*.part"))
        assert train("--resume", "--quiet", footage=None, budget=()) == 0

    def test_a_disk_that_fills_up_leaves_what_was_saved(
        self,
        train: Command,
        installed: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        files_no_larger_than: Full,
    ) -> None:
        assert train("--quiet") == 0
        out = tmp_path / "out"
        saved = {path: path.read_bytes() for path in (out / "state.pt", out / "out.safetensors")}
        # State, checkpoint and log each in turn.
        for room in (1 << 20, (out / "state.pt").stat().st_size - 1):
            with files_no_larger_than(room):
                assert train("--resume", "--quiet", footage=None, budget=("--steps", "6")) == 2
            assert "Make room" in capsys.readouterr().err
            assert {path: path.read_bytes() for path in saved} == saved
            assert not list(out.glob("*.part"))
        assert train("--resume", "--quiet", footage=None, budget=("--steps", "6")) == 0
        assert [entry.step for entry in read_journal(out / "log.jsonl")] == [1, 2, 3, 4, 5, 6]

    def test_weights_that_are_no_numbers_are_not_saved(
        self, train: Command, installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train("--set", "learning_rate=1e30", "--set", "rising=1", "--quiet", budget=("--steps", "20")) == 2
        assert "come apart" in capsys.readouterr().err
        encoder = load_checkpoint(tmp_path / "out" / "out.safetensors").encoder
        assert all(bool(torch.isfinite(tensor).all()) for tensor in encoder.state_dict().values())
        assert not (installed / "models").exists()
