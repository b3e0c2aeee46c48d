"""One training run as a process: steps, and between them the log, pictures and everything that survives a kill.

`labelprop train` and `labelprop adapt` are both such a run; they differ in what they begin from and in what they do
with the result. What is done between steps costs none of the run's minutes.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType

import torch
from tqdm import tqdm

from model.errors import InputError
from model.training.footage import Footage
from model.training.journal import Entry, Journal, read_journal
from model.training.trainer import Budget, Step, Trainer
from worker.plots import plot_losses
from worker.training_folder import RunFolder, RunSpec, writing
from worker.training_pictures import Viewer


class DivergedError(InputError):
    """The weights are no numbers any more; nothing of them was saved."""


@dataclass(frozen=True)
class Habits:
    """What a run does beside its steps.

    Attributes:
        log_every: steps from one entry of the log to the next; losses are read from the device only then.
        picture_every: steps from one picture to the next.
        save_every_s: seconds from one save to the next.
        quiet: no bar, nothing printed.
    """

    log_every: int = 10
    picture_every: int = 500
    save_every_s: float = 120.0
    quiet: bool = False


class Pace:
    """How fast steps and the making of their data go, without what is done between them."""

    def __init__(self) -> None:
        self.samples, self.seconds = 0, 0.0
        self._lap_samples, self._lap_seconds = 0, 0.0
        self._mark = time.perf_counter()

    def count(self, samples: int) -> None:
        """A step is done; on a GPU it may still be at work."""
        self._lap_samples += samples

    def lap(self) -> float:
        """Samples per second since the lap before. The device must have done all that was counted."""
        self._stop()
        rate = self._lap_samples / self._lap_seconds if self._lap_seconds else math.nan
        self.samples, self.seconds = self.samples + self._lap_samples, self.seconds + self._lap_seconds
        self._lap_samples, self._lap_seconds = 0, 0.0
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within costs nothing."""
        self._stop()
        yield
        self._mark = time.perf_counter()

    @property
    def samples_per_second(self) -> float:
        """Over all laps."""
        return self.samples / self.seconds if self.seconds else math.nan

    def _stop(self) -> None:
        now = time.perf_counter()
        self._lap_seconds += now - self._mark
        self._mark = now


