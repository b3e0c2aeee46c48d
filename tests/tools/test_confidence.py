"""The whole tool, on rendered clips in DAVIS's layout, and its arithmetic against scipy."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import spearmanr

from model.evidence import NAMES
from model.rendered import render_clip

from ..datasets import write_davis

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location("confidence_tool", TOOLS / "confidence.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def test_ranks_correlate_as_scipys_do(tool: ModuleType) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 300).astype(float), rng.normal(size=300)
    assert tool.spearman(a, a + 5 * b) == pytest.approx(spearmanr(a, a + 5 * b)[0])
    assert np.isnan(tool.spearman(a, np.ones(300)))
    clips = np.repeat(["one", "two"], 150)
    expected = np.mean([spearmanr(a[:150], b[:150])[0], spearmanr(a[150:], b[150:])[0]])
    assert tool.within(clips, a, b) == pytest.approx(expected)


def test_rows_of_another_run_are_of_clips_of_their_own(tool: ModuleType, tmp_path: Path) -> None:
    row = {"clip": "ant", "dataset": "davis", "evidence": [0.5] * len(NAMES), "overlap": 0.5, "true": 9, "found": 9}
    (tmp_path / "plain.json").write_text(json.dumps({"key": {}, "clips": {"ant": [row, row]}}))
    others = tool._cached(tmp_path / "plain.json", "0")
    table = tool.Table([row, *others])
    assert table.weights().tolist() == [1, 0.5, 0.5], "each clip counts the same in either run"
    assert table.only(np.array([True, False, True])).rows == [row, others[1]]


def test_the_fit_finds_the_weights_that_made_the_truth_and_drops_what_says_nothing(tool: ModuleType) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(3000):
        told = rng.uniform(0, 1, len(NAMES))
        overlap = 1 / (1 + np.exp(-(-3 + 4 * told[0] + 2 * told[2] - told[3])))
        rows.append({
            "clip": f"{i % 10}", "dataset": "davis", "frame": i, "overlap": overlap, "true": 9, "found": 9,
            "evidence": told.tolist(),
        })  # fmt: skip
    intercept, weights = tool.fitted(tool.Table(rows))
    assert weights[NAMES[0]] == pytest.approx(4, abs=0.6)
    assert weights[NAMES[2]] == pytest.approx(2, abs=0.4)
    assert set(weights) == {NAMES[0], NAMES[2]}, "none below 0, none that adds nothing"
    assert -4.2 < intercept < -3


def test_calibration_is_the_mean_gap(tool: ModuleType) -> None:
    estimates, truth = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0.15, 0.15, 0.75, 0.75])
    assert tool.calibration_error(estimates, truth) == pytest.approx(0.15)
    assert tool.calibration_error(truth, truth) == pytest.approx(0)


def test_a_run_puts_the_table_and_the_plot_in_their_places_and_the_cache_spares_a_second(tmp_path: Path) -> None:
    root, page = tmp_path / "davis", tmp_path / "page.md"
    for seed, name in enumerate(("ant", "bee")):
        write_davis(root, name, render_clip(width=64, height=48, frame_count=7, seed=seed), single=True)
    page.write_text("before\n<!-- confidence plain -->\nold\n<!-- end -->\nafter\n")

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TOOLS / "confidence.py"), "--davis", str(root), "--curtains", "0"]
        command += ["--workers", "1", "--cache", str(tmp_path / "cache.json"), "--page", str(page)]
        command += ["--plot", str(tmp_path / "plot.png")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode == 0, first.stderr
    once = page.read_text()
    assert once.startswith("before\n<!-- confidence plain -->\nModel `uvc-r18`")
    assert once.endswith("<!-- end -->\nafter\n")
    assert "| **tested on** (1) | 6 |" in once
    assert all(f"| `{name}` |" in once for name in NAMES)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    cached = json.loads((tmp_path / "cache.json").read_text())
    assert sorted(cached["clips"]) == ["ant", "bee"]
    # What is in the cache is not measured again: a second run reports what the cache was changed to.
    for row in cached["clips"]["bee"]:
        row["overlap"] = 0.25
    (tmp_path / "cache.json").write_text(json.dumps(cached))
    assert run().returncode == 0
    assert page.read_text() != once


def test_the_page_has_a_place_for_it() -> None:
    text = (TOOLS.parent / "docs" / "accuracy.md").read_text()
    assert text.count("<!-- confidence plain -->") == 1
    assert "(reliability-plain.png)" in text
    assert (TOOLS.parent / "docs" / "reliability-plain.png").exists()
