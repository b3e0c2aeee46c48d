"""Models that were trained here become models that can be used by name: `$LABELPROP_HOME/models/`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from model.catalogue import SUFFIX, list_models
from model.errors import InputError
from model.training.companion import companion_path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> None:
    """Refuses a name that no model can have: it is the stem of a file, and a word in requests.

    Raises:
        InputError: saying which names are possible.
    """
    if not _NAME.fullmatch(name) or name.endswith((SUFFIX, ".")):
        raise InputError(
            f"{name!r} cannot be a model's name. Use up to 64 letters, digits and - _ . that begin with a letter or a "
            f"digit, without {SUFFIX} behind: --name NAME."
        )


def check_free(name: str, home: Path, *, own: str | None = None) -> None:
    """Refuses the name of a model that exists, packaged or installed.

    Args:
        own: SHA-256 of the file that the same run installed before; it may be replaced.

    Raises:
        InputError: naming what to do.
    """
    path = installed_path(name, home)
    taken = path.exists() or any(model.name == name for model in list_models(home))
    if taken and not (own is not None and path.is_file() and sha256(path) == own):
        raise InputError(
            f"There is a model {name!r} already. Choose another --name, or put this one in its place with --replace."
        )


def installed_path(name: str, home: Path) -> Path:
    """Where a model of that name is installed."""
    return home / "models" / (name + SUFFIX)


def install(model: Path, name: str, home: Path) -> Path:
    """Copies a checkpoint, and its companion where it has one, to where it is found by name.

    Each file is whole before it takes its name, and the model comes last.

    Returns:
        The installed checkpoint.

    Raises:
        OSError: it could not be copied; a model that was there before is as it was.
    """
    target = installed_path(name, home)
    companion, companion_target = companion_path(model), companion_path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if companion.is_file():
        companion_target.parent.mkdir(exist_ok=True)
        _copy(companion, companion_target)
    else:
        companion_target.unlink(missing_ok=True)  # of the model that this one replaces
    _copy(model, target)
    return target


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".part")
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
