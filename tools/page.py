"""Where measured tables go on the pages of docs/: between `<!-- NAME -->` and the next `<!-- end -->`."""

from __future__ import annotations

import re


def placed(text: str, name: str, block: str) -> str:
    """The page with `block` in the place called `name`.

    Raises:
        SystemExit: the page does not have that place once.
    """
    return replaced(text, name, f"<!-- {name} -->\n{block}\n<!-- end -->")


def replaced(text: str, name: str, whole: str) -> str:
    """The same with a block that carries its marks.

    Raises:
        SystemExit: as `placed`.
    """
    mark = f"<!-- {name} -->"
    pattern = re.compile(re.escape(mark) + r"\n.*?<!-- end -->", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"The page should say {mark} ... <!-- end --> once.")
    return pattern.sub(lambda _: whole, text)
