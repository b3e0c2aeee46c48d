"""A run's state on disk: what it needs to go on as if nothing had happened.

Tensors only, no code: `torch.load` with `weights_only`. Written beside the old one first, which it replaces when it is
whole; a full disk or a kill in between leaves the old one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from model.errors import ModelError

VERSION = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes a state of tensors, numbers, strings, lists and dictionaries.

    Raises:
        OSError: it could not be written; an older state at `path` is as it was.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save({"version": VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        raise error if isinstance(error, OSError) else OSError(f"{path.name} could not be written: {error}") from error


def load_state(path: Path) -> dict[str, Any]:
    """The state at `path`, on the CPU.

    Raises:
        ModelError: slug `bad-state`, where it is missing, damaged or of another version.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have errors of their own for a damaged file
        raise ModelError(
            f"{path} cannot be read as the state of a training run ({type(error).__name__}). Start anew, in another "
            "folder or after removing it.",
            slug="bad-state",
        ) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ModelError(f"{path} is the state of another version of labelprop. Start anew.", slug="bad-state")
    return state
