"""Leases: which worker may run a job, fenced so that it can never be two.

A lease is a token, higher than every one before it, and a deadline by Redis's clock that its holder keeps moving. All
that a worker writes about a job carries the token and is refused once the job has none or another. A holder that stays
silent past the deadline loses the job to the reaper, which puts it back into the queue.

Attempts are counted at the claim, before anything can go wrong, and counted back to zero at every new checkpoint: a job
that gets on may be interrupted for ever, one that does not ends `failed` after `max_attempts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import redis

from app.records import keys
from app.records.jobs import Status
from app.records.scripts import PRELUDE

Final = Literal["succeeded", "failed", "cancelled"]


class Signal(Enum):
    """What a running job must do next."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"


@dataclass(frozen=True)
class Lease:
    """The right to run a job, until it runs out.

    Attributes:
        owner: whose job.
        job_id: which job.
        worker: the process that holds it, as `node/pid`.
        node: the Celery worker that the process belongs to.
        token: the fencing token.
        attempt: how often the job was started, this time included.
        stalled: how many attempts in a row made no checkpoint, this one included.
    """

    owner: str
    job_id: str
    worker: str
    node: str
    token: int
    attempt: int
    stalled: int


@dataclass(frozen=True)
class Reaped:
    """What became of a job whose lease ran out."""

    owner: str
    job_id: str
    status: Status


