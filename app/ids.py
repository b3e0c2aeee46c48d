"""Identifiers: random, prefixed by kind, never a client's name."""

from __future__ import annotations

import secrets

_BYTES = 10


def new_id(prefix: str) -> str:
    """A fresh identifier such as `v_3f2a...`: `prefix` and 80 random bits in hexadecimal.

    It is safe as a path segment and as part of a Redis key.
    """
    return prefix + secrets.token_hex(_BYTES)
