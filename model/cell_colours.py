"""The colour of each cell, as features beside the encoder's.

The encoder looks at what surrounds a cell, and learned to see through changes of light; where exactly an outline runs,
and which of two alike things is the labelled one, a cell's own colour often knows better. Its similarity is a Gaussian
of the distance in CIE Lab, which is written as a dot product by Fourier features (Rahimi and Recht, "Random Features
for Large-Scale Kernel Machines", NeurIPS 2007), with frequencies from a Sobol sequence in place of random ones (Avron
et al., JMLR 2016). Nothing is learned. What it is worth stands in docs/accuracy.md.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.encoder import STRIDE
from model.lab import UNITS, rgb_to_lab

COLOURS = 3
"""How many numbers a colour is."""

_WIDTH = 8.0
"""Of the Gaussian, its standard deviation in units of Lab; 2 or 3 are the least difference that is easily seen."""
_FREQUENCIES = 16  # a whole block of the sequence, so that they are spread evenly


def cell_colours(pictures: Tensor) -> Tensor:
    """(B, 3, 8 x rows, 8 x columns) RGB in 0..255 to (B, rows, columns, 3): the mean of every cell, in scaled Lab."""
    return rgb_to_lab(F.avg_pool2d(pictures.float(), STRIDE) / 255).permute(0, 2, 3, 1)


class ColourFeatures:
    """Turns colours into features of length 1 whose dot product says how alike they are, about 0 to 1.

    Args:
        device: where colours are.
    """

    channels = 2 * _FREQUENCIES
    """How many numbers these features are."""

    def __init__(self, device: torch.device) -> None:
        points = torch.quasirandom.SobolEngine(COLOURS).draw(2 * _FREQUENCIES)[_FREQUENCIES:]
        normal = torch.erfinv(2 * points - 1) * 2**0.5
        self._waves = (normal.T * (torch.tensor(UNITS)[:, None] / _WIDTH)).to(device)

    def __call__(self, colours: Tensor) -> Tensor:
        """(..., 3) colours as `cell_colours` gives them to (..., channels) float32."""
        phases = colours.float() @ self._waves
        return torch.cat([phases.cos(), phases.sin()], dim=-1) / _FREQUENCIES**0.5

    def beside(self, features: Tensor, colours: Tensor, share: float, dtype: torch.dtype) -> Tensor:
        """Features with the colours' behind them, of length 1 together.

        Args:
            features: (rows, columns, C) of length 1.
            colours: (rows, columns, 3).
            share: of the similarity that is the colours', 0..1.
            dtype: of what comes out.
        """
        both = features.new_empty(*features.shape[:-1], features.shape[-1] + self.channels, dtype=dtype)
        both[..., : features.shape[-1]] = features * (1 - share) ** 0.5
        both[..., features.shape[-1] :] = self(colours) * share**0.5
        return both
