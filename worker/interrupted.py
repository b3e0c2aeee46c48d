"""How a run is asked to end before its last frame."""

from __future__ import annotations


class Interrupted(Exception):  # noqa: N818  (somebody asked for it)
    """Ends a run from within its `on_frame`.

    Attributes:
        keep: whether the results of the unfinished chunk are stored; not where another run may be at it already.
    """

    def __init__(self, reason: str, *, keep: bool) -> None:
        super().__init__(reason)
        self.keep = keep
