"""The Celery application of the workers: `celery -A worker.celery_app worker -Q gpu -n gpu@%h`.

The main process takes messages, gives signs of life and sweeps; it never imports torch. One child does the work, so
that it can die without taking the rest along; CUDA is touched only there.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import SecurityWarning, TimeLimitExceeded, WorkerLostError
from redis import RedisError

from app import clock
from app.celery_config import PROPAGATE, celery_config
from app.connection import RedisMissingError, connect
from app.processes import die_with_parent
from app.records.workers import WorkerRecord, Workers
from app.settings import settings
from app.storage import LocalStore
from worker.reaper import Reaper
from worker.resources import resources

log = logging.getLogger(__name__)

_ABANDONED_S = 24 * 3600.0
_SWEEP_FILES_EVERY_S = 3600.0


def _application() -> Celery:
    url = settings().redis_url
    if url is None:
        raise RedisMissingError("A worker needs a Redis. Set REDIS_URL, or start everything with `labelprop serve`.")
    # It warns of running as root because a message could be unpickled; ours are JSON and nothing else is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    application = Celery("labelprop", include=["worker.tasks.propagate", "worker.tasks.export"])
    application.conf.update(celery_config(url))
    application.steps["consumer"].add(Pulse)
    return application


class Pulse(bootsteps.StartStopStep):
    """Signs of life and sweeps, from the consumer: it starts once messages are taken and stops when they are not."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._next_file_sweep = 0.0

    def start(self, consumer: Any) -> None:
        """Begins to beat."""
        self._resources = resources()
        self._reaper = Reaper(self._resources)
        queues = sorted(queue.name for queue in consumer.task_consumer.queues)
        node = consumer.hostname
        self._record = WorkerRecord(node=node, queues=queues, pid=os.getpid(), started_at=clock.now())
        self._quietly(lambda: self._resources.workers.undrain(node))
        self._quietly(lambda: self._reaper.reclaim(node))
        self._beat()
        self._timer = consumer.timer.call_repeatedly(self._resources.settings.heartbeat_s, self._beat)

    def stop(self, consumer: Any) -> None:
        """Stops beating and says so."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._quietly(lambda: self._resources.workers.gone(consumer.hostname))

    def _beat(self) -> None:
        self._quietly(lambda: self._resources.workers.beat(self._record))
        self._quietly(self._reaper.sweep)
        store = self._resources.store
        if isinstance(store, LocalStore) and time.monotonic() >= self._next_file_sweep:
            self._next_file_sweep = time.monotonic() + _SWEEP_FILES_EVERY_S
            store.sweep(_ABANDONED_S)

    @staticmethod
    def _quietly(action: Any) -> None:
        # An exception here would end the worker's loop; the next beat tries again.
        try:
            action()
        except RedisError as error:
            log.warning("Redis cannot be reached: %s", error)
        except Exception:
            log.exception("a sweep failed")


app = _application()

_main_process = os.getpid()


@signals.worker_process_init.connect
def _bind_child(**_: Any) -> None:
    """A child whose main process dies would go on working with nobody to answer for it."""
    die_with_parent(_main_process)


@signals.worker_shutting_down.connect
def _let_go(sender: str, **_: Any) -> None:
    """The first thing on SIGTERM, so that the running job stops at its next frame and goes back to the queue.

    This runs inside a signal handler, so it opens a connection of its own.
    """
    try:
        with connect(settings().redis_url) as client:
            Workers(client).drain(sender)
    except RedisError as error:
        log.warning("Redis cannot be reached: %s", error)


@signals.task_failure.connect
def _child_died(sender: Any, exception: BaseException, args: Any, **_: Any) -> None:
    """The main process has seen a child die: its job need not wait for the lease to run out."""
    if sender.name != PROPAGATE or not isinstance(exception, (WorkerLostError, TimeLimitExceeded)):
        return
    try:
        Reaper(resources()).child_died(args[0], args[1], sender.request.hostname)
    except RedisError as error:
        log.warning("Redis cannot be reached, the reaper will do it: %s", error)
