"""Sending work to the workers: by name, so that nothing of them is imported.

Sending is a hint, not a promise. The record in Redis is written first and is what counts; a message that is lost is
sent again by the reaper, and one that comes twice finds the lease taken.
"""

from __future__ import annotations

import base64
import json
import secrets

import redis
from celery import Celery

from app.celery_config import CPU_QUEUE, EXPORT, GPU_QUEUE, PROPAGATE, celery_config


class Queue:
    """A sender of messages.

    Args:
        redis_url: the broker, spelt as redis-py does.
    """

    def __init__(self, redis_url: str) -> None:
        self._celery = Celery("labelprop", set_as_current=False)
        self._celery.conf.update(celery_config(redis_url))
        # A caller waits for the answer: fail within seconds, the reaper sends later.
        self._celery.conf.task_publish_retry_policy = {"max_retries": 2, "interval_start": 0.1, "interval_max": 0.5}

    def propagate(self, owner: str, job_id: str) -> None:
        """Sends a queued job to the `gpu` queue."""
        self._send(PROPAGATE, [owner, job_id], GPU_QUEUE)

    def export(self, owner: str, job_id: str, name: str) -> None:
        """Sends the building of one export to the `cpu` queue."""
        self._send(EXPORT, [owner, job_id, name], CPU_QUEUE)

    def close(self) -> None:
        """Lets the broker connections go."""
        self._celery.close()

    def _send(self, task: str, args: list[str], queue: str) -> None:
        self._celery.send_task(task, args=args, queue=queue, task_id=f"{args[1]}.{secrets.token_hex(4)}")


def waiting_jobs(client: redis.Redis) -> set[tuple[str, str]]:
    """Owner and id of every job whose message lies in the `gpu` queue, taken by nobody yet."""
    found = set()
    for message in client.lrange(GPU_QUEUE, 0, -1):
        args = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
        found.add((args[0], args[1]))
    return found
