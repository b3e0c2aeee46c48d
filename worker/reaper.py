"""Rescues jobs that nobody works on any more.

It runs in the main process of every worker, GPU and CPU alike, from the same loop that takes messages, every
`heartbeat_s`; a lock in Redis lets one worker sweep at a time. As long as any worker lives, a job whose worker died is
back in the queue after `lease_ttl_s` and one sweep.

- A lease that ran out: the job goes back to the queue, or ends `failed` when its attempts are used up. Nobody waits for
  that where the death is known: a worker reports its own child's, and one that starts again its predecessor's.
- A queued job that nobody claimed for `resend_after_s` and whose message is not in the queue: the message was lost (the
  API died before it sent it, or a worker took it and died before the claim), and is sent again. Where it was only slow,
  the job has two messages, and the second finds the lease taken.
"""

from __future__ import annotations

import logging
import time

from app.processes import is_alive
from app.queue import waiting_jobs
from app.records import keys
from app.records.leases import Reaped
from worker.attempt import exhausted, settle
from worker.resources import Resources

log = logging.getLogger(__name__)


class Reaper:
    """Sweeps, when it is this worker's turn."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._next_look = 0.0

    def sweep(self) -> list[Reaped]:
        """One sweep, unless another worker swept just now. Returns the jobs whose lease had run out."""
        settings = self._resources.settings
        turn_ms = int(settings.heartbeat_s * 900)
        if not self._resources.redis.set(keys.REAPER_LOCK, "1", nx=True, px=turn_ms):
            return []
        reaped = [found for owner, job_id in self._resources.leases.expired() if (found := self._reap(owner, job_id))]
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + settings.resend_after_s
            self._resend()
        return reaped

    def reclaim(self, node: str) -> list[Reaped]:
        """Takes the jobs of processes of this very worker that are dead: it was killed, and starts again."""
        running = self._resources.leases.running()
        return [found for owner, job_id in running if (found := self.child_died(owner, job_id, node))]

    def child_died(self, owner: str, job_id: str, node: str) -> Reaped | None:
        """Takes a job from a child of this worker that is dead, without waiting for its lease to run out.

        Args:
            owner: whose job.
            job_id: which job.
            node: this worker's name.
        """
        holder = self._resources.leases.holder(owner, job_id)
        if holder is None:
            return None
        held_by, _, pid = holder.rpartition("/")
        if held_by != node or is_alive(int(pid)):
            return None
        reason = "the process that worked on it was killed"
        found = self._resources.leases.reap_dead(owner, job_id, holder, reason, exhausted(reason))
        return self._told(found)

    def _reap(self, owner: str, job_id: str) -> Reaped | None:
        reason = "its worker fell silent (killed, frozen, or cut off from Redis)"
        return self._told(self._resources.leases.reap(owner, job_id, reason, exhausted(reason)))

    def _told(self, reaped: Reaped | None) -> Reaped | None:
        if reaped is not None:
            log.warning("job %s was taken from a worker that is gone; it is %s now", reaped.job_id, reaped.status)
            if reaped.status == "queued":
                self._resources.queue.propagate(reaped.owner, reaped.job_id)
            else:
                settle(self._resources, reaped.owner, reaped.job_id)
        return reaped

    def _resend(self) -> None:
        overdue = self._resources.leases.unclaimed(self._resources.settings.resend_after_s)
        if not overdue:
            return
        waiting = waiting_jobs(self._resources.redis)
        for owner, job_id in overdue:
            if (owner, job_id) not in waiting:
                log.warning("job %s: its message was lost, sending it again", job_id)
                self._resources.queue.propagate(owner, job_id)
            self._resources.leases.sent(owner, job_id)
