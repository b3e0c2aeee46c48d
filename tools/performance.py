"""Puts results into docs/performance.md: `python tools/performance.py NAME=FILE.json ...`.

The files are those of `labelprop bench --json`. A file's tables go where the page says `<!-- bench NAME -->`, up to the
next `<!-- end -->`; `labelprop bench --markdown NAME` prints the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from page import replaced

from worker.speed.tables import markdown

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="NAME=FILE.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: %(default)s")
    args = parser.parse_args()
    text = args.page.read_text()
    for each in args.files:
        name, equals, path = each.partition("=")
        if not equals:
            raise SystemExit(f"{each!r} should be NAME=FILE.json, NAME as the page has it.")
        text = replaced(text, f"bench {name}", markdown(json.loads(Path(path).read_text()), name))
    args.page.write_text(text)


if __name__ == "__main__":
    main()
