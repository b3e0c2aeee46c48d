"""One training run: batches in, averaged weights out, in steps that can be interrupted and taken up again.

Every draw of a step comes from a generator seeded by the run's seed and the step's number, so that a resumed run needs
no generator's state and, with `--steps` on a CPU, computes the same losses as one that was never interrupted.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.encoder import Encoder
from model.errors import ModelError
from model.features import choose_device, native_dtype
from model.lab import rgb_to_lab
from model.training import schedule
from model.training.autoencoder import ColourAutoencoder, autoencoder_loss, freeze
from model.training.batches import Batch, Sampler
from model.training.config import TrainingConfig
from model.training.footage import Footage
from model.training.heldout import HeldOut, measure
from model.training.objective import MEAN, STD, Example, Objective

_SEED_STRIDE = 1_000_003  # a prime: no two runs of nearby seeds share a step's draws


@dataclass(frozen=True)
class Budget:
    """How long a run is: a number of steps, or minutes of training.

    Minutes are those that this run has spent in steps, over all the times that it was resumed.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ModelError("Say how long to train: either --steps or --minutes.", slug="bad-config")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and not self.minutes > 0):
            raise ModelError("--steps and --minutes must be above 0.", slug="bad-config")

    def progress(self, steps: int, seconds: float) -> float:
        """0..1, how much of it is spent."""
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / 60 / self.minutes)


@dataclass(frozen=True)
class Step:
    """What one step did. Tensors are on the training's device: reading them waits for it.

    Attributes:
        number: from 0, of the whole run.
        phase: "autoencoder", "matching" or "joint".
        progress: 0..1, after the step.
        seconds: spent in steps so far.
        learning_rate: of the step.
        samples: clips and photographs in its batch.
        total: the loss that was trained.
        losses: its parts, before their weights.
        example: what the step saw, for pictures.
    """

    number: int
    phase: str
    progress: float
    seconds: float
    learning_rate: float
    samples: int
    total: Tensor
    losses: Mapping[str, Tensor]
    example: Example | None


