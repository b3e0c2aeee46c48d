from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "accuracy.py"
REPORT = {
    "benchmark": "jhmdb",
    "preset": {"name": "plain"},
    "model": {"name": "mine", "sha256": "0123456789abcdef" * 4},
    "precision": "float32",
    "device": "cpu",
    "frames": 12,
    "mean": {"PCK@0.1": 0.5, "J": None},
    "sequences": [{"name": "catch", "frames": 12, "PCK@0.1": 0.51234, "J": None}],
}


def _run(page: Path, report: dict[str, object]) -> subprocess.CompletedProcess[str]:
    path = page.with_name("report.json")
    path.write_text(json.dumps(report))
    command = [sys.executable, str(TOOL), str(path), "--page", str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_reports_table_goes_to_its_place_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other, place = "<!-- davis plain -->\nkept\n<!-- end -->\n", "<!-- jhmdb plain -->\n"
    page.write_text(f"before\n{other}{place}old\n<!-- end -->\nafter\n")
    assert _run(page, REPORT).returncode == 0
    once = page.read_text()
    assert once.startswith(f"before\n{other}{place}")
    assert once.endswith("<!-- end -->\nafter\n")
    assert "| catch | 0.512 | - |\n| **mean of 1** | **0.500** | **-** |" in once
    assert "Model `mine` (SHA-256 `0123456789ab`), preset `plain`" in once
    assert "old" not in once
    assert _run(page, REPORT).returncode == 0
    assert page.read_text() == once


def test_a_page_without_a_place_for_it_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- jhmdb plain -->\nold\n<!-- end -->\n")
    ran = _run(page, {**REPORT, "preset": {"name": "fast"}})
    assert ran.returncode == 1
    assert "<!-- jhmdb fast -->" in ran.stderr
    assert "old" in page.read_text()


def test_the_page_itself_has_a_place_for_every_table() -> None:
    text = (TOOL.parents[1] / "docs" / "accuracy.md").read_text()
    for mark in ("<!-- davis plain -->", "<!-- jhmdb plain -->", "<!-- boxes plain -->"):
        assert text.count(mark) == 1
    assert len(re.findall(r"<!-- \w+ \w+(?: \w+)? -->", text)) == text.count("<!-- end -->")
