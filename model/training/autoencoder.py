"""The colour auto-encoder: what the affinity transports instead of pixels.

UVC's (Li et al. 2019): VGG-like convolutions with reflection padding, no normalisation and no skip connections, 256
numbers per 8 x 8 pixels, and a mirrored decoder that enlarges by repetition and ends in tanh. It is trained on its own
to reproduce Lab pictures and then frozen, so that a wrong colour can only be the affinity's fault.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from model.lab import lab_l1

CHANNELS = 256
STRIDE = 8

_Module = TypeVar("_Module", bound=nn.Module)


class ColourAutoencoder(nn.Module):
    """Scaled Lab (see `model.lab`) to 256 channels at stride 8 and back; 1.24 million parameters.

    `encode` takes (B, 3, H, W), sides multiples of 8 and at least 16, and gives (B, 256, H/8, W/8), non-negative.
    `decode` is the way back, in -1..1. `forward` is both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 3, 1),
            *_conv(3, 64),
            *_conv(64, 64),
            nn.MaxPool2d(2),
            *_conv(64, 128),
            *_conv(128, 128),
            nn.MaxPool2d(2),
            *_conv(128, 256),
            nn.MaxPool2d(2),
            nn.Conv2d(256, CHANNELS, 1),
            nn.ReLU(inplace=True),
        )
        self.decoder = nn.Sequential(
            # Before the enlargement, not after it as in the paper: the same numbers at a quarter of the cost.
            nn.Conv2d(CHANNELS, 256, 1),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_conv(256, 128),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_conv(128, 128),
            *_conv(128, 64),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_conv(64, 64),
            nn.Conv2d(64, 3, 3, padding=1, padding_mode="reflect"),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def encode(self, lab: Tensor) -> Tensor:
        features: Tensor = self.encoder(lab)
        return features

    def decode(self, features: Tensor) -> Tensor:
        lab: Tensor = self.decoder(features)
        return lab

    def forward(self, lab: Tensor) -> Tensor:
        return self.decode(self.encode(lab))


def autoencoder_loss(autoencoder: ColourAutoencoder, lab: Tensor, *, chroma_weight: float = 10.0) -> Tensor:
    """How badly (B, 3, H, W) scaled Lab pictures are reproduced: `lab_l1`, mean over the batch.

    Colour weighs as much here as in the loss that the frozen decoder will serve.
    """
    return lab_l1(autoencoder(lab), lab, chroma_weight=chroma_weight).mean()


def freeze(module: _Module) -> _Module:
    """Makes a module a fixed function, in place: gradients pass through it and train nothing in it."""
    return module.eval().requires_grad_(False)


def _conv(channels_in: int, channels_out: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect")
    return conv, nn.ReLU(inplace=True)
