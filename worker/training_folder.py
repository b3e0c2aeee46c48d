"""The folder of a training run: what it was asked to do, how far it is, and what it has learned.

NAME.safetensors           the model as it is so far
training/NAME.safetensors  what only training needs of it: the colour auto-encoder, where the run has one
config.json                what was asked for (`RunSpec`): a resumed run reads it
state.pt                   all that the next step needs (`model.training.state`)
log.jsonl, losses.png, pictures/
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from model.catalogue import SUFFIX
from model.checkpoint import save_checkpoint
from model.errors import InputError
from model.training.companion import companion_path, save_autoencoder
from model.training.config import TrainingConfig
from model.training.heldout import HeldOut
from model.training.state import save_state
from model.training.trainer import Budget, Trainer

VERSION = 1
_LOCK = ".lock"


@dataclass(frozen=True)
class RunSpec:
    """What a run was asked to do; `config.json`.

    Attributes:
        command: "train" or "adapt".
        name: of the model.
        videos: absolute paths of the footage.
        config: what is computed.
        budget: how long.
        seed: of everything that is drawn.
        fps, short_side, memory_bytes: how the footage is read, see `read_footage`.
        held_out: share of the files that are measured on and not trained on.
        weights: of sources, times what each would have.
        base, base_sha256: the model it began from, or None.
        before: the base's errors on the held-out footage.
        frames: how many frames of footage there were to train on.
        installed: SHA-256 of the model that this run installed last.
    """

    command: str
    name: str
    videos: tuple[str, ...]
    config: TrainingConfig
    budget: Budget
    seed: int
    fps: float
    short_side: int
    memory_bytes: int
    held_out: float
    weights: Mapping[str, float] = field(default_factory=dict)
    base: str | None = None
    base_sha256: str | None = None
    before: HeldOut | None = None
    frames: int = 0
    installed: str | None = None

    def to_json(self) -> str:
        """The text of `config.json`."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> RunSpec:
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            values: dict[str, Any] = dict(json.loads(text))
            if values.pop("version") != VERSION:
                raise ValueError("it is of another version of labelprop")
            values["videos"] = tuple(values["videos"])
            values["config"] = TrainingConfig.from_dict(values["config"])
            values["budget"] = Budget(**values["budget"])
            values["before"] = None if values["before"] is None else HeldOut(**values["before"])
            return RunSpec(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks {error}") from error


class RunFolder:
    """Reads and writes one run's files.

    Args:
        path: the folder; made by `claimed` where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.state = path / "state.pt"
        self.log = path / "log.jsonl"
        self.plot = path / "losses.png"
        self.pictures = path / "pictures"

    def model(self, name: str) -> Path:
        """The file of the model of that name."""
        return self.path / (name + SUFFIX)

    def check(self, *, resume: bool) -> None:
        """Refuses a folder that is not there to be resumed, or that holds anything where a run is to begin.

        Raises:
            InputError: saying what to do.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file. Give --out a folder.")
        if resume and not self.config.is_file():
            raise InputError(f"There is no run to resume in {self.path}. Leave --resume away to begin one.")
        if resume or not self.path.is_dir():
            return
        if self.config.is_file():
            raise InputError(
                f"{self.path} holds a training run already. Go on with it by --resume, or give --out another folder."
            )
        # A model that was not kept leaves its log, and a run that was stopped before its first step an empty folder.
        left = {_LOCK, self.log.name}
        if any(path.name not in left and path.suffix != ".part" for path in self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no training run. Give --out a new folder.")

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps every other process from the folder, which is made if need be.

        Raises:
            InputError: another run is at work in it, or it cannot be written.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / _LOCK).open("ab")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"Another process is training in {self.path}. Wait for it, stop it, or give --out another folder."
                ) from None
            try:
                yield
            finally:
                self._leave()

    def read_spec(self) -> RunSpec:
        """What the run was asked to do.

        Raises:
            InputError: `config.json` is missing or was not written by a run of this version.
        """
        try:
            return RunSpec.from_json(self.config.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.config} is not the config of a training run: {error}. Give --out another folder."
            ) from error

    def write_spec(self, spec: RunSpec) -> None:
        """Writes `config.json`, whole or not at all."""
        temporary = self.config.with_name(self.config.name + ".part")
        with writing(self.path), _discarding(temporary):
            with temporary.open("w") as file:
                file.write(spec.to_json())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.config)

    def save(self, trainer: Trainer, spec: RunSpec, trained: str) -> None:
        """Writes the state and the weights; each file is replaced when the new one is whole.

        Args:
            trained: one line for the model's header.

        Raises:
            InputError: slug `storage-full`, where there is no room; what was saved before is as it was.
        """
        config, model = spec.config, self.model(spec.name)
        with writing(self.path):
            save_state(self.state, trainer.state())
            with _discarding(model.with_name(model.name + ".part")):
                save_checkpoint(
                    model,
                    trainer.encoder,
                    name=spec.name,
                    trained=trained,
                    # Propagation normalises features; the paper's raw product has no temperature that fits them.
                    temperature=config.temperature if config.normalise else 0.07,
                    lightness=config.input == "lightness",
                )
            if trainer.autoencoder is not None:
                companion = companion_path(model)
                companion.parent.mkdir(exist_ok=True)
                save_autoencoder(companion, trainer.autoencoder, name=spec.name)

    def _leave(self) -> None:
        """A folder in which nothing was done is not left behind."""
        with suppress(OSError):
            if [path.name for path in self.path.iterdir()] == [_LOCK]:
                (self.path / _LOCK).unlink()
                self.path.rmdir()

    def discard(self, name: str) -> None:
        """Removes everything of the run but its log."""
        for path in (self.config, self.state, self.plot, self.model(name), companion_path(self.model(name))):
            path.unlink(missing_ok=True)
        for folder in (self.pictures, companion_path(self.model(name)).parent):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write into an error that says what to do.

    Raises:
        InputError: slug `storage-full`.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"Writing in {path} failed: {_reason(error)}. What was saved before is whole. Make room, or give --out "
            "another folder; a run that has begun goes on with --resume.",
            slug="storage-full",
        ) from error


def _reason(error: BaseException) -> str:
    """The system's own words, which torch's writer hides behind its own."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.strerror:
            return at.strerror
        at = at.__cause__ or at.__context__
    return str(error)


@contextmanager
def _discarding(path: Path) -> Iterator[None]:
    """Half a file is of no use, and takes the room that is missing."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
