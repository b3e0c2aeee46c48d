"""The OpenAPI document: FastAPI's own, plus the schemas of bodies that are read by hand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.schemas.errors import ProblemOut
from app.schemas.exports import ExportOut
from app.schemas.jobs import JobIn

_DESCRIPTION = """\
Mark objects on any frame of a video (masks, boxes, polygons, keypoints); Labelprop carries the labels through every
other frame.

1. `POST /v1/videos` with the file. 2. `POST /v1/jobs` with labels on a frame. 3. Poll `GET /v1/jobs/{id}`.
4. Read `GET /v1/jobs/{id}/frames`, also while it runs, or `GET /v1/jobs/{id}/exports/{name}`.

Frames count from 0. Coordinates are pixels, x right, y down; the centre of the top-left pixel is (0.5, 0.5).
Every error is `application/problem+json` (RFC 9457); its `type` is an address that explains it.
"""


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=_DESCRIPTION, routes=app.routes
        )
        _, extra = models_json_schema(
            [(JobIn, "validation"), (ExportOut, "serialization"), (ProblemOut, "serialization")],
            ref_template="#/components/schemas/{model}",
        )
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for name, definition in extra["$defs"].items():
            components.setdefault(name, definition)
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
