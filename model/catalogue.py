"""Which checkpoints can run: the packaged ones and those in `$LABELPROP_HOME/models/`.

A model's name is the stem of its file. This module reads only the header of a safetensors file and needs no torch, so
that the service can list and pin models without loading them.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model.errors import ModelError

PACKAGED = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
_MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class ModelFile:
    """One checkpoint on disk.

    Attributes:
        name: the stem of the file, the name that jobs use.
        path: where it lies.
        sha256: of the whole file, in hexadecimal; a job pins it.
        metadata: the checkpoint's own header (input normalisation, stride, temperature, how it was trained).
    """

    name: str
    path: Path
    sha256: str
    metadata: dict[str, str]


def list_models(home: Path | None = None) -> list[ModelFile]:
    """All checkpoints that can be used by name, sorted by name; one in `home` hides a packaged one of the same name.

    A file that is not a checkpoint is left out: `find_model` says what is wrong with it to whoever asks for it.
    """
    found = []
    for _, path in sorted(_paths(home).items()):
        with suppress(ModelError):
            found.append(_read(path))
    return found


def find_model(name: str, home: Path | None = None) -> ModelFile:
    """The checkpoint called `name`.

    Raises:
        ModelError: slug `unknown-model`, naming those that exist, or `bad-model` where the file is not a checkpoint.
    """
    paths = _paths(home)
    if name not in paths:
        raise ModelError(f"There is no model {name!r}. Choose one of: {', '.join(sorted(paths))}.")
    return _read(paths[name])


def _paths(home: Path | None) -> dict[str, Path]:
    folders = [PACKAGED] if home is None else [PACKAGED, home / "models"]
    return {path.stem: path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*" + SUFFIX))}


def _read(path: Path) -> ModelFile:
    stat = path.stat()
    return _read_version(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read_version(path: Path, mtime_ns: int, size: int) -> ModelFile:
    # The file's time and size are part of the key, so that a replaced checkpoint is hashed anew.
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size):
            raise ModelError(f"{path.name} is not a safetensors checkpoint. Replace or remove it.", slug="bad-model")
        try:
            metadata = dict(json.loads(file.read(length)).get("__metadata__", {}))
        except (ValueError, TypeError, AttributeError):
            raise ModelError(f"{path.name} has a damaged header. Replace or remove it.", slug="bad-model") from None
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(name=path.stem, path=path, sha256=digest, metadata=metadata)
