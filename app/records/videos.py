"""Records of videos."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import redis
from pydantic import BaseModel, ConfigDict, Field

from app import clock
from app.records import keys
from app.records.paging import page

SCHEMA_VERSION: Literal[1] = 1


class Fps(BaseModel):
    """A frame rate, exactly and as a number."""

    ratio: str = Field(examples=["30000/1001"])
    value: float = Field(examples=[29.97])


class VideoRecord(BaseModel):
    """One stored video. Never changed after it was created.

    The fields from `bytes` on are those of `VideoInfo.to_json()`: `VideoRecord(id=..., **info.to_json())` works.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    owner: str = "local"
    sha256: str
    created_at: datetime = Field(default_factory=clock.now)
    name: str | None = None
    bytes: int
    container: str
    codec: str
    width: int
    height: int
    frame_count: int
    duration_ms: int
    fps: Fps | None = None
    sample_aspect_ratio: str = "1/1"
    rotation: int = 0


Ids = list[str]


class Videos:
    """The videos' records."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._create = client.register_script(_CREATE)
        self._delete = client.register_script(_DELETE)

    def create(self, record: VideoRecord) -> None:
        """Stores a new record; it is durable when this returns."""
        names = [keys.video(record.owner, record.id), keys.videos(record.owner), keys.SEQUENCE]
        self._create(keys=names, args=[record.id, record.model_dump_json()])

    def get(self, owner: str, video_id: str) -> VideoRecord | None:
        """The record, or None where this owner has no such video."""
        text = self._redis.get(keys.video(owner, video_id))
        return None if text is None else VideoRecord.model_validate_json(str(text))

    def list(self, owner: str, cursor: str | None = None, limit: int = 50) -> tuple[list[VideoRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None on the last).

        Raises:
            BadCursorError: `cursor` did not come from this method.
        """
        ids, following = page(self._redis, keys.videos(owner), cursor, limit)
        texts = self._redis.mget([keys.video(owner, video_id) for video_id in ids]) if ids else []
        return [VideoRecord.model_validate_json(text) for text in texts if text is not None], following

    def delete(self, owner: str, video_id: str, *, force: bool = False) -> Ids:
        """Removes the record unless a job on the video is queued or running.

        Args:
            owner: whose video.
            video_id: which video.
            force: remove it although jobs are active (the caller has asked them to stop).

        Returns:
            The ids of the jobs that keep it; empty when the record is gone.
        """
        names = [keys.video(owner, video_id), keys.videos(owner), keys.video_jobs(owner, video_id)]
        return sorted(self._delete(keys=names, args=[video_id, int(force)]))


_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
end
redis.call('SET', KEYS[1], ARGV[2])
"""

# The set of active jobs goes empty by itself as the jobs end; deleting it here would only hide them.
_DELETE = """
local active = redis.call('SMEMBERS', KEYS[3])
if #active > 0 and ARGV[2] == '0' then return active end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return {}
"""
