"""Formats on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from app.schemas.base import Answer


class FormatOut(Answer):
    """A format of labels."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "yolo-seg",
                    "media_type": "application/zip",
                    "filename": "yolo-seg.zip",
                    "label_types": ["polygon"],
                    "directions": ["export", "import"],
                    "options": ["tolerance"],
                }
            ]
        }
    )

    name: str = Field(description="As in the address of an export, and as `format` of a job's `annotations`.")
    media_type: str
    filename: str
    label_types: list[Literal["mask", "polygon", "box", "keypoints"]] = Field(description="What it carries.")
    directions: list[Literal["export", "import"]] = Field(
        description="Whether results are written in it, and whether labels are read from it."
    )
    options: list[str] = Field(description="The query parameters that its export heeds.")


class FormatList(Answer):
    """All formats."""

    formats: list[FormatOut]
