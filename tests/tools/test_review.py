from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.rendered import render_clip

from ..datasets import write_davis

TOOLS = Path(__file__).parents[2] / "tools"


def test_a_run_measures_both_ways_and_puts_table_and_curve_in_their_places(tmp_path: Path) -> None:
    root, page, kept = tmp_path / "davis", tmp_path / "page.md", tmp_path / "review.json"
    write_davis(root, "ant", render_clip(width=64, height=48, frame_count=9), single=True)
    page.write_text("<!-- review plain davis -->\nold\n<!-- end -->\n")

    def measured_for(counts: str) -> dict[str, Any]:
        command = [sys.executable, str(TOOLS / "review.py"), "--davis", str(root), "--counts", counts, "--workers", "1"]
        command += ["--json", str(kept), "--page", str(page), "--plot", str(tmp_path / "curve.png")]
        ran = subprocess.run([*command, "--preset", "plain"], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        found: dict[str, Any] = json.loads(kept.read_text())["sequences"]["ant"]
        return found

    first, measured = measured_for("5"), measured_for("1,5")
    assert measured["named"]["5"] == first["named"]["5"]
    assert [len(measured["frames"][count]) for count in ("1", "5")] == [1, 5]
    assert 0 not in measured["frames"]["5"], "the first frame is known"
    # Corrected frames are right, and the more of them the better.
    assert measured["none"]["0"] < measured["named"]["1"] < measured["named"]["5"] <= 1
    assert measured["none"]["0"] < measured["even"]["1"] < measured["even"]["5"] <= 1
    text = page.read_text()
    assert f"| named by `--review` | {measured['none']['0']:.3f} | {measured['named']['1']:.3f} |" in text
    assert "With five, by sequence" in text
    gain = 100 * (measured["named"]["1"] - measured["even"]["1"])
    assert f"| named less even, points | | {gain:+.1f} |" in text
    assert f"| {gain:+.1f} to {gain:+.1f} |" in text, "of one sequence there is no interval"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("dataset", ["davis", "jhmdb"])
def test_the_page_has_a_place_for_it(dataset: str) -> None:
    text = (TOOLS.parent / "docs" / "accuracy.md").read_text()
    assert text.count(f"<!-- review fast {dataset} -->") == 1
