"""What propagation reaches with no network at all: a cell's own colours as its features.

    python tools/rgb_baseline.py davis --root DAVIS [any option of `labelprop evaluate`]

A cell is described by its 4 x 4 blocks of 2 x 2 pixels, RGB less the mean of photographs, 48 numbers of length 1. The
line that says which model it is names the default one, which is looked up and not used.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.cell_colours import cell_colours
from model.features import choose_device, native_dtype
from model.geometry import Grid
from model.training.objective import MEAN
from worker import evaluation
from worker.commands.evaluate import main

_BLOCKS = 4  # per cell and side


class RgbFeatures:
    """Stands where `model.features.FeatureExtractor` does."""

    channels = 3 * _BLOCKS * _BLOCKS

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)
        self.dtype = native_dtype(self.device)

    def __call__(self, image: np.ndarray, grid: Grid) -> Tensor:
        """(H, W, 3) uint8 RGB to (rows, columns, 48 + 3), the mean colour behind, as `FeatureExtractor` has it."""
        picture = grid.image(torch.from_numpy(image).to(self.device), torch.float32)
        x = F.avg_pool2d(picture / 255 - picture.new_tensor(MEAN)[:, None, None], 8 // _BLOCKS)
        x = F.normalize(F.pixel_unshuffle(x, _BLOCKS)[0].permute(1, 2, 0), dim=-1)
        return torch.cat([x, cell_colours(picture)[0]], dim=-1).to(self.dtype)


class RgbModels:
    """Stands where `worker.models.WarmModels` does, and has one answer."""

    def __init__(self, home: Path | None, device: str = "auto") -> None:
        self._features = RgbFeatures(device)

    def get(self, name: str, sha256: str) -> RgbFeatures:
        return self._features


if __name__ == "__main__":
    evaluation.WarmModels = RgbModels  # type: ignore[assignment,misc]
    sys.exit(main(sys.argv[1:]))
