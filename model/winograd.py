"""3 x 3 convolutions in float32 by Winograd's algorithm, for processors without native bfloat16.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016): a tile of 6 x 6 outputs of a 3 x 3
convolution costs 64 products a channel instead of 324. PyTorch carries NNPACK's implementation of it and does not
choose it by itself where oneDNN is built in. Results differ from the direct sum by float32 rounding, about 1e-5 of the
outputs' scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def available() -> bool:
    """Whether this build of PyTorch runs NNPACK on this processor."""
    # The question also initialises NNPACK, which its operator expects to have happened.
    return hasattr(torch, "_nnpack_spatial_convolution") and bool(torch.backends.nnpack.is_available())


def use_winograd(module: nn.Module) -> nn.Module:
    """Replaces, in place, every 3 x 3 convolution of stride 1 that `module` holds; for inference in float32 on a CPU.

    Channels should lie apart in memory (the default format, not channels-last), as NNPACK wants them. Convolutions of
    one pixel are kept in the channels-last format, as in the other they round by the number of threads.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and child.stride == (1, 1):
            setattr(module, name, _WinogradConv(child))
        elif isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1):
            setattr(module, name, nn.Sequential(_ChannelsLast(), child, _ChannelsFirst()))
        else:
            use_winograd(child)
    return module


class _WinogradConv(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight.detach().contiguous()
        self.bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self._mode = conv.padding_mode

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="constant" if self._mode == "zeros" else self._mode)
        return torch._nnpack_spatial_convolution(padded, self.weight, self.bias, 0, 1)


class _ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


class _ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous()
