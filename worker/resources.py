"""What a worker process works with, made once per process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

import redis

from app.connection import connect
from app.queue import Queue
from app.records.exports import Exports
from app.records.jobs import Jobs
from app.records.leases import Leases
from app.records.videos import Videos
from app.records.workers import Workers
from app.settings import Settings, settings
from app.storage import LocalStore, Store


@dataclass(frozen=True)
class Resources:
    """The records, the store and the queue, on one Redis."""

    settings: Settings
    redis: redis.Redis
    store: Store
    videos: Videos
    jobs: Jobs
    leases: Leases
    exports: Exports
    workers: Workers
    queue: Queue

    @classmethod
    def of(cls, settings: Settings) -> Resources:
        """The resources that these settings name; raises RedisMissingError where they name no Redis."""
        client = connect(settings.redis_url)
        return cls(
            settings=settings,
            redis=client,
            store=LocalStore(settings.store_dir),
            videos=Videos(client),
            jobs=Jobs(client),
            leases=Leases(client, ttl_s=settings.lease_ttl_s, max_attempts=settings.max_attempts),
            exports=Exports(client, ttl_s=settings.lease_ttl_s, max_attempts=settings.max_attempts),
            workers=Workers(client, ttl_s=max(settings.lease_ttl_s, 3 * settings.heartbeat_s)),
            queue=Queue(settings.redis_url or ""),
        )


def resources() -> Resources:
    """This process's resources, on the settings of its environment."""
    return _resources(os.getpid())


@lru_cache(maxsize=1)
def _resources(pid: int) -> Resources:
    # The process id is the key, so that a forked child never shares its parent's connections.
    return Resources.of(settings())
