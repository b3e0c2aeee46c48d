"""What the backend for Label Studio remembers between two requests, so that a restart of the API loses none of it.

Projects as they were set up, which of our videos a task's file became, which job stands for which labels, and the
sessions of interactive tracking. Everything but a project fades by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import redis
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import LockError

from app.records import keys

SCHEMA_VERSION: Literal[1] = 1
_DAY_MS = 24 * 3600 * 1000
SESSION_MS = 30 * 60 * 1000
_FAILED_MS = 30_000


class ProjectRecord(BaseModel):
    """A project as Label Studio set it up.

    Attributes:
        label_config: its labelling configuration.
        options: options of jobs, from the "extra parameters" of the model's connection.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    label_config: str
    options: dict[str, Any] = Field(default_factory=dict)


class SessionRecord(BaseModel):
    """One interactive tracking: a job, and how far its frames were handed out.

    Attributes:
        task: Label Studio's task.
        job_id: our job.
        start, end: the frames of the job, `end` exclusive.
        forward, backward: the next frame to hand out in either direction; None where that direction is done.
        lost: for how many frames in a row the object has been gone, by direction.
        produced: how many frames were handed out.
        error: why it ended early.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    task: str
    job_id: str
    start: int
    end: int
    forward: int | None = None
    backward: int | None = None
    lost: dict[str, int] = Field(default_factory=dict)
    produced: int = 0
    error: str | None = None

    @property
    def handed_out(self) -> bool:
        """Whether nothing is left to hand out in either direction."""
        return self.forward is None and self.backward is None


class LabelStudioRecords:
    """The records of one owner.

    Args:
        client: Redis.
        owner: whose.
    """

    def __init__(self, client: redis.Redis, owner: str) -> None:
        self._redis = client
        self._owner = owner

    def set_project(self, project: str, record: ProjectRecord) -> None:
        """Remembers a project by its number."""
        self._redis.set(self._key("project", project), record.model_dump_json())

    def project(self, project: str) -> ProjectRecord | None:
        """The project, where it was ever set up."""
        text = self._redis.get(self._key("project", project))
        return None if text is None else ProjectRecord.model_validate_json(str(text))

    def media(self, source: str) -> dict[str, Any] | None:
        """What is known of a file: `{"video_id"}`, or the `{"problem"}` that fetching it ended with a moment ago."""
        text = self._redis.get(self._key("media", source))
        return None if text is None else dict(json.loads(str(text)))

    def set_media(self, source: str, video_id: str) -> None:
        """The file became this video of ours; asked for again after a day."""
        self._redis.set(self._key("media", source), json.dumps({"video_id": video_id}), px=_DAY_MS)

    def set_media_problem(self, source: str, problem: dict[str, Any]) -> None:
        """Fetching it failed; for a short while that is not tried again."""
        self._redis.set(self._key("media", source), json.dumps({"problem": problem}), px=_FAILED_MS)

    def forget_media(self, source: str) -> None:
        """The video is gone."""
        self._redis.delete(self._key("media", source))

    def begin_fetch(self, source: str, token: str, for_ms: int) -> bool:
        """Takes the right to fetch a file, until `for_ms` have passed; False where another has it."""
        return bool(self._redis.set(self._key("fetching", source), f"{token} 0", nx=True, px=for_ms))

    def keep_fetch(self, source: str, token: str, done: int, for_ms: int) -> bool:
        """Moves the deadline and says how many bytes are there; False once the right is lost."""
        key = self._key("fetching", source)
        if str(self._redis.get(key) or "").split(" ")[0] != token:
            return False
        self._redis.set(key, f"{token} {done}", px=for_ms)
        return True

    def end_fetch(self, source: str, token: str) -> None:
        """Gives the right back."""
        key = self._key("fetching", source)
        if str(self._redis.get(key) or "").split(" ")[0] == token:
            self._redis.delete(key)

    def fetched_bytes(self, source: str) -> int | None:
        """How many bytes of a file are there, while it is being fetched."""
        text = self._redis.get(self._key("fetching", source))
        return None if text is None else int(str(text).split(" ")[1])

    def content(self, sha256: str) -> str | None:
        """The video that holds this content."""
        found = self._redis.get(self._key("content", sha256))
        return None if found is None else str(found)

    def set_content(self, sha256: str, video_id: str) -> None:
        """The content is this video."""
        self._redis.set(self._key("content", sha256), video_id)

    def job(self, digest: str) -> str | None:
        """The job on these very labels, video and options."""
        found = self._redis.get(self._key("job", digest))
        return None if found is None else str(found)

    def set_job(self, digest: str, job_id: str) -> None:
        """It is this job; remembered for a month."""
        self._redis.set(self._key("job", digest), job_id, px=30 * _DAY_MS)

    def forget_job(self, digest: str) -> None:
        """That job is of no use."""
        self._redis.delete(self._key("job", digest))

    def save_session(self, session: SessionRecord) -> None:
        """Stores a session as it stands; it fades when nobody asks for it any more."""
        with self._redis.pipeline() as pipe:
            pipe.set(self._key("session", session.id), session.model_dump_json(), px=SESSION_MS)
            pipe.sadd(self._key("session", "all"), session.id)
            pipe.execute()

    def session(self, session_id: str) -> SessionRecord | None:
        """The session."""
        if session_id == "all":
            return None
        text = self._redis.get(self._key("session", session_id))
        return None if text is None else SessionRecord.model_validate_json(str(text))

    def sessions(self) -> list[SessionRecord]:
        """Those that are there."""
        ids = sorted(map(str, self._redis.smembers(self._key("session", "all"))))
        found = [(id_, self.session(id_)) for id_ in ids]
        faded = [id_ for id_, session in found if session is None]
        if faded:
            self._redis.srem(self._key("session", "all"), *faded)
        return [session for _, session in found if session is not None]

    def drop_session(self, session_id: str) -> None:
        """Forgets a session."""
        self._redis.delete(self._key("session", session_id))
        self._redis.srem(self._key("session", "all"), session_id)

    @contextmanager
    def alone(self, what: str, *, for_s: float = 30.0) -> Iterator[None]:
        """One at a time, over all processes of the API."""
        lock = self._redis.lock(self._key("lock", what), timeout=for_s, blocking_timeout=for_s, sleep=0.02)
        lock.acquire()
        try:
            yield
        finally:
            with suppress(LockError):  # it took so long that the lock ran out; what it guards bears that
                lock.release()

    def _key(self, kind: str, name: str) -> str:
        return keys.label_studio(self._owner, kind, name)
