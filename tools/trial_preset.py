"""Evaluates settings that no preset has: what each of a preset's parts is worth.

    python tools/trial_preset.py BASE[,FIELD=VALUE ...] {davis,jhmdb,vip,boxes} --root DIR [OPTIONS of `evaluate`]
    python tools/trial_preset.py accurate,radius=8,anchor_favour=0 davis --root DAVIS

Fields are those of `model.presets.Preset`. The trial's name is what was asked for.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from model.errors import ModelError
from model.presets import PRESETS, Preset, find_preset
from worker.commands.evaluate import main as evaluate


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0].startswith("-"):
        print((__doc__ or "").strip())
        return 0 if args else 2
    if any(option.startswith("--preset") for option in args):
        print("A trial is the preset: leave --preset away.", file=sys.stderr)
        return 2
    try:
        preset = _enter(args[0])
    except (ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return evaluate([*args[1:], "--preset", preset.name])


def _enter(asked: str) -> Preset:
    preset = trial(asked)
    PRESETS[preset.name] = preset
    return preset


def trial(asked: str) -> Preset:
    """The preset that `BASE,FIELD=VALUE,...` asks for, under that name.

    Raises:
        ModelError: there is no preset of that name.
        ValueError: a field that presets do not have, or a value of another kind.
    """
    base, *changes = asked.split(",")
    preset = find_preset(base)
    known = {field.name for field in fields(Preset)} - {"name"}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise ValueError(f"Presets have no {name!r}. Fields are: {', '.join(sorted(known))}.")
        value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text) or "''")
        if not isinstance(value, (bool, int, float, type(None))):
            raise ValueError(f"{change}: give a number, true, false or none.")
        values[name] = value
    return replace(preset, **values, name=asked)


if __name__ == "__mp_main__":  # one of the processes of `--workers`, which knows only what is entered in it
    _enter(sys.argv[1])

if __name__ == "__main__":
    sys.exit(main())
