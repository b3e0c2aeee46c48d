"""What a training run draws now and then, so that it can be seen by eye whether it learns."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from model.encoder import STRIDE
from model.lab import lab_to_rgb
from model.pictures import Picture, montage
from model.training.footage import Footage
from model.training.objective import Example
from model.training.pictures import localisation_picture
from model.training.trainer import Trainer, encoder_function
from model.training.transport import rows

_SIDE = 256
_SAMPLES = 4


class Viewer:
    """Draws pictures of one run.

    Args:
        footage: whose frames are shown where the training itself shows none.
        gap_ms: time between the two frames of a pair, or less where a shot is shorter.
        seed: of the choice of pairs, so that a picture can be compared with an earlier one.
    """

    def __init__(self, footage: Footage, *, gap_ms: float = 500.0, seed: int = 0) -> None:
        self._footage = footage
        moving = [run for run in footage.runs if run.count > 1]
        random = np.random.default_rng(seed)
        chosen = [moving[at] for at in sorted(random.permutation(len(moving))[:_SAMPLES].tolist())]
        times = footage.times_ms.cpu().numpy()
        self._names = [run.name for run in chosen]
        self._pairs: list[tuple[int, int]] = []
        for run in chosen:
            within = times[run.first : run.first + run.count]
            later = int(np.abs(within - within[0] - gap_ms).argmin())
            self._pairs.append((run.first, run.first + max(1, later)))

    def draw(self, trainer: Trainer, example: Example | None) -> Image.Image | None:
        """What the last step saw, or how frames are rebuilt by matches; None where there is nothing to show."""
        if example is not None and example.estimate is not None and example.truth is not None:
            patch, rebuilt, truth = (
                _pictures(images) for images in (example.patch, lab_to_rgb(example.estimate), lab_to_rgb(example.truth))
            )
            if example.frame is None or example.boxes is None:
                return montage(zip(patch, rebuilt, truth, strict=True), captions=("patch", "rebuilt", "truth"))
            left, top, right, bottom = example.boxes[:_SAMPLES].float().cpu().unbind(dim=1)
            # From cells with a centre at every integer to pixels.
            boxes = torch.stack([left + 0.5, top + 0.5, right - left, bottom - top], dim=1) * STRIDE
            return localisation_picture(patch, _pictures(example.frame), boxes.numpy(), rebuilt, truth)
        return self._carried(trainer) if self._pairs else None

    @torch.no_grad()
    def _carried(self, trainer: Trainer) -> Image.Image:
        """Later frames put together from the first ones, each cell from its best match."""
        config, device = trainer.config, trainer.device
        encode = encoder_function(trainer.encoder, device, lightness_only=config.input == "lightness")
        first, later = (
            self._footage.whole(torch.tensor(frames, device=device), _SIDE) for frames in zip(*self._pairs, strict=True)
        )
        best = (rows(encode(later)) @ rows(encode(first)).mT).argmax(dim=2)
        blocks = F.unfold(first, STRIDE, stride=STRIDE)
        moved = blocks.gather(2, best[:, None].expand(-1, blocks.shape[1], -1))
        rebuilt = F.fold(moved, (_SIDE, _SIDE), STRIDE, stride=STRIDE)
        columns = (_pictures(images) for images in (first, rebuilt, later))
        captions = ("first frame", "later frame from it", "later frame")
        return montage(zip(*columns, strict=True), captions=captions, names=self._names)


def _pictures(images: Tensor) -> list[Picture]:
    """(B, 3, H, W) in 0..1 to the first few as (H, W, 3) uint8."""
    few = images[:_SAMPLES].detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(few.permute(0, 2, 3, 1).cpu().numpy())
