"""The one table of benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.errors import InputError
from model.evaluation.benchmark import Benchmark
from model.evaluation.boxes import Boxes
from model.evaluation.davis import Davis
from model.evaluation.jhmdb import Jhmdb
from model.evaluation.vip import Vip

BENCHMARKS: dict[str, type[Benchmark[Any]]] = {kind.name: kind for kind in (Davis, Jhmdb, Vip, Boxes)}


def open_benchmark(name: str, root: Path) -> Benchmark[Any]:
    """The benchmark of that name on a dataset's folder.

    Raises:
        InputError: there is no such benchmark, or no such folder.
    """
    if name not in BENCHMARKS:
        raise InputError(f"There is no benchmark {name!r}. Choose one of: {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name](root)
