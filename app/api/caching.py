"""Entity tags."""

from __future__ import annotations

from fastapi import Request


def not_modified(request: Request, etag: str) -> bool:
    """Whether the request's `If-None-Match` names this tag, weakly compared (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags
