from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from worker.speed.tables import markdown

TOOL = Path(__file__).parents[2] / "tools" / "performance.py"
REPORT: dict[str, Any] = {
    "command": "labelprop bench",
    "processor": "A CPU",
    "runs": [
        {
            "width": 854, "height": 480, "objects": 1, "frames": 48, "preset": "plain", "model": "mine",
            "model_sha256": "0" * 64, "device": "cpu", "precision": "float32", "cores": 2, "torch": "2.0",
            "whole_fps": 8.0, "whole_vs_dense": None, "peak_memory_mib": 900.0, "peak_device_memory_mib": None,
            "stages_ms": {"decode": 1.0, "encode": 50.0, "affinity": 60.0, "upsample": 2.0, "store": 0.5},
            "bare_ms": {"products": 25.0, "top_k": 15.0}, "affinity_vs_bare": 1.5, "dense_ms": None, "flow": None,
            "J": None, "operations": {"matrix_rate": 1e12, "encoder": 4e10, "bare": 2e10, "affinity": 7e9},
        }
    ],
}  # fmt: skip


def _run(page: Path, name: str = "cpu") -> subprocess.CompletedProcess[str]:
    path = page.with_name("report.json")
    path.write_text(json.dumps(REPORT))
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    command = [sys.executable, str(TOOL), f"{name}={path}", "--page", str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_report_s_tables_go_to_their_place_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench gpu -->\nkept\n<!-- end -->\n<!-- bench cpu -->\nold\n<!-- end -->\nafter\n")
    assert _run(page).returncode == 0
    once = f"before\n<!-- bench gpu -->\nkept\n<!-- end -->\n{markdown(REPORT, 'cpu')}\nafter\n"
    assert page.read_text() == once
    assert _run(page).returncode == 0
    assert page.read_text() == once


def test_a_page_without_a_place_for_it_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- bench cpu -->\nold\n<!-- end -->\n")
    ran = _run(page, "tpu")
    assert ran.returncode == 1
    assert "<!-- bench tpu -->" in ran.stderr
    assert "old" in page.read_text()


def test_every_mark_of_the_page_itself_is_closed() -> None:
    text = (TOOL.parents[1] / "docs" / "performance.md").read_text()
    assert text.count("<!-- bench ") == text.count("<!-- end -->") == len(re.findall(r"<!-- bench [\w-]+ -->\n", text))
    assert text.count("<!-- bench cpu -->") == 1
