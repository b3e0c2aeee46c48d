"""Exports on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from app.schemas.base import Answer


class ExportOut(Answer):
    """An export that is not there yet."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "overlay", "state": "building"}]})

    name: str
    state: Literal["queued", "building"]
