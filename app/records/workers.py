"""Workers that live: each says so every few seconds, from the loop that takes its messages."""

from __future__ import annotations

from datetime import datetime

import redis
from pydantic import BaseModel, ConfigDict, Field

from app import clock
from app.records import keys


class WorkerRecord(BaseModel):
    """What a worker says about itself.

    Attributes:
        node: its Celery node name, `gpu@host` for example.
        queues: the queues that it serves.
        pid: its process id, on its own machine.
        started_at: when it began to take messages.
    """

    model_config = ConfigDict(frozen=True)

    node: str
    queues: list[str]
    pid: int
    started_at: datetime = Field(default_factory=clock.now)


class Workers:
    """Signs of life.

    Args:
        client: Redis.
        ttl_s: how long one holds.
    """

    def __init__(self, client: redis.Redis, *, ttl_s: float = 15.0) -> None:
        self._redis = client
        self._ttl_s = ttl_s

    def beat(self, record: WorkerRecord) -> None:
        """Says that the worker lives."""
        with self._redis.pipeline() as pipe:
            pipe.set(keys.worker(record.node), record.model_dump_json(), px=int(self._ttl_s * 1000))
            pipe.sadd(keys.WORKERS, record.node)
            pipe.execute()

    def gone(self, node: str) -> None:
        """Says that the worker has stopped."""
        with self._redis.pipeline() as pipe:
            # What asks its job to let go stays: the job may still be on its way to the next frame.
            pipe.delete(keys.worker(node))
            pipe.srem(keys.WORKERS, node)
            pipe.execute()

    def live(self) -> list[WorkerRecord]:
        """The workers that said so lately, by name."""
        nodes = sorted(map(str, self._redis.smembers(keys.WORKERS)))
        texts = self._redis.mget([keys.worker(node) for node in nodes]) if nodes else []
        silent = [node for node, text in zip(nodes, texts, strict=True) if text is None]
        if silent:
            self._redis.srem(keys.WORKERS, *silent)
        return [WorkerRecord.model_validate_json(text) for text in texts if text is not None]

    def drain(self, node: str, for_s: float = 60.0) -> None:
        """Asks whatever job runs in that worker to be let go at its next frame, for the next `for_s` seconds."""
        self._redis.set(keys.draining(node), "1", px=int(for_s * 1000))

    def undrain(self, node: str) -> None:
        """Takes `drain` back: a worker of that name starts anew."""
        self._redis.delete(keys.draining(node))

    def draining(self, node: str) -> bool:
        """Whether that worker is to let go of its job."""
        return bool(self._redis.exists(keys.draining(node)))
