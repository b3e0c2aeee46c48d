"""The encoder: ResNet-18 up to layer3, one feature vector per 8 x 8 pixels.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), with the changes that UVC and CRW make for
correspondence: layer3 keeps layer2's resolution (stride 8 in all), layer4 is left out, and every convolution wider than
one pixel pads by reflection, because zero padding tells the network where it is in the frame and lets it match by
position. Parameter names are torchvision's, so that checkpoints travel.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 8
CHANNELS = 256
_BAND = 20  # pooled rows that the first layers are computed in at a time
MIN_SIDE = 2 * STRIDE  # reflection by one cell needs two cells a side


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out, 3, stride)
        self.bn1: nn.Module = nn.BatchNorm2d(channels_out)
        self.conv2 = _conv(channels_out, channels_out, 3, 1)
        self.bn2: nn.Module = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(_conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class Encoder(nn.Module):
    """ResNet-18 up to layer3 at stride 8.

    `forward` takes (B, 3, H, W) normalised RGB with H and W multiples of 8, at least 16 each, and gives
    (B, 256, H/8, W/8), non-negative and not normalised.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, 2)
        self.bn1: nn.Module = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, CHANNELS, 1), BasicBlock(CHANNELS, CHANNELS, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(self._stem(x))))

    def _stem(self, x: Tensor) -> Tensor:
        """The first convolution and the pooling after it: (B, 3, H, W) to (B, 64, H/4, W/4)."""
        if self.training or torch.is_grad_enabled() or x.device.type != "cpu":
            return F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), kernel_size=3, stride=2, padding=1)
        return banded_stem(x, self._rectified)

    def _rectified(self, band: Tensor) -> Tensor:
        return F.relu(self.bn1(F.conv2d(band, self.conv1.weight, self.conv1.bias, stride=2)), inplace=True)


def banded_stem(x: Tensor, rectified: Callable[[Tensor], Tensor]) -> Tensor:
    """The first convolution and the pooling after it, band by band: (B, 3, H, W) to (B, 64, H/4, W/4).

    What lies between the two is the largest of all layers' outputs, and a band of it stays in the processor's cache.
    Every number is the same as without bands.

    Args:
        rectified: the convolution of what is already padded, and what rectifies it.
    """
    padded = F.pad(x, (3, 3, 3, 3), mode="reflect")
    rows = x.shape[2] // 2
    pooled = []
    for first in range(0, rows, 2 * _BAND):
        top, bottom = max(0, first - 1), min(rows, first + 2 * _BAND)
        band = rectified(padded[:, :, 2 * top : 2 * bottom + 5])
        # Above zero nothing is lower than zero, so zeros pad as well as anything.
        band = F.pad(band, (1, 0, 0 if top < first else 1, 0))
        pooled.append(F.max_pool2d(band, kernel_size=3, stride=2))
    return torch.cat(pooled, dim=2)


def fold_batch_norm(encoder: Encoder) -> Encoder:
    """A copy for inference, each batch normalisation folded into the convolution before it (in float32).

    The result equals `encoder.eval()` up to rounding and saves a pass over memory per layer.
    """
    folded = copy.deepcopy(encoder).float().eval()
    folded.bn1 = _fold(folded.conv1, folded.bn1)
    for layer in (folded.layer1, folded.layer2, folded.layer3):
        for block in cast("list[BasicBlock]", list(layer)):
            block.bn1 = _fold(block.conv1, block.bn1)
            block.bn2 = _fold(block.conv2, block.bn2)
            if block.downsample is not None:
                block.downsample[1] = _fold(cast(nn.Conv2d, block.downsample[0]), block.downsample[1])
    return folded.requires_grad_(False)


def _conv(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Conv2d:
    if size == 1:
        return nn.Conv2d(channels_in, channels_out, size, stride, bias=False)
    return nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False, padding_mode="reflect")


def _fold(conv: nn.Conv2d, norm: nn.Module) -> nn.Identity:
    norm = cast(nn.BatchNorm2d, norm)
    mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight / torch.sqrt(var + norm.eps)
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter(norm.bias - mean * scale)
    return nn.Identity()
