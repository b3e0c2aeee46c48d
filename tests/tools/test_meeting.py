from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from model.rendered import render_clip

from ..datasets import write_davis

TOOLS = Path(__file__).parents[2] / "tools"


def test_a_run_compares_the_ways_and_puts_the_table_in_its_place(tmp_path: Path) -> None:
    root, page = tmp_path / "davis", tmp_path / "page.md"
    write_davis(root, "ant", render_clip(width=64, height=48, frame_count=7), single=True)
    page.write_text("<!-- meeting plain -->\nold\n<!-- end -->\n")
    command = [sys.executable, str(TOOLS / "meeting.py"), "--davis", str(root), "--workers", "1", "--page", str(page)]
    ran = subprocess.run([*command, "--preset", "plain"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| davis (1)")]
    assert [row[1] for row in rows] == ["2", "3"]
    assert all(0.3 < float(value) <= 1 for row in rows for value in row[2:5])
    assert all(near >= far for near, far in zip(rows[1][2:5], rows[0][2:5], strict=True))


def test_one_anchor_is_refused(tmp_path: Path) -> None:
    write_davis(tmp_path, "ant", render_clip(width=64, height=48, frame_count=3), single=True)
    command = [sys.executable, str(TOOLS / "meeting.py"), "--davis", str(tmp_path), "--anchors", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "between fewer than 2" in ran.stderr


def test_the_page_has_a_place_for_it() -> None:
    assert (TOOLS.parent / "docs" / "accuracy.md").read_text().count("<!-- meeting balanced -->") == 1
