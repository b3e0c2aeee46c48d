"""The command `labelprop`: each subcommand is `module:function`, loaded only when it is used.

Such a function takes the arguments after the subcommand's name and returns the exit status; it builds its own parser
with `prog="labelprop <name>"`. So `labelprop serve` never imports torch, and `labelprop --help` hardly anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple


class Command(NamedTuple):
    """One subcommand: where its function is, and what it does in a line."""

    target: str
    summary: str


COMMANDS: dict[str, Command] = {
    "serve": Command("app.commands.serve:main", "run the service: Redis, API and workers"),
    "demo": Command("app.commands.demo:main", "see it work: label a clip over REST and score the result"),
    "submit": Command("app.commands.submit:main", "send a video and its labels to a service, wait, download"),
    "cvat": Command("app.commands.cvat:main", "carry the labels of a CVAT task through its frames, and back"),
    "label-studio": Command("app.commands.label_studio:main", "carry the boxes of a Label Studio project, and back"),
    "propagate": Command("worker.commands.propagate:main", "carry labels through a video in this process, no service"),
    "train": Command("worker.commands.train:main", "train a model on videos without any label"),
    "adapt": Command("worker.commands.adapt:main", "make a model better on your own footage, or say that it is not"),
    "evaluate": Command("worker.commands.evaluate:main", "score a model on DAVIS, JHMDB, VIP or boxes"),
    "bench": Command("worker.commands.bench:main", "measure speed, stage by stage"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; None takes the process's.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong arguments or input that cannot be used, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"labelprop {version('labelprop')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"labelprop: there is no command {name!r}. Choose one of: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    return _run(COMMANDS[name], rest)


def _run(command: Command, arguments: list[str]) -> int:
    from model.errors import InputError

    module, function = command.target.split(":")
    run: Callable[[list[str]], int] = getattr(import_module(module), function)
    try:
        return run(arguments)
    except InputError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        for fault in getattr(error, "errors", ()):
            print(f"  {fault.pointer or '/'}: {fault.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: labelprop COMMAND [...]\n\nLabel one frame, get the whole video.\n\n"
        f"commands:\n{rows}\n\n`labelprop COMMAND --help` says more about one; `labelprop --version` the version."
    )


if __name__ == "__main__":
    sys.exit(main())
