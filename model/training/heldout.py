"""How good features are without any label: errors of matches on footage that was held out.

Two measures, both in cells (8 pixels), both of the single best match, and both the same for the same footage and seed:

- crop error: between two crops of one frame under a known map, how far the best match is from the true place.
- cycle error: from a frame to a later one and back, how far from its start a cell arrives (Zhou et al. 2016, Jabri et
  al. 2020). It needs no truth at all, so it can be had on the very video that is to be labelled.

The distances are cut off at `LIMIT`: beyond it, wrong is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.training.batches import Sampler
from model.training.cells import centres
from model.training.config import NO_PHOTOMETRY, LossWeights, TrainingConfig
from model.training.footage import Footage
from model.training.transport import rows

LIMIT = 8.0


@dataclass(frozen=True)
class HeldOut:
    """Mean errors in cells; None where the footage had nothing to measure it on."""

    crop_error: float | None
    cycle_error: float | None


@torch.no_grad()
def measure(
    encode: Callable[[Tensor], Tensor],
    footage: Footage,
    *,
    config: TrainingConfig | None = None,
    samples: int = 64,
    seed: int = 0,
) -> HeldOut:
    """Measures features on footage.

    Args:
        encode: (B, 3, S, S) sRGB in 0..1 to (B, C, S/8, S/8) features.
        config: crop size and gaps are taken from it; crops are as strongly changed whatever was trained.
        samples: how many frames, and pairs of frames.
    """
    config = config or TrainingConfig()
    moving = any(run.count > 1 for run in footage.runs)
    if not len(footage):
        return HeldOut(None, None)
    plain = dataclasses.replace(
        TrainingConfig(),
        clips=8 if moving else 0,
        photographs=0 if moving else 8,
        crop=config.crop,
        gap_ms=config.gap_ms,
        layers=0.0,
        photometry=NO_PHOTOMETRY,
        second_photometry=NO_PHOTOMETRY,
        losses=LossWeights(two_crop=1.0, palindrome=1.0 if moving else 0.0),
    )
    sampler = Sampler(footage, plain)
    generator = torch.Generator().manual_seed(seed)
    crop_errors, cycle_errors = [], []
    for _ in range(max(1, samples // 8)):
        batch = sampler.draw(generator)
        assert batch.second is not None
        assert batch.locations is not None
        assert batch.valid is not None
        first = rows(encode(batch.first))
        size = config.crop // 8
        grid = centres((size, size), device=first.device)
        best = (first @ rows(encode(batch.second)).mT).argmax(dim=2)
        distance = (grid[best] - batch.locations).norm(dim=2).clamp(max=LIMIT)
        crop_errors.append(distance[batch.valid])
        if batch.later:
            # The same place in the later frame, so that what leaves the crop says nothing about the features.
            scores = first @ rows(encode(batch.later[-1])).mT
            back = scores.argmax(dim=1).gather(1, scores.argmax(dim=2))
            cycle_errors.append((grid[back] - grid).norm(dim=2).clamp(max=LIMIT).flatten())
    return HeldOut(
        float(torch.cat(crop_errors).mean()), float(torch.cat(cycle_errors).mean()) if cycle_errors else None
    )
