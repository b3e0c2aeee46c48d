"""Pages of lists: newest first, by sequence number, so that records made meanwhile never shift a page."""

from __future__ import annotations

from typing import Any

import redis


class BadCursorError(ValueError):
    """A cursor that no list has given out."""


def page(client: redis.Redis, index: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
    """The ids of one page of the sorted set `index`, highest sequence number first, and the next page's cursor.

    Args:
        client: Redis.
        index: a sorted set of ids by unique sequence number.
        cursor: where the page before ended, as this function returned it; None starts at the newest.
        limit: how many ids at most, 1 or more.

    Raises:
        BadCursorError: `cursor` is not of this function's making.
    """
    highest = "+inf"
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 16):
            raise BadCursorError(f"{cursor!r} is not a cursor of this list; leave it out to start at the newest")
        highest = f"({cursor}"
    found: Any = client.zrange(
        index, highest, "-inf", desc=True, byscore=True, offset=0, num=limit + 1, withscores=True
    )
    ids = [str(member) for member, _ in found[:limit]]
    following = str(int(found[limit - 1][1])) if len(found) > limit else None
    return ids, following
