"""What `train` and `adapt` both do from their options to an installed model."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from app.settings import settings
from model.cores import available_cores
from model.errors import InputError, ModelError
from model.features import choose_device
from model.training.footage import Footage
from model.training.heldout import HeldOut
from model.training.state import load_state
from model.training.trainer import Trainer
from worker.commands import training_options as options
from worker.commands.training_footage import describe, read, sampler_weights, sources
from worker.installation import check_free, install, sha256
from worker.models import prepare_process
from worker.training import Run, StopRequest
from worker.training_folder import RunFolder, RunSpec, writing


@dataclass
class Prepared:
    """A run before its first step in this process.

    Attributes:
        run: with its folder, its footage and its trainer.
        measured: the footage that errors are measured on; without frames where there is none.
    """

    run: Run
    measured: Footage

    def errors(self, *, samples: int) -> HeldOut:
        """The result's errors as it is."""
        return self.run.trainer.held_out(self.measured, samples=samples)

    def begin(self, *, samples: int) -> None:
        """Measures a base before it is changed, and writes down what is to be done."""
        run = self.run
        before = run.spec.before
        if before is None and run.spec.base is not None and not run.trainer.total_steps:
            before = self.errors(samples=samples)
        run.spec = dataclasses.replace(run.spec, before=before, frames=len(run.footage))
        run.folder.write_spec(run.spec)


@contextmanager
def opened(
    args: argparse.Namespace, command: str, path: Path, new: RunSpec | None
) -> Iterator[tuple[RunFolder, RunSpec]]:
    """The run's folder, kept from others, and what is to be done there: something new, or what is resumed.

    Raises:
        InputError: the folder holds something else than was asked for, or the model's name is taken.
    """
    folder = RunFolder(path)
    folder.check(resume=args.resume)
    if new is not None:
        _check_name_free(new, args)
    with folder.claimed():
        if new is not None:
            yield folder, new
            return
        spec = folder.read_spec()
        if spec.command != command:
            raise InputError(f"{path} holds a run of `labelprop {spec.command}`. Resume it with that command.")
        options.check_same(args, spec)
        _check_name_free(spec, args)
        yield folder, dataclasses.replace(spec, budget=options.budget_of(args, spec.budget))


def prepare(folder: RunFolder, spec: RunSpec, args: argparse.Namespace, stop: StopRequest) -> Prepared:
    """Everything that comes before the first step: footage, base, trainer, and the state where there is one.

    Raises:
        InputError: anything of it cannot be used; see `training_options`.
    """
    device = choose_device(args.device)
    state = load_state(folder.state) if args.resume and folder.state.is_file() else None
    base = autoencoder = None
    base_sha256 = spec.base_sha256
    if spec.base is not None and state is None:
        base, base_sha256 = options.find_base(spec.base)
        if spec.base_sha256 not in (None, base_sha256):
            raise ModelError(f"The model {spec.base!r} is not the one that this run began from. Put that one back.")
        options.check_input(base, spec.config)
        autoencoder = options.base_autoencoder(spec.base, spec.config)
    prepare_process(args.threads or available_cores())
    footage = read(spec, threads=args.threads, quiet=args.quiet)
    with enough_memory():
        # On its device before it is divided, so that both parts share one buffer there.
        trained, held = footage.to(device).split(spec.held_out, spec.seed)
        if args.resume and spec.frames not in (0, len(trained)):
            print(f"The footage has {len(trained)} frames and had {spec.frames} when the run began.", file=sys.stderr)
        trainer = Trainer(
            spec.config,
            trained,
            spec.budget,
            device=args.device,
            base=base,
            autoencoder=autoencoder,
            weights=sampler_weights(trained, spec.weights),
            seed=spec.seed,
        )
    if state is not None:
        trainer.restore(state)
        if spec.budget.progress(trainer.total_steps, trainer.seconds) >= 1 and not args.quiet:
            print(f"The run is done with its {trainer.total_steps} steps. More --steps or --minutes make it longer.")
    spec = dataclasses.replace(spec, base_sha256=base_sha256)
    line = f"{spec.config.recipe} on {describe(trained)} of {', '.join(sources(trained))}"
    line += f", from {spec.base or 'random weights'}, seed {spec.seed}"
    return Prepared(Run(folder, spec, trainer, trained, line, stop, options.habits_of(args)), held)


def say_stopped(prepared: Prepared) -> int:
    """How to go on; the exit status of an interrupted command."""
    run = prepared.run
    print(
        f"Stopped after {run.trainer.total_steps} steps; everything is saved. Go on with:\n"
        f"  labelprop {run.spec.command} --out {run.folder.path} --resume",
        file=sys.stderr,
    )
    return 130


def publish(prepared: Prepared, args: argparse.Namespace) -> None:
    """Installs the model, so that it can be used by name.

    Raises:
        InputError: the name was taken meanwhile, or there is no room.
    """
    run, home = prepared.run, settings().home
    model = run.folder.model(run.spec.name)
    try:
        _check_name_free(run.spec, args)
    except InputError as error:
        raise InputError(f"The model is trained and lies in {model}, but is not installed: {error.detail}") from None
    # Written first: a run that is killed in between may then replace its own model.
    run.spec = dataclasses.replace(run.spec, installed=sha256(model))
    run.folder.write_spec(run.spec)
    with writing(home / "models"):
        target = install(model, run.spec.name, home)
    if not args.quiet:
        print(f"model      {model}")
        print(f"installed  {target}")
        print(f"use it     labelprop propagate VIDEO --mask FRAME0.png --out labels --model {run.spec.name}")


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a GPU without room into an error that says what to do.

    Raises:
        InputError: naming the options.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            "The GPU has no memory left. Give frames less (--memory GIB), make batches smaller (--set clips=6 --set "
            "photographs=2) or crops (--set crop=128), or train on the CPU (--device cpu)."
        ) from error


def _check_name_free(spec: RunSpec, args: argparse.Namespace) -> None:
    if not args.replace:
        check_free(spec.name, settings().home, own=spec.installed)
