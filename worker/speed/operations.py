"""Operations, counted from shapes, and the rate at which this machine multiplies matrices."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.checkpoint import Checkpoint
from model.geometry import Grid

_TRIES = 5


def encoder_operations(checkpoint: Checkpoint, grid: Grid) -> int:
    """Floating-point operations of encoding one frame: two for every multiplication of the convolutions' definition.

    An algorithm that needs fewer (Winograd's) is counted the same, so that it shows as a higher rate.
    """
    encoder = copy.deepcopy(checkpoint.encoder).to("meta")
    image = torch.zeros(1, 3, *(side * 8 for side in (grid.rows, grid.columns)), device="meta")
    return operations_of(lambda: encoder(image))


def operations_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions that `work` does."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """The most operations a second of several large matrix products, on as many threads as torch now takes.

    Args:
        side: of the square matrices; None chooses.
    """
    if side is None:
        side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    best = float("inf")
    for _ in range(_TRIES + 1):  # the first also sets up and is never the best
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
