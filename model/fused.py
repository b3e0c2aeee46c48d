"""The encoder on a processor that multiplies bfloat16: rectifying and adding shortcuts inside of the convolutions.

PyTorch carries oneDNN's fused convolutions for its compiler and chooses them nowhere else. With them a layer's output
is written once instead of three times, and weights are brought into the order that the processor wants once instead of
at every call. Rectified convolutions come out the same to the bit; where a shortcut is added, the sum is rounded once
instead of twice.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoder import BasicBlock, Encoder, banded_stem


def available() -> bool:
    """Whether this build of PyTorch runs oneDNN's fused convolutions in bfloat16 on this processor."""
    try:
        conv = nn.Conv2d(16, 16, 3, bias=True).bfloat16().requires_grad_(False)
        x = torch.zeros(1, 16, 4, 4, dtype=torch.bfloat16)
        _FusedConv(conv)(x, relu=True, plus=torch.zeros(1, 16, 2, 2, dtype=torch.bfloat16))
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


class FusedEncoder(nn.Module):
    """What `Encoder` computes, for inference.

    Args:
        encoder: in bfloat16, its batch normalisations folded (`fold_batch_norm`).
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._stem = _FusedConv(encoder.conv1)
        layers = (encoder.layer1, encoder.layer2, encoder.layer3)
        self._blocks = nn.ModuleList(_FusedBlock(cast(BasicBlock, block)) for layer in layers for block in layer)

    def forward(self, x: Tensor) -> Tensor:
        x = banded_stem(x, lambda band: self._stem(band, relu=True))
        for block in self._blocks:
            x = block(x)
        return x


class _FusedBlock(nn.Module):
    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self._first, self._second = _FusedConv(block.conv1), _FusedConv(block.conv2)
        self._shortcut = None if block.downsample is None else _FusedConv(cast(nn.Conv2d, block.downsample[0]))

    def forward(self, x: Tensor) -> Tensor:
        y = self._first(_reflected(x), relu=True)
        shortcut = x if self._shortcut is None else self._shortcut(x)
        return self._second(_reflected(y), relu=True, plus=shortcut)


class _FusedConv(nn.Module):
    """A convolution of what is already padded."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is None or conv.bias.dtype == conv.weight.dtype
        self._stride, self._bias = list(conv.stride), conv.bias
        weight = conv.weight.detach().to_mkldnn()
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, [0, 0], self._stride, [1, 1], 1)

    def forward(self, x: Tensor, *, relu: bool = False, plus: Tensor | None = None) -> Tensor:
        how = self._weight, self._bias, [0, 0], self._stride, [1, 1], 1
        after = "relu" if relu else None
        fused = torch.ops.mkldnn._convolution_pointwise
        if plus is not None:
            return cast(Tensor, fused.binary(x, plus, *how, "add", 1.0, after, [], ""))
        return cast(Tensor, fused(x, *how, after or "none", [], ""))


def _reflected(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="reflect")
