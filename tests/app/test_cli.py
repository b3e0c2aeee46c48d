from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from app import cli
from app.problems import InvalidDocument
from model.errors import InputError


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)
    assert cli.main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("labelprop 0.")


def test_an_unknown_command_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serv"]) == 2
    assert "serve, demo" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_is_there_and_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _ = cli.COMMANDS[name].target.split(":")
    assert importlib.util.find_spec(module) is not None
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: labelprop {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (InputError("Too small."), 2, "error: Too small.\n"),
        (InvalidDocument([InputError("No.", pointer="/a"), InputError("Nor.", pointer="/b")]), 2, "  /b: Nor.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_become_a_message_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, text: str
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr("app.commands.submit.main", fail)
    assert cli.main(["submit"]) == status
    assert text in capsys.readouterr().err


def test_the_help_loads_next_to_nothing() -> None:
    code = (
        "import sys, app.cli; app.cli.main(['--help']);"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'numpy', 'av', 'fastapi', 'torch', 'redis'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
