"""`labelprop adapt`: a model made better on a team's own footage, and kept only where it is better.

Better means a smaller cycle error (`model.training.heldout`): from a frame to a later one and back, how far from its
start a cell arrives. It needs no labels, so that it is measured on the very footage that is to be labelled.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from app.settings import settings
from model.errors import InputError, MediaError
from model.training.config import TrainingConfig, adaptation, change, find_recipe
from model.training.heldout import HeldOut
from model.training.trainer import Budget
from worker.commands import training_options as options
from worker.commands.training_flow import Prepared, enough_memory, opened, prepare, publish, say_stopped
from worker.installation import check_name
from worker.training import DivergedError, StopRequest
from worker.training_folder import RunSpec

_DESCRIPTION = """Goes on from a model on your own videos, without any label, for a few minutes.

  labelprop adapt --videos kitchen.mp4 --name kitchen
  labelprop adapt --videos footage/ --base uvc-r18 --minutes 20 --name ours

The cycle error is measured before and after: on videos that are held out where there are several, and on the same one
otherwise. A model that is not better is not kept, and the exit status is 1."""

_BASE = "uvc-r18"
_BUDGET = Budget(minutes=5)
_HELD_OUT = 0.1
_SAMPLES = 128


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop adapt --help`."""
    args = _parser().parse_args(argv)
    options.check_common(args)
    out = _out(args)
    new = None if args.resume else _new_spec(args)
    with opened(args, "adapt", out, new) as (folder, spec):
        prepared = prepare(folder, spec, args, StopRequest())
        run = prepared.run
        where = _choose_measured(prepared)
        with run.stop, enough_memory():
            prepared.begin(samples=_SAMPLES)
            after: HeldOut | None = None
            try:
                run.train()
                if not run.finished:
                    return say_stopped(prepared)
                after = prepared.errors(samples=_SAMPLES)
            except DivergedError as error:
                if not args.quiet:
                    print(error.detail)
            before = run.spec.before
            better = _better(before, after)
            if not args.quiet:
                old, new_error = (options.shown(e.cycle_error if e else None) for e in (before, after))
                print(f"adapted    {run.trainer.total_steps} steps in {run.trainer.seconds / 60:.1f} minutes")
                print(f"cycle error {old} -> {new_error} cells of 8 pixels, measured on {where}")
            if better:
                publish(prepared, args)
                return 0
            folder.discard(run.spec.name)
    print(
        f"The model is not better than {run.spec.base} on this footage (cycle error "
        f"{options.shown(before.cycle_error if before else None)} before, "
        f"{options.shown(after.cycle_error if after else None)} after), so it is not kept. Its log is {folder.log}. "
        "Try more footage, more --minutes, or another --seed; or go on using the base."
    )
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop adapt", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = settings().home / "adapt"
    options.add_run_arguments(parser, out=f"folder of the run (default: {home}/NAME)", held_out=_HELD_OUT)
    parser.add_argument("--name", help="of the model that comes out")
    parser.add_argument("--base", metavar="NAME", help=f"the model to go on from (default: {_BASE})")
    return parser


def _out(args: argparse.Namespace) -> Path:
    if args.name is None and not (args.resume and args.out is not None):
        raise InputError("Say what the model shall be called: --name NAME.")
    if args.name is not None:
        check_name(args.name)
    out: Path = args.out if args.out is not None else settings().home / "adapt" / args.name
    return out


def _new_spec(args: argparse.Namespace) -> RunSpec:
    name = args.base or _BASE
    base, base_sha256 = options.find_base(name)
    config: TrainingConfig = adaptation(find_recipe("full"))
    if base.lightness:
        config = dataclasses.replace(config, input="lightness")
    config = change(config, options.changes_of(args))
    if not config.clips:
        raise InputError("Adapting needs video: whether it helped is measured between frames. Leave clips above 0.")
    return RunSpec(
        command="adapt",
        name=args.name,
        config=config,
        budget=options.budget_of(args, _BUDGET),
        base=name,
        base_sha256=base_sha256,
        **options.footage_options(args, held_out=_HELD_OUT),
    )


def _choose_measured(prepared: Prepared) -> str:
    """Where nothing that moves is held out, the footage itself is measured on; says which it is."""
    if any(run.count > 1 for run in prepared.measured.runs):
        files = {run.file for run in prepared.measured.runs if run.count > 1}
        return f"{len(files)} held-out video{'s' if len(files) > 1 else ''}"
    if not any(run.count > 1 for run in prepared.run.footage.runs):
        raise MediaError("None of the footage moves. Adapting needs at least one video.")
    prepared.measured = prepared.run.footage
    return "the footage itself, as there is only one video"


def _better(before: HeldOut | None, after: HeldOut | None) -> bool:
    if before is None or after is None or before.cycle_error is None or after.cycle_error is None:
        return False
    return after.cycle_error < before.cycle_error
