"""How much memory footage may take, and each clip's fair share of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_ASSUMED_BYTES = 4 << 30
_HALVINGS = 100


def free_memory() -> int:
    """Bytes that this process could still take: what is free on the machine, or in its container if that is less."""
    return min([_machine_bytes(), *_container_bytes()])


def fair_shares(
    wanted: Sequence[int], frame_bytes: Sequence[int], budget: int, *, least: int, weights: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """How many frames of each clip to keep: short clips whole, long ones down to one common level.

    Args:
        wanted: frames of each clip.
        frame_bytes: bytes of one frame of each clip.
        budget: bytes for all of them.
        least: frames below which a clip is not cut. Where not even that much of every clip fits, clips are left out,
            drawn by `seed`.
        weights: each clip's level is that times the common one; positive.
        seed: of the draw.

    Returns:
        (N,) frames, 0 for a clip that is left out. Together they take no more than `budget`.
    """
    want, each = np.asarray(wanted, dtype=np.int64), np.asarray(frame_bytes, dtype=np.int64)
    if (want * each).sum() <= budget:
        return want
    floor = np.minimum(want, least)
    kept = np.zeros(len(want), dtype=np.bool_)
    left = budget
    for at in np.random.default_rng(seed).permutation(len(want)):
        kept[at] = floor[at] * each[at] <= left
        left -= int(floor[at] * each[at]) if kept[at] else 0
    want, floor = np.where(kept, want, 0), np.where(kept, floor, 0)
    scale = np.asarray(weights, dtype=np.float64)
    low, high = 0.0, float((want * each / scale).max(initial=0))
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        fits = (_filled(want, floor, each, level * scale) * each).sum() <= budget
        low, high = (level, high) if fits else (low, level)
    return _filled(want, floor, each, low * scale)


def _filled(
    want: NDArray[np.int64], floor: NDArray[np.int64], each: NDArray[np.int64], level: NDArray[np.float64]
) -> NDArray[np.int64]:
    return np.clip((level / np.maximum(each, 1)).astype(np.int64), floor, want)


def _machine_bytes() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return _ASSUMED_BYTES


def _container_bytes() -> list[int]:
    """What the control group leaves, if it sets a limit (version 2, and the older names of version 1)."""
    left = []
    for limit, used in (
        (_CGROUP / "memory.max", _CGROUP / "memory.current"),
        (_CGROUP / "memory/memory.limit_in_bytes", _CGROUP / "memory/memory.usage_in_bytes"),
    ):
        try:
            left.append(max(0, int(limit.read_text()) - int(used.read_text())))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return left
