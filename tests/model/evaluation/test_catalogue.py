from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.evaluation.benchmark import Benchmark
from model.evaluation.catalogue import BENCHMARKS, open_benchmark

Refused = Callable[..., None]


@pytest.mark.parametrize("name", ["davis", "jhmdb", "vip", "boxes"])
def test_each_is_opened_by_its_name(name: str, tmp_path: Path) -> None:
    benchmark = open_benchmark(name, tmp_path)
    assert isinstance(benchmark, Benchmark)
    assert type(benchmark) is BENCHMARKS[name]
    assert (benchmark.name, benchmark.root) == (name, tmp_path)
    assert "--root" in benchmark.layout
    assert benchmark.columns


def test_there_are_no_others(tmp_path: Path, refused: Refused) -> None:
    assert list(BENCHMARKS) == ["davis", "jhmdb", "vip", "boxes"]
    refused(open_benchmark, "kinetics", tmp_path, says=("'kinetics'", "davis, jhmdb, vip, boxes"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_root_that_is_no_folder(name: str, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").touch()
    for root in ("file", "nothing"):
        refused(open_benchmark, name, tmp_path / root, says=(root, "--root"))


def test_protocols_come_without_torch_and_without_scipy() -> None:
    code = "import sys, model.evaluation.catalogue; sys.exit(bool({'torch', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
