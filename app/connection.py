"""The one place that opens Redis. Only commands of Redis 6.2 are used.

Two spellings of one address: redis-py writes a Unix socket as `unix:///path?db=0`, Celery as
`redis+socket:///path?virtual_host=0`. Settings use redis-py's; `broker_url` translates.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from app.settings import settings

_CONNECT_TIMEOUT_S = 5.0
_REPLY_TIMEOUT_S = 10.0


class RedisMissingError(RuntimeError):
    """No Redis is configured in this process."""


def connect(url: str | None = None) -> redis.Redis:
    """A client whose replies are text, safe to share between threads and to use after a fork.

    Args:
        url: `redis://`, `rediss://` or `unix://`; None takes the one in the settings.

    Raises:
        RedisMissingError: neither the argument nor the settings name a Redis.
    """
    url = url or settings().redis_url
    if url is None:
        raise RedisMissingError("No Redis is set. Start everything with `labelprop serve`, or set REDIS_URL.")
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        # RESP2 keeps the handshake to what every server from 6.2 on understands.
        protocol=2,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=_REPLY_TIMEOUT_S,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
    )


def broker_url(url: str) -> str:
    """The same Redis as Celery spells it."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    database = query.pop("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode({'virtual_host': database, **query})}"
