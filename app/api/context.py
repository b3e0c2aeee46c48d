"""What every endpoint works with: made once per application, handed in by dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis import Redis

from app.media import MediaDesk
from app.problems import Problem
from app.queue import Queue
from app.records.exports import Exports
from app.records.jobs import JobRecord, Jobs
from app.records.videos import VideoRecord, Videos
from app.records.workers import Workers
from app.settings import Settings
from app.storage import LocalStore, Store


@dataclass(frozen=True)
class Context:
    """The service as the API sees it."""

    settings: Settings
    redis: Redis
    store: Store
    desk: MediaDesk
    videos: Videos
    jobs: Jobs
    exports: Exports
    workers: Workers
    queue: Queue

    @classmethod
    def of(cls, settings: Settings, client: Redis, queue: Queue) -> Context:
        """The context of these settings, on that Redis."""
        return cls(
            settings=settings,
            redis=client,
            store=LocalStore(settings.store_dir),
            desk=MediaDesk(settings.limits, timeout_s=settings.probe_timeout_s),
            videos=Videos(client),
            jobs=Jobs(client),
            exports=Exports(client),
            workers=Workers(client),
            queue=queue,
        )

    def video(self, owner: str, video_id: str) -> VideoRecord:
        """The record; raises `video-not-found`."""
        record = self.videos.get(owner, video_id)
        if record is None:
            raise Problem("video-not-found", "There is no video of this id. `GET /v1/videos` lists those there are.")
        return record

    def job(self, owner: str, job_id: str) -> JobRecord:
        """The record; raises `job-not-found`."""
        record = self.jobs.get(owner, job_id)
        if record is None:
            raise Problem("job-not-found", "There is no job of this id. `GET /v1/jobs` lists those there are.")
        return record


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def _owner() -> str:
    # Every key and path carries it; there is one owner until there are API keys.
    return "local"


Service = Annotated[Context, Depends(_context)]
Owner = Annotated[str, Depends(_owner)]
