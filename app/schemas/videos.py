"""Videos on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from app.schemas.base import Answer


class FpsOut(Answer):
    """A frame rate, exactly and as a number."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ratio": "30000/1001", "value": 29.97}]})

    ratio: str
    value: float


class VideoOut(Answer):
    """A stored video."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "v_6jN2wq0fXbE1sR4a",
                    "created_at": "2026-11-23T12:00:00.120Z",
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "bytes": 1048576,
                    "container": "mp4",
                    "codec": "h264",
                    "width": 854,
                    "height": 480,
                    "frame_count": 96,
                    "duration_ms": 3840,
                    "fps": {"ratio": "25/1", "value": 25.0},
                    "sample_aspect_ratio": "1/1",
                    "rotation": 0,
                }
            ]
        }
    )

    id: str
    created_at: datetime
    sha256: str
    bytes: int
    container: str
    codec: str
    width: int = Field(description="As shown, after rotation.")
    height: int = Field(description="As shown, after rotation.")
    frame_count: int
    duration_ms: int
    fps: FpsOut | None = Field(description="Null where frames come at no regular rate or the file does not say.")
    sample_aspect_ratio: str = Field(description="Reported, never resampled.")
    rotation: int = Field(description="Degrees of the file's rotation metadata; already applied.")


class VideoList(Answer):
    """Videos, newest first."""

    videos: list[VideoOut]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last.")
