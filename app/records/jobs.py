"""Records of jobs: what was accepted, and what the callers of the API may do to it.

A record is a Redis hash: `doc`, the part that never changes, and one field for each thing that does. A worker changes a
running job through `app.records.leases` only. The states are

    queued -> running -> succeeded | failed | cancelled        running -> queued when a worker lets go or dies
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal

import redis
from pydantic import BaseModel, ConfigDict, Field

from app import clock
from app.records import keys
from app.records.paging import page
from app.records.scripts import PRELUDE

SCHEMA_VERSION: Literal[1] = 1
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Ids = list[str]
ACTIVE: tuple[Status, ...] = ("queued", "running")


class Progress(BaseModel):
    """How far a job is.

    Attributes:
        frames_done: frames with a final result.
        frames_total: frames that the job covers.
        fps: frames a second of the present attempt, or None before that is known.
        eta_seconds: the time left, or None before that is known.
    """

    frames_done: int = 0
    frames_total: int
    fps: float | None = None
    eta_seconds: float | None = None


class PinnedModel(BaseModel):
    """The checkpoint that a job was accepted with."""

    name: str
    sha256: str


class JobRecord(BaseModel):
    """One job as it stands.

    Attributes:
        attempts: how often a worker has started on it.
        stalled: how many attempts in a row have ended without a new checkpoint (the running one included).
        error: problem document of a failed job.
        options: every option resolved to a value; `start`, `end` (exclusive) and `stride` among them.
        chunk_frames: how many positions one file of results covers.
        cancel_requested: a caller asked it to stop.
        last_reason: why the last attempt ended early, if one did.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    owner: str = "local"
    video_id: str
    status: Status = "queued"
    revision: int = 0
    created_at: datetime = Field(default_factory=clock.now)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress
    attempts: int = 0
    stalled: int = 0
    error: dict[str, Any] | None = None
    model: PinnedModel
    options: dict[str, Any]
    objects: list[dict[str, Any]]
    metadata: dict[str, Any] = Field(default_factory=dict)
    chunk_frames: int = 16
    cancel_requested: bool = False
    last_reason: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status not in ACTIVE


class Jobs:
    """The jobs' records."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._create = client.register_script(PRELUDE + _CREATE)
        self._cancel = client.register_script(PRELUDE + _CANCEL)
        self._delete = client.register_script(PRELUDE + _DELETE)

    def create(self, record: JobRecord) -> bool:
        """Stores a new queued job and counts it as active on its video, in one step; durable when this returns.

        Returns:
            False, and nothing is stored, where the video is gone.
        """
        document = record.model_dump_json(include=_FIXED)
        args: Any = [record.owner, record.id, record.video_id, document, record.progress.frames_total]
        return bool(self._create(args=args))

    def get(self, owner: str, job_id: str) -> JobRecord | None:
        """The record, or None where this owner has no such job."""
        return _record(self._redis.hgetall(keys.job(owner, job_id)))

    def list(
        self, owner: str, cursor: str | None = None, limit: int = 50, status: Status | None = None
    ) -> tuple[list[JobRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None on the last).

        Args:
            owner: whose jobs.
            cursor: where the page before ended; None starts at the newest.
            limit: how many at most.
            status: only those in this state.

        Raises:
            BadCursorError: `cursor` did not come from this method.
        """
        index = keys.jobs(owner) if status is None else f"{keys.jobs(owner)}:{status}"
        ids, following = page(self._redis, index, cursor, limit)
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.job(owner, job_id))
            records = [_record(fields) for fields in pipe.execute()]
        return [record for record in records if record is not None], following

    def active_on_video(self, owner: str, video_id: str) -> Ids:
        """The ids of the queued and running jobs on a video, sorted."""
        return sorted(map(str, self._redis.smembers(keys.video_jobs(owner, video_id))))

    def request_cancel(self, owner: str, job_id: str) -> Status | None:
        """Asks a job to stop: a queued one is cancelled at once, a running one before its next frame ends.

        Returns:
            The state that the request found (`queued` and `running` mean that it was accepted; `cancelled`,
            `succeeded` and `failed` that the job was final already), or None where there is no such job.
        """
        return self._cancel(args=[owner, job_id])

    def delete(self, owner: str, job_id: str, *, force: bool = False) -> Status | None:
        """Removes a final job's record; with `force` any job's (a worker that runs it stops at its next frame).

        The caller removes the files, after this. Nothing is removed from a queued or running job without `force`.

        Returns:
            The state that the call found, or None where there is no such job.
        """
        return self._delete(args=[owner, job_id, int(force)])


_FIXED = {
    "schema_version", "id", "owner", "video_id", "revision", "created_at", "model", "options", "objects", "metadata",
    "chunk_frames",
}  # fmt: skip


def _record(fields: dict[Any, Any]) -> JobRecord | None:
    if "doc" not in fields:
        return None
    known = {name: fields[name] for name in ("status", "attempts", "stalled", "last_reason") if name in fields}
    times = {name: clock.from_ms(fields[name]) for name in ("started_at", "finished_at") if name in fields}
    progress = {name: fields[name] for name in Progress.model_fields if fields.get(name)}
    return JobRecord.model_validate(
        {
            **json.loads(fields["doc"]),
            **known,
            **times,
            "progress": progress,
            "error": json.loads(fields["error"]) if "error" in fields else None,
            "cancel_requested": fields.get("cancel_requested") == "1",
        }
    )


_CREATE = """
load(ARGV[1], ARGV[2])
local video = 'lp:video:' .. owner .. ':' .. ARGV[3]
if redis.call('EXISTS', video) == 0 or redis.call('EXISTS', job) == 1 then return 0 end
redis.call('HSET', job, 'doc', ARGV[4], 'video_id', ARGV[3], 'status', 'queued', 'seq', redis.call('INCR', SEQUENCE),
  'attempts', 0, 'stalled', 0, 'frames_done', 0, 'frames_total', ARGV[5])
local seq = redis.call('HGET', job, 'seq')
redis.call('ZADD', index, seq, id)
redis.call('ZADD', index .. ':queued', seq, id)
redis.call('SADD', active_set(), id)
redis.call('ZADD', QUEUED, now(), member)
return 1
"""

_CANCEL = """
load(ARGV[1], ARGV[2])
local status = redis.call('HGET', job, 'status')
if not status then return nil end
if status == 'queued' then
  redis.call('HSET', job, 'cancel_requested', 1)
  finish('cancelled', nil)
elseif status == 'running' then
  redis.call('HSET', job, 'cancel_requested', 1)
end
return status
"""

_DELETE = """
load(ARGV[1], ARGV[2])
local status = redis.call('HGET', job, 'status')
if not status then return nil end
if (status == 'queued' or status == 'running') and ARGV[3] == '0' then return status end
redis.call('SREM', active_set(), id)
redis.call('ZREM', LEASES, member)
redis.call('ZREM', QUEUED, member)
redis.call('ZREM', index, id)
redis.call('ZREM', index .. ':' .. status, id)
redis.call('DEL', job)
return status
"""
