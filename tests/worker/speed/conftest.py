"""A report as `labelprop bench` makes it, with figures that are easy to follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def _run(size: tuple[int, int], objects: int, frames: int, **changes: Any) -> dict[str, Any]:
    return {
        "width": size[0], "height": size[1], "objects": objects, "frames": frames, "preset": "plain",
        "model": "mine", "model_sha256": "0123456789abcdef" * 4, "device": "cpu", "precision": "float32",
        "cores": 2, "torch": "2.0", "whole_fps": 10 / (1 + (objects - 1) / 100), "whole_vs_dense": 20.04,
        "peak_memory_mib": 900.4, "peak_device_memory_mib": None,
        "stages_ms": {"decode": 1.0, "encode": 50.0, "affinity": 60.0 + objects, "upsample": 2.0, "store": 0.5},
        "bare_ms": {"products": 25.0, "top_k": 15.0}, "affinity_vs_bare": 1.525,
        "dense_ms": {"encode": 100.0, "affinity": 3000.0, "upsample": 3.0} if objects == 1 else None,
        "flow": {"whole_fps": 30.0, "stages_ms": {"decode": 1.0, "flow": 32.0, "store": 0.3}},
        "J": {"labelprop": 0.9123, "flow": 0.8}, "operations":
        {"matrix_rate": 1e12, "encoder": 40e9, "bare": 20e9, "affinity": 6.1e9 + objects * 1e9},
    } | changes  # fmt: skip


@pytest.fixture
def report() -> Callable[..., dict[str, Any]]:
    """A report of two sizes, one and four objects; keywords change every run."""

    def make(**changes: Any) -> dict[str, Any]:
        runs = [
            _run(size, objects, frames, **changes)
            for size in ((854, 480), (1920, 1080))
            for frames in (48, 300)
            for objects in (1, 4)
        ]
        return {"schema_version": 1, "command": "labelprop bench --lengths 48,300", "processor": "A CPU", "runs": runs}

    return make
