"""Small tensors that the host makes, on the device: each is sent once, since sending may wait for what runs there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

_MOST = 64


class Uploads:
    """Keeps the tensors that were asked for last.

    Args:
        device: where they are to be.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    def __call__(self, values: Sequence[float | bool], dtype: torch.dtype = torch.int64) -> Tensor:
        """(n,) the values as a tensor, which is shared and must not be changed."""
        key = (dtype, *values)
        if key not in self._kept:
            self._kept[key] = torch.tensor(values, dtype=dtype).to(self._device, non_blocking=True)
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return self._kept[key]
