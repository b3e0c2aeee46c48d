"""Puts results into docs/performance.md: `python tools/performance.py NAME=FILE.json ...`.

The files are those of `labelprop bench --json`. A file's tables go where the page says `<!-- bench NAME -->`, up to the
next `<!-- end -->`; `labelprop bench --markdown NAME` prints the same.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        text = placed(text, name, json.loads(Path(path).read_text()))
    args.page.write_text(text)


def placed(text: str, name: str, report: Mapping[str, Any]) -> str:
    """The page with this report's tables.

    Raises:
        SystemExit: the page has no place for them.
    """
    mark = f"<!-- bench {name} -->"
    pattern = re.compile(re.escape(mark) + r"\n.*?<!-- end -->", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"The page should say {mark} ... <!-- end --> once.")
    return pattern.sub(lambda _: markdown(report, name), text)


if __name__ == "__main__":
    main()
