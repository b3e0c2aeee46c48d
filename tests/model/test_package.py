from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIGHT = [
    "model",
    "model.errors",
    "model.video",
    "model.video.child",
    "model.labels",
    "model.labels.indexed_png",
    "model.labels.jsonio",
    "model.labels.raster",
    "model.labels.rle",
    "model.evaluation.metrics",
    "model.rendered",
    "model.presets",
    "model.catalogue",
]


def _loaded(*modules: str) -> set[str]:
    """The top-level packages that a new process has after importing these."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_light_part_of_the_model_needs_no_torch() -> None:
    loaded = _loaded(*LIGHT)
    assert "torch" not in loaded
    # And the model knows neither the service nor what it stands on.
    assert not loaded & {"app", "worker", "redis", "celery", "fastapi", "pydantic"}


def test_the_package_itself_loads_next_to_nothing() -> None:
    assert not _loaded("model") & {"torch", "numpy", "av", "PIL"}


def test_the_model_with_torch_knows_nothing_of_the_service() -> None:
    loaded = _loaded("model.propagator", "model.plan", "model.lookahead")
    assert "torch" in loaded
    assert not loaded & {"app", "worker", "redis", "celery", "fastapi", "pydantic"}


@pytest.mark.skipif(find_spec("app") is None, reason="the model is tested without the service")
def test_the_service_needs_no_torch() -> None:
    loaded = _loaded("app.main", "app.cli", "app.supervisor", "app.commands.submit")
    assert "fastapi" in loaded
    assert not loaded & {"torch", "worker"}
