"""What of a cell is compared: which part of its description counts, by a preset."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from model.cell_colours import ColourFeatures
from model.features import FeatureExtractor
from model.presets import Preset


class Compared:
    """Makes of what an extractor gives for a frame what is compared with other frames.

    Args:
        extractor: the encoder on its device.
        preset: says whether features are centred, and how much colours count.

    Attributes:
        width: how many numbers of a cell are compared.
    """

    def __init__(self, extractor: FeatureExtractor, preset: Preset) -> None:
        self._features, self._preset = extractor.channels, preset
        self._colours = ColourFeatures(extractor.device) if preset.colour else None
        self.width = self._features + (self._colours.channels if self._colours else 0)

    def __call__(self, described: Tensor) -> Tensor:
        """(rows, columns, extractor.width) to (rows, columns, width) of length 1, contiguous."""
        features, colours = described.tensor_split([self._features], dim=2)
        if self._preset.centred:
            features = _centred(features)
        if self._colours is not None:
            return self._colours.beside(features, colours, self._preset.colour, described.dtype)
        return features.to(described.dtype).contiguous()


def _centred(features: Tensor) -> Tensor:
    """(rows, columns, C) features of one frame less their mean, of length 1 again, in float32.

    Behind the last ReLU all features of a frame point much the same way; what they share tells no cell from another.
    """
    full = features.float()
    return F.normalize(full - full.mean(dim=(0, 1)), dim=2)
