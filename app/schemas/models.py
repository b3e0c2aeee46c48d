"""Models and presets on the wire, and the service's health."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from app.schemas.base import Answer


class ModelOut(Answer):
    """A checkpoint that can run."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "uvc-r18", "sha256": "4f0c…", "metadata": {"stride": "8"}}]}
    )

    name: str
    sha256: str
    metadata: dict[str, str] = Field(description="The checkpoint's own header: how it was trained, and what it needs.")


class PresetOut(Answer):
    """A named set of settings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "plain",
                    "settings": {
                        "working_size": 480,
                        "recent_frames": 7,
                        "anchor_frames": 8,
                        "radius": 12,
                        "top_k": 10,
                        "temperature": 0.07,
                    },
                }
            ]
        }
    )

    name: str
    settings: dict[str, float | int | str | bool | None]


class ModelList(Answer):
    """What a job's `model` and `preset` may be."""

    models: list[ModelOut]
    presets: list[PresetOut]


class LivenessOut(Answer):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "version": "0.1.0"}]})

    status: str
    version: str


class ReadinessOut(Answer):
    """Everything that a job needs is there."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "checks": {"redis": "ok", "store": "ok", "worker": "ok"}}]}
    )

    status: str
    checks: dict[str, str]