class Leases:
    """Claims, renewals and ends of leases. Every method is one round trip.

    Args:
        client: Redis.
        ttl_s: how long a lease holds without a renewal.
        max_attempts: how many attempts in a row without a checkpoint a job gets.
    """

    def __init__(self, client: redis.Redis, *, ttl_s: float = 15.0, max_attempts: int = 3) -> None:
        self._redis = client
        self.ttl_s = ttl_s
        self.max_attempts = max_attempts
        self._ttl_ms = int(ttl_s * 1000)
        scripts = {
            "claim": _CLAIM,
            "progress": _PROGRESS,
            "finish": _FINISH,
            "requeue": _REQUEUE,
            "reap": _REAP,
            "settle": _SETTLE,
        }
        self._scripts: dict[str, Callable[..., Any]] = {
            name: client.register_script(PRELUDE + text) for name, text in scripts.items()
        }

    def claim(self, owner: str, job_id: str, worker: str) -> Lease | None:
        """The lease on a queued job, or on a running one whose lease ran out; None where another has it or it is final.

        Args:
            owner: whose job.
            job_id: which job.
            worker: the claiming process, as `node/pid`.
        """
        found = self._scripts["claim"](args=[owner, job_id, worker, self._ttl_ms, self.max_attempts])
        if found is None:
            return None
        token, attempt, stalled = map(int, found)
        node = worker.rsplit("/", 1)[0]
        return Lease(owner, job_id, worker, node, token=token, attempt=attempt, stalled=stalled)

    def renew(self, lease: Lease) -> bool:
        """Moves the deadline; False once the lease is lost."""
        return self._progress(lease) is not Signal.LOST

    def progress(
        self, lease: Lease, frames_done: int, fps: float | None = None, eta_seconds: float | None = None
    ) -> Signal:
        """Records progress, moves the deadline and says what to do next."""
        fields = {"frames_done": frames_done, "fps": _number(fps), "eta_seconds": _number(eta_seconds)}
        return self._progress(lease, fields)

    def look(self, lease: Lease) -> Signal:
        """What to do next, written nowhere: cheap enough to ask after every frame."""
        return self._progress(lease, write=False)

    def checkpointed(self, lease: Lease) -> bool:
        """Notes that the job got on for good: earlier attempts no longer count against it. False once lost."""
        return self._progress(lease, {"stalled": 0}) is not Signal.LOST

    def finish(self, lease: Lease, status: Final, error: Mapping[str, Any] | None = None) -> bool:
        """Ends the job; a cancel that was accepted meanwhile turns `succeeded` into `cancelled`. False once lost."""
        problem = "" if error is None else json.dumps(error)
        return bool(self._scripts["finish"](args=[*_identity(lease), status, problem]))

    def release(self, lease: Lease) -> Status | None:
        """Gives the job back to the queue without counting the attempt (the worker drains). None once lost.

        The caller sends the message; if it dies before it can, the reaper does.
        """
        return self._scripts["requeue"](args=[*_identity(lease), 1, "", self.max_attempts, ""])

    def give_up(self, lease: Lease, reason: str, exhausted: Mapping[str, Any]) -> Status | None:
        """Ends a failed attempt: the job goes back to the queue, or ends `failed` when its attempts are used up.

        Args:
            lease: the attempt.
            reason: what went wrong, in a sentence fit for the caller's eyes.
            exhausted: the problem document of the job if this was its last attempt.

        Returns:
            `queued` (the caller sends the message), `failed`, `cancelled`, or None once lost.
        """
        return self._scripts["requeue"](args=[*_identity(lease), 0, reason, self.max_attempts, json.dumps(exhausted)])

    def holder(self, owner: str, job_id: str) -> str | None:
        """The process that holds the lease, as `node/pid`; None where nobody does."""
        found = self._redis.hget(keys.job(owner, job_id), "worker")
        return None if found is None else str(found)

    def running(self, limit: int = 1000) -> list[tuple[str, str]]:
        """Owner and id of jobs that somebody holds a lease on."""
        return _members(self._redis.zrange(keys.LEASES, 0, limit - 1))

    def expired(self, limit: int = 100) -> list[tuple[str, str]]:
        """Owner and id of running jobs whose lease has run out."""
        return _members(self._redis.zrange(keys.LEASES, "-inf", self._now(), byscore=True, offset=0, num=limit))

    def reap(self, owner: str, job_id: str, reason: str, exhausted: Mapping[str, Any]) -> Reaped | None:
        """Takes a job from a holder that fell silent, as `give_up` does; None where its lease holds after all."""
        args = [owner, job_id, "", reason, self.max_attempts, json.dumps(exhausted)]
        status = self._scripts["reap"](args=args)
        return None if status is None else Reaped(owner, job_id, status)

    def reap_dead(
        self, owner: str, job_id: str, worker: str, reason: str, exhausted: Mapping[str, Any]
    ) -> Reaped | None:
        """As `reap`, before the lease has run out, from a process known to be dead; None where another has the job."""
        args = [owner, job_id, worker, reason, self.max_attempts, json.dumps(exhausted)]
        status = self._scripts["reap"](args=args)
        return None if status is None else Reaped(owner, job_id, status)

    def settle(self, owner: str, job_id: str, frames_done: int) -> None:
        """Corrects the progress of a job that was ended from outside: `frames_done` is what the store has."""
        self._scripts["settle"](args=[owner, job_id, frames_done])

    def unclaimed(self, older_than_s: float, limit: int = 10_000) -> list[tuple[str, str]]:
        """Owner and id of queued jobs whose message was sent longer ago than that, longest first."""
        before = self._now() - int(older_than_s * 1000)
        return _members(self._redis.zrange(keys.QUEUED, "-inf", before, byscore=True, offset=0, num=limit))

    def sent(self, owner: str, job_id: str) -> None:
        """Notes that a queued job's message was sent just now."""
        self._redis.zadd(keys.QUEUED, {f"{owner}/{job_id}": self._now()}, xx=True)

    def _progress(self, lease: Lease, fields: Mapping[str, Any] | None = None, *, write: bool = True) -> Signal:
        pairs = [item for pair in (fields or {}).items() for item in pair]
        args = [*_identity(lease), self._ttl_ms if write else 0, keys.draining(lease.node), *pairs]
        return Signal(self._scripts["progress"](args=args))

    def _now(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def _identity(lease: Lease) -> list[str | int]:
    return [lease.owner, lease.job_id, lease.token]


def _members(found: Any) -> list[tuple[str, str]]:
    return [(owner, job_id) for owner, _, job_id in (member.partition("/") for member in found)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


_CLAIM = """
load(ARGV[1], ARGV[2])
local status = redis.call('HGET', job, 'status')
if status == 'running' then
  local deadline = redis.call('ZSCORE', LEASES, member)
  if deadline and tonumber(deadline) > tonumber(now()) then return nil end
  -- One that used its attempts up, or was asked to stop, is the reaper's to end.
  if tonumber(redis.call('HGET', job, 'stalled')) >= tonumber(ARGV[5]) then return nil end
  if redis.call('HGET', job, 'cancel_requested') == '1' then return nil end
elseif status ~= 'queued' then
  return nil
end
local token = redis.call('INCR', FENCE)
move('running')
redis.call('HSET', job, 'token', token, 'worker', ARGV[3])
redis.call('HSETNX', job, 'started_at', now())
redis.call('ZREM', QUEUED, member)
redis.call('ZADD', LEASES, now(ARGV[4]), member)
return {token, redis.call('HINCRBY', job, 'attempts', 1), redis.call('HINCRBY', job, 'stalled', 1)}
"""

# ARGV: owner, id, token, time to live (0 writes nothing), the key that says the worker drains, then fields and values.
_PROGRESS = """
load(ARGV[1], ARGV[2])
if redis.call('HGET', job, 'token') ~= ARGV[3] then return 'lost' end
if ARGV[4] ~= '0' then
  redis.call('ZADD', LEASES, now(ARGV[4]), member)
  for i = 6, #ARGV, 2 do redis.call('HSET', job, ARGV[i], ARGV[i + 1]) end
end
if redis.call('HGET', job, 'cancel_requested') == '1' then return 'cancel' end
if redis.call('EXISTS', ARGV[5]) == 1 then return 'drain' end
return 'continue'
"""

_FINISH = """
load(ARGV[1], ARGV[2])
if redis.call('HGET', job, 'token') ~= ARGV[3] then return 0 end
local status, problem = ARGV[4], ARGV[5]
if status == 'succeeded' then
  if redis.call('HGET', job, 'cancel_requested') == '1' then status = 'cancelled'
  else redis.call('HSET', job, 'frames_done', redis.call('HGET', job, 'frames_total')) end
end
if problem == '' then problem = nil end
finish(status, problem)
return 1
"""

_REQUEUE = """
load(ARGV[1], ARGV[2])
if redis.call('HGET', job, 'token') ~= ARGV[3] then return nil end
if ARGV[4] == '1' and redis.call('HGET', job, 'stalled') ~= '0' then redis.call('HINCRBY', job, 'stalled', -1) end
return requeue(ARGV[5], ARGV[6], ARGV[7])
"""

# ARGV[3] names a process known to be dead, or nothing: then the deadline decides.
_REAP = """
load(ARGV[1], ARGV[2])
if redis.call('HGET', job, 'status') ~= 'running' then
  redis.call('ZREM', LEASES, member)
  return nil
end
if ARGV[3] ~= '' then
  if redis.call('HGET', job, 'worker') ~= ARGV[3] then return nil end
else
  local deadline = redis.call('ZSCORE', LEASES, member)
  if deadline and tonumber(deadline) > tonumber(now()) then return nil end
end
return requeue(ARGV[4], ARGV[5], ARGV[6])
"""

_SETTLE = """
load(ARGV[1], ARGV[2])
local status = redis.call('HGET', job, 'status')
if status == 'failed' or status == 'cancelled' then redis.call('HSET', job, 'frames_done', ARGV[3]) end
"""
