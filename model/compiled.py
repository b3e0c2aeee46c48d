"""Loops compiled for this processor, for what no operation of torch or NumPy does without many passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numba import types
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Has Numba compile a function when it is first called, and keep what came out on disk where it may.

    It runs without the interpreter's lock, so that several threads can be in it. Indices are not checked.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        made: _Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside the source nor in the user's cache folder may be written
        made = numba.njit(**options)(function)
    return made


def held(values: Tensor) -> NDArray[Any]:
    """A tensor on the CPU as compiled loops take it: bfloat16, which NumPy does not have, as the integers that hold it.

    It is the same memory.
    """
    return (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()


def number(value: Any) -> float:
    """In compiled loops, the number that `held` gives: float32 as it is, bfloat16 from the 16 bits of an integer."""
    raise NotImplementedError("only for compiled loops")


@overload(number, strict=False)
def _of_number(value: Any) -> Any:
    if isinstance(value, types.Float):
        return lambda value: value
    return lambda value: np.int32(np.int32(value) << np.int32(16)).view(np.float32)
