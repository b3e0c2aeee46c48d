"""Errors on the wire: RFC 9457 problem details."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FaultOut(BaseModel):
    """A fault in one field."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request's body.")
    detail: str


class ProblemOut(BaseModel):
    """What went wrong and what to do about it. `type` is an address that explains the kind of problem."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/mask-size-mismatch",
                    "title": "The mask has another size than the frame",
                    "status": 422,
                    "detail": "The mask is 640 x 480 pixels, the frame is 854 x 480. Send a mask of the frame's size.",
                    "errors": [
                        {
                            "pointer": "/anchors/0/labels/0/mask",
                            "detail": "The mask is 640 x 480 pixels, the frame is 854 x 480.",
                        }
                    ],
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultOut] | None = None
