"""How our own annotations are known again in CVAT, so that a repeated run replaces them instead of doubling them.

Everything of an object carries one group, `GROUP + 1000 * object id`, and the source `auto`. The group stays through
edits, saves and reloads, holds an object's masks and its parts in several jobs together, and a page that counts groups
up from the highest it finds never makes another such number. CVAT's page turns the source to `semi-auto` once a person
edits the shape: such work is theirs, and left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.labels.types import MAX_OBJECT_ID

GROUP = 710_000_000
"""Added to a thousand times an object's id: the group of its annotations."""

SOURCE = "auto"
EDITED = "semi-auto"
_STRIDE = 1000


def group_of(object_id: int) -> int:
    """The group of an object's annotations."""
    return GROUP + _STRIDE * object_id


def object_of(group: int | None) -> int | None:
    """The object that a group stands for, or None where it is not one of ours."""
    object_id, rest = divmod((group or 0) - GROUP, _STRIDE)
    return object_id if rest == 0 and 1 <= object_id <= MAX_OBJECT_ID else None


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether an earlier run put this shape or track there, edited since or not."""
    return object_of(entry.get("group")) is not None and entry.get("source") in (SOURCE, EDITED)


def is_edited(entry: Mapping[str, Any]) -> bool:
    """Whether it is ours and a person has changed it."""
    return is_ours(entry) and entry.get("source") == EDITED
