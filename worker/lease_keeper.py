"""Keeps the lease of a running job: a thread renews it, and each frame asks what to do next.

Three things can go wrong, and each ends the attempt: another worker got the job (the fencing token is old), Redis
cannot be reached for as long as the lease holds (then another may have it), or no frame is finished for too long (then
this process is stuck in a way that no exception ends, and it kills itself; the attempt counts).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable

import redis

from app.records.leases import Lease, Leases, Signal

log = logging.getLogger(__name__)

_WRITE_EVERY_S = 0.25
_WINDOW_S = 10.0


class LeaseKeeper:
    """Holds one lease while the block runs.

    Args:
        leases: the records.
        lease: what `Leases.claim` returned.
        stall_timeout_s: how long a frame may take, the first one with the loading of the model included.
        on_stall: called in the keeper's thread when one takes longer; it is not expected to return.
    """

    def __init__(
        self, leases: Leases, lease: Lease, *, stall_timeout_s: float, on_stall: Callable[[], None] | None = None
    ) -> None:
        self.lease = lease
        self._leases = leases
        self._stall_timeout_s = stall_timeout_s
        self._on_stall = on_stall or _kill_this_process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
        self._pace = Pace()
        moment = time.monotonic()
        self._valid_until = moment + leases.ttl_s
        self._last_frame = moment
        self._last_write = -1.0
        self._unwritten: tuple[int, float | None] | None = None
        self._lost = False

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._unwritten is not None and not self._lost:
            # So that a job that ends here is known to be exactly as far as it came.
            frames_done, fps = self._unwritten
            self._ask(lambda: self._leases.progress(self.lease, frames_done, fps), renews=True)

    def progress(self, steps_done: int, steps_total: int, frames_done: int) -> Signal:
        """Says after each frame how far the job is, and learns what to do next.

        Progress is written a few times a second; the question is asked every time.

        Args:
            steps_done: frames that the network has worked through, both directions counted.
            steps_total: how many that will be.
            frames_done: frames with a final result.
        """
        now = time.monotonic()
        self._last_frame = now
        fps, eta = self._pace.step(now, steps_done, steps_total)
        if self._lost:
            return Signal.LOST
        if now - self._last_write < _WRITE_EVERY_S:
            self._unwritten = (frames_done, fps)
            return self._ask(lambda: self._leases.look(self.lease), renews=False)
        self._last_write, self._unwritten = now, None
        return self._ask(lambda: self._leases.progress(self.lease, frames_done, fps, eta), renews=True)

    def checkpointed(self) -> Signal:
        """Says that the job got on for good."""
        kept = self._ask(lambda: Signal.CONTINUE if self._leases.checkpointed(self.lease) else Signal.LOST, renews=True)
        return Signal.LOST if self._lost else kept

    def _ask(self, question: Callable[[], Signal], *, renews: bool) -> Signal:
        asked_at = time.monotonic()
        try:
            answer = question()
        except redis.RedisError as error:
            if time.monotonic() >= self._valid_until:
                log.warning("Redis cannot be reached and the lease of %s has run out: %s", self.lease.job_id, error)
                self._lost = True
                return Signal.LOST
            return Signal.CONTINUE
        if answer is Signal.LOST:
            self._lost = True
        elif renews:
            # From before the question: the answer may have been long on its way.
            self._valid_until = max(self._valid_until, asked_at + self._leases.ttl_s)
        return answer

    def _keep(self) -> None:
        while not self._ended.wait(self._leases.ttl_s / 4):
            if time.monotonic() - self._last_frame > self._stall_timeout_s:
                log.error("no frame of %s was finished in %.0f s", self.lease.job_id, self._stall_timeout_s)
                self._on_stall()
                return
            self._ask(lambda: Signal.CONTINUE if self._leases.renew(self.lease) else Signal.LOST, renews=True)


class Pace:
    """Frames a second and the time left, from the last seconds of work."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def step(self, now: float, done: int, total: int) -> tuple[float | None, float | None]:
        """Takes note that `done` of `total` steps are done; returns steps a second and seconds left, once known."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        (since, before) = self._seen[0]
        if done <= before or now <= since:
            return None, None
        rate = (done - before) / (now - since)
        return rate, max(0, total - done) / rate


def _kill_this_process() -> None:
    # The thread that is stuck may be deep in native code: nothing softer than SIGKILL is sure to end it.
    os.kill(os.getpid(), signal.SIGKILL)
