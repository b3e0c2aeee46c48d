"""Puts results into docs/accuracy.md: `python tools/accuracy.py FILE.json ...`.

The files are those of `labelprop evaluate --json`. A file's table goes where the page says
`<!-- BENCHMARK PRESET -->`, up to the next `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from page import placed

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
_MOST_ROWS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: %(default)s")
    args = parser.parse_args()
    text = args.page.read_text()
    for path in args.files:
        report = json.loads(path.read_text())
        text = placed(text, f"{report['benchmark']} {report['preset']['name']}", _table(report))
    args.page.write_text(text)


def _table(report: Mapping[str, Any]) -> str:
    columns = list(report["mean"])
    rows = [("sequence", *columns), ("---", *["---"] * len(columns))]
    if len(report["sequences"]) <= _MOST_ROWS:
        rows += [(each["name"], *_cells(each, columns)) for each in report["sequences"]]
    means = [f"**{cell}**" for cell in _cells(report["mean"], columns)]
    rows.append((f"**mean of {len(report['sequences'])}**", *means))
    model = report["model"]
    return (
        f"Model `{model['name']}` (SHA-256 `{model['sha256'][:12]}`), preset `{report['preset']['name']}`, "
        f"{report['precision']} on {report['device']}, {report['frames']} frames.\n\n"
    ) + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(numbers: Mapping[str, Any], columns: list[str]) -> list[str]:
    return ["-" if numbers[name] is None else f"{numbers[name]:.3f}" for name in columns]


if __name__ == "__main__":
    main()
