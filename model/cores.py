"""How much of the processor there is to use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """How many cores this process may use."""
    # Not on every platform, but where it is, the first knows what a container may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
