"""What `train` and `adapt` have in common on the command line: their options, and what those mean."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from app.settings import settings
from model.catalogue import find_model
from model.checkpoint import Checkpoint, load_checkpoint
from model.errors import InputError, ModelError
from model.features import choose_device
from model.training.autoencoder import ColourAutoencoder
from model.training.budget import free_memory
from model.training.companion import companion_path, load_autoencoder
from model.training.config import TrainingConfig, change
from model.training.heldout import HeldOut
from model.training.trainer import Budget
from worker.training import Habits
from worker.training_folder import RunSpec

_SPEED_OF_FRAMES = 8.0
_SHORT_SIDE = 256


def add_run_arguments(parser: argparse.ArgumentParser, *, out: str, held_out: float) -> None:
    """Adds what both commands take. Options that a resumed run must not change have no default here.

    Args:
        out: how help describes --out.
        held_out: the default that help gives.
    """
    parser.add_argument(
        "--videos",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="videos, photographs, folders and tars of them, zips and folders of numbered frames",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    parser.add_argument("--minutes", type=float, help="how long to train, counted in steps alone")
    parser.add_argument("--steps", type=int, help="how many steps to train instead")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, or make it longer")
    parser.add_argument("--replace", action="store_true", help="put the model in the place of one of the same name")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as crop=128 or losses.palindrome=0.5; may be repeated",
    )
    footage = parser.add_argument_group("footage")
    footage.add_argument("--fps", type=float, help=f"frames kept of a second, at most (default: {_SPEED_OF_FRAMES:g})")
    footage.add_argument(
        "--short-side", type=int, metavar="PIXELS", help=f"larger frames are made smaller (default: {_SHORT_SIDE})"
    )
    footage.add_argument("--memory", type=float, metavar="GIB", help="for frames (default: half of what is free)")
    footage.add_argument(
        "--held-out", type=float, metavar="SHARE", help=f"of the files, to measure on (default: {held_out:g})"
    )
    running = parser.add_argument_group("running")
    running.add_argument("--seed", type=int, help="of everything that is drawn (default: 0)")
    running.add_argument(
        "--device", default=settings().device, help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)"
    )
    running.add_argument(
        "--threads",
        type=int,
        default=settings().threads,
        help="CPU threads; 0 takes every core. A resumed run repeats one that was not to the last digit only with as "
        "many (default: %(default)s)",
    )
    running.add_argument("--save-every", type=float, default=2.0, metavar="MINUTES", help="(default: %(default)g)")
    running.add_argument("--log-every", type=int, default=10, metavar="STEPS", help="(default: %(default)s)")
    running.add_argument("--picture-every", type=int, default=500, metavar="STEPS", help="(default: %(default)s)")
    running.add_argument("--quiet", action="store_true", help="print nothing but errors")


def check_common(args: argparse.Namespace) -> None:
    """Refuses values that no run can have.

    Raises:
        InputError: naming the option.
    """
    if args.log_every < 1 or args.picture_every < 1:
        raise InputError("--log-every and --picture-every must be 1 or more.")
    if not args.save_every > 0:
        raise InputError("--save-every must be above 0.")
    if args.threads < 0:
        raise InputError("--threads must be 0 or more; 0 takes every core.")
    if args.fps is not None and not 0 < args.fps < float("inf"):
        raise InputError("--fps must be above 0.")
    if args.short_side is not None and args.short_side < 32:
        raise InputError("--short-side must be 32 or more.")
    if args.memory is not None and not 0 < args.memory < float("inf"):
        raise InputError("--memory must be above 0; it is in GiB.")
    if args.held_out is not None and not 0 <= args.held_out < 1:
        raise InputError("--held-out must be a share: 0 or more, and less than 1.")
    if args.seed is not None and not 0 <= args.seed < 1 << 31:
        raise InputError("--seed must be 0 or more, and below 2147483648.")


def budget_of(args: argparse.Namespace, default: Budget | None = None) -> Budget:
    """What --steps or --minutes say, else the default.

    Raises:
        ModelError: both, or neither and no default.
    """
    if args.steps is None and args.minutes is None and default is not None:
        return default
    if args.minutes is not None and not math.isfinite(args.minutes):
        raise InputError("--minutes must be a number.")
    return Budget(args.steps, args.minutes)


def assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    """`["a=1", "b=2"]` as a dictionary.

    Raises:
        InputError: one has no `=`.
    """
    pairs = [text.partition("=") for text in texts]
    for text, (name, mark, value) in zip(texts, pairs, strict=True):
        if not (name and mark and value):
            raise InputError(f"{option} {text!r} is not of the form NAME=VALUE.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def changes_of(args: argparse.Namespace) -> dict[str, str]:
    """What --set says, by field.

    Raises:
        InputError: one is not of the form, or sets what another option does.
    """
    changes = assignments(args.changes, "--set")
    if "recipe" in changes:
        raise InputError("A recipe is chosen by --recipe, not by --set.")
    return changes


def weights_of(texts: Sequence[str]) -> dict[str, float]:
    """The weights that `--weight SOURCE=W` gave.

    Raises:
        InputError: one is not a number of 0 or more.
    """
    weights: dict[str, float] = {}
    for name, text in assignments(texts, "--weight").items():
        try:
            weights[name] = float(text)
        except ValueError:
            weights[name] = -1.0
        if not 0 <= weights[name] < float("inf"):
            raise InputError(f"--weight {name}={text}: a weight is a number of 0 or more.")
    return weights


def videos_of(args: argparse.Namespace) -> tuple[str, ...]:
    """Absolute paths, so that a run can be resumed from anywhere.

    Raises:
        InputError: none was given.
    """
    if not args.videos:
        raise InputError("There is nothing to train on. Name videos, or folders or tars of them: --videos PATH...")
    return tuple(str(path.absolute()) for path in args.videos)


def memory_of(args: argparse.Namespace) -> int:
    """Bytes for frames: what --memory says, else half of what is free where they will lie."""
    if args.memory is not None:
        return int(args.memory * (1 << 30))
    device = choose_device(args.device)
    free = free_memory()
    return (min(free, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free) // 2


def footage_options(args: argparse.Namespace, *, held_out: float) -> dict[str, Any]:
    """The fields of a `RunSpec` that say how footage is read, defaults filled in."""
    return {
        "videos": videos_of(args),
        "seed": args.seed or 0,
        "fps": _SPEED_OF_FRAMES if args.fps is None else args.fps,
        "short_side": args.short_side or _SHORT_SIDE,
        "memory_bytes": memory_of(args),
        "held_out": held_out if args.held_out is None else args.held_out,
    }


def check_same(args: argparse.Namespace, spec: RunSpec) -> None:
    """Refuses options that contradict the run that is to be resumed.

    Raises:
        InputError: naming the first such option.
    """
    given: dict[str, tuple[Any, Any]] = {
        "--videos": (None if args.videos is None else videos_of(args), spec.videos),
        "--name": (args.name, spec.name),
        "--base": (args.base, spec.base),
        "--recipe": (getattr(args, "recipe", None), spec.config.recipe),
        "--seed": (args.seed, spec.seed),
        "--fps": (args.fps, spec.fps),
        "--short-side": (args.short_side, spec.short_side),
        "--memory": (None if args.memory is None else int(args.memory * (1 << 30)), spec.memory_bytes),
        "--held-out": (args.held_out, spec.held_out),
        "--weight": (weights_of(getattr(args, "weight", [])) or None, spec.weights),
    }
    for option, (wanted, had) in given.items():
        if wanted is not None and wanted != had:
            raise InputError(
                f"{option} is not what the run began with ({_listed(had)}). Resume it without {option}, or begin "
                "another run in another --out."
            )
    for name, value in changes_of(args).items():
        if change(spec.config, {name: value}) != spec.config:
            raise InputError(
                f"--set {name}={value} is not what the run began with. Resume it without that, or begin another run in "
                "another --out."
            )


def find_base(name: str) -> tuple[Checkpoint, str]:
    """A model to go on from, and the SHA-256 of its file.

    Raises:
        ModelError: there is none of that name, or it cannot be read.
    """
    found = find_model(name, settings().home)
    return load_checkpoint(found.path), found.sha256


def base_autoencoder(name: str, config: TrainingConfig) -> ColourAutoencoder | None:
    """The base's colour auto-encoder, where the config needs one and the base has one."""
    path = companion_path(find_model(name, settings().home).path)
    return load_autoencoder(path) if config.needs_autoencoder and path.is_file() else None


def check_input(base: Checkpoint, config: TrainingConfig) -> None:
    """Refuses to train a base on another kind of input than its own.

    Raises:
        ModelError: saying how to set it.
    """
    wanted = "lightness" if base.lightness else "colour"
    if config.input != wanted:
        raise ModelError(
            f"The base {base.name} sees {wanted} and the recipe {config.input}. Add --set input={wanted}, or choose "
            "another base.",
            slug="bad-config",
        )


def habits_of(args: argparse.Namespace) -> Habits:
    """What the run does beside its steps."""
    return Habits(args.log_every, args.picture_every, 60 * args.save_every, args.quiet)


def shown(error: float | None) -> str:
    """A held-out error for people."""
    return "not measured" if error is None else f"{error:.3f}"


def errors_line(before: HeldOut | None, after: HeldOut) -> str:
    """Crop and cycle error, before and after."""
    pairs = (
        ("crop error", before.crop_error if before else None, after.crop_error),
        ("cycle error", before.cycle_error if before else None, after.cycle_error),
    )
    return ", ".join(f"{name} {f'{shown(old)} -> ' if before else ''}{shown(new)}" for name, old, new in pairs)


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{name}={weight:g}" for name, weight in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
