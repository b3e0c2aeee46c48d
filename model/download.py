"""Reading back from a GPU without stopping it: the copy is ordered now and waited for when its result is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Download:
    """Tensors on their way to the host.

    Args:
        tensors: on any device; on the CPU they are taken as they are.
        note: what belongs to them and is on the host already.
    """

    def __init__(self, tensors: Sequence[Tensor], note: Any = None) -> None:
        self._note = note
        self._tensors, self._arrived = tuple(tensors), None
        if any(tensor.device.type == "cuda" for tensor in tensors):
            # Into memory that the GPU may write by itself: only then the copy does not make the host wait.
            pinned = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
            self._tensors = tuple(to.copy_(t, non_blocking=True) for to, t in zip(pinned, tensors, strict=True))
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def result(self) -> tuple[tuple[Tensor, ...], Any]:
        """The tensors on the CPU, and the note; waits until they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors, self._note
