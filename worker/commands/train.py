"""`labelprop train`: a model from unlabelled video, ready to be used by name when it is done."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from model.cores import available_cores
from model.errors import InputError
from model.training.config import RECIPES, TrainingConfig, change, find_recipe
from model.training.trainer import Budget, Trainer
from worker.commands import training_options as options
from worker.commands.training_flow import Prepared, enough_memory, opened, prepare, publish, say_stopped
from worker.commands.training_footage import read, sampler_weights
from worker.installation import check_name
from worker.models import prepare_process
from worker.training import StopRequest
from worker.training_folder import RunSpec

_DESCRIPTION = """Trains a model on videos without any label.

  labelprop train --videos footage/ --out runs/mine --minutes 60
  labelprop train --videos a.mp4 b.mp4 --out runs/mine --base uvc-r18 --steps 2000
  labelprop train --out runs/mine --resume

The run is saved every few minutes and when it is interrupted; --resume goes on where it was, and with a greater
--minutes or --steps makes a finished run longer. When it is done the model is installed under its name."""

_HELD_OUT = 0.02
_SAMPLES = 64


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop train --help`."""
    args = _parser().parse_args(argv)
    options.check_common(args)
    if args.speed:
        return _speed(args)
    if args.out is None:
        raise InputError("Say where the run goes: --out DIR.")
    new = None if args.resume else _new_spec(args)
    with opened(args, "train", args.out, new) as (folder, spec):
        prepared = prepare(folder, spec, args, StopRequest())
        run = prepared.run
        with run.stop, enough_memory():
            prepared.begin(samples=_SAMPLES)
            pace = run.train()
            if not run.finished:
                return say_stopped(prepared)
            if not args.quiet:
                _report(prepared, pace.samples_per_second)
            publish(prepared, args)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop train", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_run_arguments(parser, out="folder of the run", held_out=_HELD_OUT)
    parser.add_argument("--name", help="of the model (default: the name of --out)")
    parser.add_argument("--recipe", help=f"{', '.join(RECIPES)} (default: full)")
    parser.add_argument("--base", metavar="NAME", help="a model to go on from (default: random weights)")
    parser.add_argument(
        "--weight",
        action="append",
        default=[],
        metavar="SOURCE=W",
        help="draw a source W times as often as it would be; 0 leaves it out; may be repeated",
    )
    parser.add_argument(
        "--speed", action="store_true", help="only measure: steps with their data beside steps on one pre-made batch"
    )
    return parser


def _config(args: argparse.Namespace) -> TrainingConfig:
    return change(find_recipe(args.recipe or "full"), options.changes_of(args))


def _new_spec(args: argparse.Namespace) -> RunSpec:
    name = args.name if args.name is not None else args.out.absolute().name
    check_name(name)
    base_sha256 = None
    config = _config(args)
    if args.base is not None:
        base, base_sha256 = options.find_base(args.base)  # found out before footage is read for minutes
        options.check_input(base, config)
    return RunSpec(
        command="train",
        name=name,
        config=config,
        budget=options.budget_of(args),
        weights=options.weights_of(args.weight),
        base=args.base,
        base_sha256=base_sha256,
        **options.footage_options(args, held_out=_HELD_OUT),
    )


def _report(prepared: Prepared, samples_per_second: float) -> None:
    run = prepared.run
    trainer = run.trainer
    print(f"trained    {trainer.total_steps} steps in {trainer.seconds / 60:.1f} minutes")
    errors = options.errors_line(run.spec.before, prepared.errors(samples=_SAMPLES))
    print(f"held out   {errors} (cells of 8 pixels)" if len(prepared.measured) else "held out   nothing: one file only")
    over = "" if math.isnan(samples_per_second) else f"{samples_per_second:.1f} samples/s over the run; "
    print(f"speed      {over}{_speed_line(trainer)}")


def _speed(args: argparse.Namespace) -> int:
    config = _config(args)
    weights = options.weights_of(args.weight)
    given = options.footage_options(args, held_out=0.0)
    spec = RunSpec(command="train", name="speed", config=config, budget=Budget(steps=1), weights=weights, **given)
    prepare_process(args.threads or available_cores())
    footage = read(spec, threads=args.threads, quiet=args.quiet)
    with enough_memory():
        drawn = sampler_weights(footage, weights)
        trainer = Trainer(config, footage, spec.budget, device=args.device, weights=drawn, seed=spec.seed)
        print(f"speed      {_speed_line(trainer, seconds=60)}")
    return 0


def _speed_line(trainer: Trainer, seconds: float = 4.0) -> str:
    fresh, made = trainer.measure_speed(seconds=seconds)
    return f"{fresh:.1f} samples/s with their data, {made:.1f} on one pre-made batch: {fresh / made:.0%}"
