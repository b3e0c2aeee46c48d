"""What changes while a run goes on, as functions of how far it is."""

from __future__ import annotations

import math

from model.training.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    """The learning rate of a step.

    Args:
        step: how many steps came before it; the first `config.rising` rise linearly.
        progress: 0..1, of the run.
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.schedule == "poly":
        # The paper restarts its decay where the joint stage begins.
        into = progress - config.warm_up if config.localise and progress >= config.warm_up else progress
        factor = (1 - into) ** 0.9
    else:
        factor = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * factor * min(1.0, (step + 1) / max(1, config.rising))


def joint(config: TrainingConfig, progress: float) -> bool:
    """Whether the step localises and matches, rather than matching crops."""
    return config.localise and progress >= config.warm_up


def drops_outliers(config: TrainingConfig, progress: float) -> bool:
    """Whether reconstructions that failed are left out: not at the start of either stage, when most have."""
    into = progress - config.warm_up if joint(config, progress) else progress
    return into >= config.outlier_from


def averaging(config: TrainingConfig, step: int) -> float:
    """The decay of the averaged weights, shorter at the start so that they are not held back by random ones."""
    return min(config.ema, (step + 1) / (step + 10))
