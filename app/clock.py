"""The one clock for stored documents: UTC, in whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, UTC, cut to milliseconds so that it survives a round trip through Redis unchanged."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def from_ms(milliseconds: int | str) -> datetime:
    """The moment that Redis scripts store as whole milliseconds since 1970."""
    seconds, rest = divmod(int(milliseconds), 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)
