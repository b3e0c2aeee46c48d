"""The building of exports: asked for by the API, done by one worker at a time, tried again when that worker dies.

The built file in the store is the truth; this record only says what is under way, and it fades by itself. Nobody sweeps
exports: whoever waits for one polls, and a poll that finds the build dead or its message lost asks for it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import redis

from app.records import keys

_QUEUED_MS = 24 * 3600 * 1000
State = Literal["queued", "building", "failed"]


@dataclass(frozen=True)
class ExportState:
    """How far the building of an export is.

    Attributes:
        state: `queued`, `building` or `failed`.
        send: the caller has to send the message (`app.queue.Queue.export`).
        error: problem document of a failed build.
    """

    state: State
    send: bool = False
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class ExportLease:
    """The right to build one export, until it runs out."""

    key: str
    token: int


class Exports:
    """Requests for exports and the leases of those who build them.

    Args:
        client: Redis.
        ttl_s: how long a builder may be silent.
        resend_after_s: how long a request may stay unclaimed before its message counts as lost.
        max_attempts: how many builders may die on it before it counts as failed.
        forget_s: how long a record stays without a change; a failed export may be asked for anew after that.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        ttl_s: float = 15.0,
        resend_after_s: float = 30.0,
        max_attempts: int = 3,
        forget_s: float = 60.0,
    ) -> None:
        self._redis = client
        self._ttl_ms = int(ttl_s * 1000)
        self._resend_ms = int(resend_after_s * 1000)
        self._forget_ms = int(forget_s * 1000)
        # One that waits its turn is not forgotten because its caller polls rarely.
        self._queued_ms = max(self._forget_ms, _QUEUED_MS)
        self._max_attempts = max_attempts
        self._request = client.register_script(_REQUEST)
        self._claim = client.register_script(_CLAIM)
        self._renew: Callable[..., Any] = client.register_script(_RENEW)
        self._end: Callable[..., Any] = client.register_script(_END)

    def request(self, owner: str, job_id: str, revision: int, name: str) -> ExportState:
        """Asks for an export that is not in the store; asking again while it is under way changes nothing."""
        key = keys.export(owner, job_id, revision, name)
        args = [self._resend_ms, self._max_attempts, self._queued_ms]
        state, send, error = self._request(keys=[key], args=args)
        return ExportState(state, send=bool(send), error=json.loads(error) if error else None)

    def claim(self, owner: str, job_id: str, revision: int, name: str) -> ExportLease | None:
        """The right to build it; None where another builds it, or nobody asks for it any more."""
        key = keys.export(owner, job_id, revision, name)
        token = self._claim(keys=[key, keys.FENCE], args=[self._ttl_ms, self._forget_ms])
        return None if token is None else ExportLease(key, int(token))

    def renew(self, lease: ExportLease) -> bool:
        """Moves the deadline; False once the lease is lost."""
        return bool(self._renew(keys=[lease.key], args=[lease.token, self._ttl_ms, self._forget_ms]))

    def done(self, lease: ExportLease) -> bool:
        """Forgets the request, after the file was stored. False once lost."""
        return bool(self._end(keys=[lease.key], args=[lease.token, "done", "", 0, 0]))

    def failed(self, lease: ExportLease, error: Mapping[str, Any]) -> bool:
        """Ends the build with a problem document. False once lost."""
        return bool(self._end(keys=[lease.key], args=[lease.token, "failed", json.dumps(error), self._forget_ms, 0]))

    def release(self, lease: ExportLease) -> bool:
        """Puts the request back (the worker drains); the caller sends the message. False once lost."""
        return bool(self._end(keys=[lease.key], args=[lease.token, "queued", "", self._queued_ms, self._resend_ms]))

    def forget(self, owner: str, job_id: str) -> None:
        """Removes what is recorded for a job that is being deleted."""
        for key in self._redis.scan_iter(match=keys.export(owner, job_id, 0, "*").replace(":0:", ":*:")):
            self._redis.delete(key)


_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(ms) return string.format('%.0f', ms) end
"""

# Fields: state, deadline (of the message or of the builder), token, attempts, error.
_REQUEST = (
    _NOW
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'failed' then return {'failed', 0, redis.call('HGET', KEYS[1], 'error')} end
local attempts = tonumber(redis.call('HGET', KEYS[1], 'attempts') or '0')
if state and tonumber(redis.call('HGET', KEYS[1], 'deadline')) > now then return {state, 0, ''} end
if state == 'building' and attempts >= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  return {'failed', 0, ''}
end
redis.call('HDEL', KEYS[1], 'token')
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempts', attempts, 'deadline', text(now + ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'queued', 1, ''}
"""
)

_CLAIM = (
    _NOW
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' then return nil end
local token = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], 'state', 'building', 'token', token, 'deadline', text(now + ARGV[1]))
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1] + ARGV[2])
return token
"""
)

_RENEW = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'deadline', text(now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
return 1
"""
)

_END = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if ARGV[2] == 'done' then return redis.call('DEL', KEYS[1]) end
redis.call('HDEL', KEYS[1], 'token')
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'error', ARGV[3], 'deadline', text(now + ARGV[5]))
if ARGV[2] == 'queued' then redis.call('HINCRBY', KEYS[1], 'attempts', -1) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
)
