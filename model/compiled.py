"""Loops compiled for this processor, for what no operation of torch or NumPy does without many passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

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