class StopRequest:
    """Within it, Ctrl-C and SIGTERM ask the run to stop after its step; a second one stops it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@dataclass
class Run:
    """A run in its folder.

    Attributes:
        folder: which is claimed, and has the config.
        spec: what the config says.
        trainer: at the state that the folder has, if it has one.
        footage: what is trained on, for pictures.
        trained: one line on the run for the model's header.
        stop: looked at after every step.
    """

    folder: RunFolder
    spec: RunSpec
    trainer: Trainer
    footage: Footage
    trained: str
    stop: StopRequest
    habits: Habits = field(default_factory=Habits)

    def train(self) -> Pace:
        """Steps until the budget is spent or somebody asks to stop, and saves.

        Raises:
            DivergedError: the weights are no numbers any more; what was saved last still was.
            InputError: slug `storage-full`; what was saved before is whole.
        """
        trainer, habits = self.trainer, self.habits
        viewer = Viewer(self.footage, seed=self.spec.seed)
        # Saved before the first step, so that a disk without room is found out before an hour is spent.
        self.save()
        saved = time.monotonic()
        with writing(self.folder.path):
            journal = Journal(self.folder.log, resume_after=trainer.total_steps or None)
        with journal, _bar(trainer.budget, trainer, quiet=habits.quiet) as bar:
            pace = Pace()
            for step in trainer.run():
                done = step.number + 1
                pace.count(step.samples)
                if done % habits.log_every == 0 or step.progress >= 1:
                    losses = _read(step)
                    rate = pace.lap()
                    with pace.paused():
                        self._log(journal, step, losses, rate, bar)
                if done % habits.picture_every == 0:
                    with pace.paused():
                        self._draw(viewer, step)
                if self.stop.requested:
                    break
                if step.progress < 1 and time.monotonic() - saved >= habits.save_every_s:
                    with pace.paused():
                        self._save_and_plot(step, bar)
                    saved = time.monotonic()
        self.save()
        self._plot()
        return pace

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        trainer = self.trainer
        return trainer.budget.progress(trainer.total_steps, trainer.seconds) >= 1

    def save(self) -> None:
        """State and weights, where they are numbers.

        Raises:
            DivergedError, InputError: see `train`.
        """
        self._check_finite()
        self.folder.save(self.trainer, self.spec, self.trained)

    def _check_finite(self) -> None:
        weights = self.trainer.encoder.state_dict().values()
        sums = torch.stack([tensor.sum(dtype=torch.float32) for tensor in weights if tensor.is_floating_point()])
        if not bool(torch.isfinite(sums).all()):
            raise DivergedError(
                f"The training has come apart after {self.trainer.total_steps} steps: the weights are no numbers any "
                "more. Begin anew with a lower rate: --set learning_rate="
                f"{self.spec.config.learning_rate / 3:.1g}."
            )

    def _log(self, journal: Journal, step: Step, losses: dict[str, float], rate: float, bar: tqdm) -> None:
        if not math.isfinite(losses["total"]):
            self._check_finite()
        entry = Entry(step.number + 1, step.seconds / 60, step.phase, step.learning_rate, rate, losses)
        with writing(self.folder.path):
            journal.write(entry)
        bar.set_postfix_str(f"{step.phase}, loss {losses['total']:.4g}, {rate:.1f} samples/s", refresh=False)
        reached = step.number + 1 if self.trainer.budget.steps is not None else step.seconds / 60
        bar.update(min(reached, bar.total or reached) - bar.n)

    def _save_and_plot(self, step: Step, bar: tqdm) -> None:
        self.save()
        self._plot()
        if bar.disable and not self.habits.quiet:  # no terminal, but somebody may read along
            print(f"step {step.number + 1}, {step.seconds / 60:.1f} minutes, {step.progress:.0%}", flush=True)

    def _draw(self, viewer: Viewer, step: Step) -> None:
        image = viewer.draw(self.trainer, step.example)
        if image is not None:
            path = self.folder.pictures / f"{step.number + 1:06}.jpg"
            temporary = path.with_name(path.name + ".part")
            with writing(self.folder.path):
                path.parent.mkdir(exist_ok=True)
                try:
                    image.save(temporary, "JPEG", quality=90)
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)

    def _plot(self) -> None:
        with writing(self.folder.path):
            try:
                plot_losses(read_journal(self.folder.log), self.folder.plot)
            finally:
                self.folder.plot.with_name(self.folder.plot.name + ".part").unlink(missing_ok=True)


def _read(step: Step) -> dict[str, float]:
    """The losses as numbers, read from the device at once."""
    values = torch.stack([step.total.float(), *(loss.float() for loss in step.losses.values())]).tolist()
    return dict(zip(["total", *step.losses], values, strict=True))


@contextmanager
def _bar(budget: Budget, trainer: Trainer, *, quiet: bool) -> Iterator[tqdm]:
    """Steps or minutes, whichever the budget is in."""
    tail = " [{elapsed}<{remaining}, {postfix}]"
    if budget.steps is not None:
        total, initial, form = float(budget.steps), float(trainer.total_steps), "{n:.0f}/{total:.0f} steps"
    else:
        assert budget.minutes is not None
        total, initial, form = budget.minutes, trainer.seconds / 60, "{n:.1f}/{total:.1f} min"
    with tqdm(
        total=total,
        initial=initial,
        desc="train",
        disable=quiet or None,
        dynamic_ncols=True,
        bar_format="{l_bar}{bar}| " + form + tail,
    ) as bar:
        yield bar