class Trainer:
    """A run in progress.

    Args:
        config: what it computes.
        footage: what it learns from; moved to the device whole.
        budget: how long it is; learning rate and stages follow from it.
        device: "auto", "cpu", "cuda" and so on.
        base: weights to start from; None starts from random ones.
        autoencoder: a trained colour auto-encoder; None trains one first where it is needed.
        weights: of sources, see `Sampler`.
        seed: of every draw and of the first weights.

    Raises:
        MediaError: the footage has nothing to train on.
        ModelError: the device is not there.
    """

    def __init__(
        self,
        config: TrainingConfig,
        footage: Footage,
        budget: Budget,
        *,
        device: str = "auto",
        base: Checkpoint | None = None,
        autoencoder: ColourAutoencoder | None = None,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self.config, self.budget, self.seed = config, budget, seed
        self.device = choose_device(device)
        self._sampler = Sampler(footage.to(self.device), config, weights)
        with _seeded(seed):
            encoder = Encoder() if base is None else copy.deepcopy(base.encoder)
            given = autoencoder is not None
            self._autoencoder = autoencoder or ColourAutoencoder()
        self._autoencoder = self._autoencoder.to(self.device)
        self._encoder = cast(Encoder, encoder.to(self.device, memory_format=torch.channels_last).train())  # type: ignore[call-overload]
        self._encoder.requires_grad_(True)
        self._average = freeze(copy.deepcopy(self._encoder))
        self._optimiser = _optimiser(config, self._encoder)
        self._colour_optimiser = torch.optim.Adam(self._autoencoder.parameters(), lr=1e-3)
        self._colour_done = given or not config.needs_autoencoder
        self.steps = 0
        self.colour_steps = 0
        self.seconds = 0.0

    @property
    def encoder(self) -> Encoder:
        """The weights that are the run's result so far: the averaged ones, or the last where none are averaged."""
        return self._average if self.config.ema else freeze(copy.deepcopy(self._encoder))

    @property
    def autoencoder(self) -> ColourAutoencoder | None:
        """The colour auto-encoder, where the run has a trained one."""
        return self._autoencoder if self.config.needs_autoencoder and self._colour_done else None

    @property
    def total_steps(self) -> int:
        """How many steps were taken, the auto-encoder's among them."""
        return self.steps + self.colour_steps

    def run(self) -> Iterator[Step]:
        """Steps until the budget is spent. What the caller does between them costs no minutes."""
        objective: Objective | None = None
        while (progress := self.budget.progress(self.total_steps, self.seconds)) < 1:
            began = time.perf_counter()
            if not self._colour_done and progress < self.config.autoencoder_share:
                step = self._colour_step(progress)
            else:
                if not self._colour_done:
                    self._colour_done = True
                if objective is None:
                    objective = Objective(
                        self.config, self._encoder, freeze(self._autoencoder) if self._colour_done else None
                    )
                step = self._step(objective, self._progress(progress))
            if self.device.type == "cuda" and self.budget.minutes is not None:
                torch.cuda.synchronize(self.device)
            self.seconds += time.perf_counter() - began
            yield replace(step, progress=self.budget.progress(self.total_steps, self.seconds), seconds=self.seconds)

    def held_out(self, footage: Footage, *, samples: int = 64) -> HeldOut:
        """The result's errors on footage that it was not trained on; see `heldout.measure`."""
        encode = encoder_function(self.encoder, self.device, lightness_only=self.config.input == "lightness")
        return measure(encode, footage.to(self.device), config=self.config, samples=samples)

    def measure_speed(self, steps: int = 20, *, seconds: float = 10.0) -> tuple[float, float]:
        """Samples per second of whole steps, and of the same steps on one batch that was drawn beforehand.

        Both take turns, a few steps each, since machines are noisy and only their ratio travels. The run is as it was
        afterwards.

        Args:
            steps: of each kind, or fewer where `seconds` are over.
        """
        kept = copy.deepcopy(self.state())
        colours = freeze(copy.deepcopy(self._autoencoder)) if self.config.needs_autoencoder else None
        objective = Objective(self.config, self._encoder, colours)
        batch = self._draw(self._generator(), schedule.joint(self.config, 1.0))

        def timed(count: int, drawn: Batch | None) -> float:
            start = time.perf_counter()
            for _ in range(count):
                self._step(objective, 1.0, drawn)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - start

        timed(1, None)
        fresh = made = 0.0
        taken, block = 0, min(5, steps)
        while taken < steps and fresh + made < seconds:
            fresh += timed(block, None)
            made += timed(block, batch)
            taken += block
        self.restore(kept)
        samples = taken * len(batch.first)
        return samples / fresh, samples / made

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, for `state.save_state`."""
        return {
            "config": self.config.to_dict(),
            "budget": [self.budget.steps, self.budget.minutes],
            "seed": self.seed,
            "steps": self.steps,
            "colour_steps": self.colour_steps,
            "colour_done": self._colour_done,
            "seconds": self.seconds,
            "encoder": self._encoder.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "autoencoder": self._autoencoder.state_dict() if self.config.needs_autoencoder else None,
            "colour_optimiser": self._colour_optimiser.state_dict() if not self._colour_done else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`; its weights replace the base's.

        Raises:
            ModelError: slug `bad-state`, where the state is of a run of another kind. Only the budget may differ.
        """
        try:
            if state["seed"] != self.seed or TrainingConfig.from_dict(state["config"]) != self.config:
                raise ValueError("it has another seed or config.")
            self._encoder.load_state_dict(state["encoder"])
            self._average.load_state_dict(state["average"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._colour_done = bool(state["colour_done"])
            if state["autoencoder"] is not None:
                self._autoencoder.load_state_dict(state["autoencoder"])
            if state["colour_optimiser"] is not None:
                self._colour_optimiser.load_state_dict(state["colour_optimiser"])
            self.steps, self.colour_steps = int(state["steps"]), int(state["colour_steps"])
            self.seconds = float(state["seconds"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise ModelError(f"The state is of a run of another kind: {error}", slug="bad-state") from error

    def _progress(self, progress: float) -> float:
        """Of the encoder's own part of the run, which begins after the auto-encoder's."""
        share = self.config.autoencoder_share if self.colour_steps else 0.0
        return max(0.0, (progress - share) / (1 - share))

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * _SEED_STRIDE + self.total_steps)

    def _colour_step(self, progress: float) -> Step:
        batch = self._sampler.draw(self._generator(), crops_later=False)
        self._autoencoder.train()
        with self._autocast():
            loss = autoencoder_loss(self._autoencoder, rgb_to_lab(batch.first))
        self._colour_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._colour_optimiser.step()
        self.colour_steps += 1
        total = loss.detach()
        return Step(
            self.total_steps - 1, "autoencoder", 0, 0, 1e-3, len(batch.first), total, {"autoencoder": total}, None
        )

    def _draw(self, generator: torch.Generator, joint: bool) -> Batch:
        return self._sampler.draw(generator, crops_later=self.config.needs_pairs, whole=joint)

    def _step(self, objective: Objective, progress: float, batch: Batch | None = None) -> Step:
        config, generator = self.config, self._generator()
        rate = schedule.learning_rate(config, self.steps, progress)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        joint = schedule.joint(config, progress)
        batch = batch or self._draw(generator, joint)
        with self._autocast():
            losses = objective(batch, generator, drop_outliers=schedule.drops_outliers(config, progress))
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        self._optimiser.step()
        if config.ema:
            _average_into(self._average, self._encoder, schedule.averaging(config, self.steps))
        self.steps += 1
        return Step(
            self.total_steps - 1,
            "joint" if joint else "matching",
            0,
            0,
            rate,
            len(batch.first),
            losses.total.detach(),
            losses.parts,
            losses.example,
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = native_dtype(self.device)
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype=dtype)


def encoder_function(
    encoder: Encoder, device: torch.device, *, lightness_only: bool = False
) -> Callable[[Tensor], Tensor]:
    """(B, 3, S, S) sRGB in 0..1 to features, by an encoder in evaluation mode."""
    from model.training.augment import lightness

    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    encoder = encoder.to(device).eval()

    def encode(images: Tensor) -> Tensor:
        images = lightness(images) if lightness_only else images
        features: Tensor = encoder(((images - mean) / std).contiguous(memory_format=torch.channels_last))
        return features

    return encode


def _optimiser(config: TrainingConfig, encoder: Encoder) -> torch.optim.Optimizer:
    if config.optimiser == "adam":
        return torch.optim.Adam(encoder.parameters(), lr=config.learning_rate)
    # Biases and normalisation's scales are not decayed: a smaller one is no simpler one.
    wide = [p for p in encoder.parameters() if p.dim() > 1]
    narrow = [p for p in encoder.parameters() if p.dim() <= 1]
    groups = [{"params": wide, "weight_decay": config.weight_decay}, {"params": narrow, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


@torch.no_grad()
def _average_into(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Parameters and the statistics of batch normalisation alike."""
    pairs = [(a, b) for a, b in zip(average.state_dict().values(), module.state_dict().values(), strict=True)]
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


class _seeded(AbstractContextManager[None]):  # noqa: N801
    """The global generator seeded within, and as it was after: modules draw their first weights from it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        self._before = torch.get_rng_state()
        torch.manual_seed(self._seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._before)
