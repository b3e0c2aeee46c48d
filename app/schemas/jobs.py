"""Jobs and their results on the wire."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, field_validator

from app.schemas.base import Answer, Document
from app.schemas.errors import ProblemOut
from app.schemas.labels import AnchorIn, FrameIndex, ObjectIn

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Direction = Literal["both", "forward", "backward"]
MAX_METADATA = 64 * 1024
MAX_SKELETONS = 8192


def _bounded_metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if _has_nan(metadata):
        raise ValueError("NaN and Infinity are not JSON")
    if len(json.dumps(metadata)) > MAX_METADATA:
        raise ValueError(f"must not be larger than {MAX_METADATA} bytes of JSON")
    return metadata


def _has_nan(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return any(_has_nan(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_nan(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


Metadata = Annotated[dict[str, JsonValue], AfterValidator(_bounded_metadata)]

_OBJECTS: list[dict[str, Any]] = [
    {"id": 1, "name": "dog"},
    {"id": 2, "name": "rider", "skeleton": {"points": ["head", "hand"], "edges": [[0, 1]]}},
]
_PROGRESS: dict[str, Any] = {"frames_done": 31, "frames_total": 96, "fps": 5.4, "eta_seconds": 12.0}
_OPTIONS: dict[str, Any] = {
    "model": "uvc-r18",
    "model_sha256": "4f0c…",
    "preset": "plain",
    "start": 0,
    "end": 96,
    "stride": 1,
    "direction": "both",
    "working_size": 480,
}
JOB_EXAMPLE: dict[str, Any] = {
    "video_id": "v_6jN2wq0fXbE1sR4a",
    "objects": _OBJECTS,
    "anchors": [
        {
            "frame": 0,
            "labels": [
                {"object": 1, "box": [102.0, 80.5, 160.0, 120.0]},
                {
                    "object": 2,
                    "polygon": [[310, 92, 334, 90, 330, 140]],
                    "keypoints": [{"name": "head", "x": 321.5, "y": 96.0, "visible": True}],
                },
            ],
        },
        {"frame": 41, "labels": [{"object": 1, "absent": True}]},
    ],
    "options": {"model": "uvc-r18", "preset": "plain", "start": 0, "end": None, "stride": 1, "direction": "both"},
    "metadata": {"task": "caller's own, returned untouched"},
}


class OptionsIn(Document):
    """How to propagate. Everything has a default; a job's record shows every value it was resolved to."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"preset": "plain", "start": 0, "end": 120, "stride": 1, "direction": "both"}]}
    )

    model: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        default="uvc-r18", description="The name of a model, as `GET /v1/models` lists them."
    )
    preset: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        default="plain", description="A named set of settings."
    )
    start: FrameIndex = Field(default=0, description="The first frame of the job.")
    end: FrameIndex | None = Field(default=None, description="The frame after the last; null is the end of the video.")
    stride: Annotated[int, Field(ge=1, lt=2**31)] = Field(default=1, description="Only every n-th frame from `start`.")
    direction: Direction = Field(default="both", description="Which way labels are carried from the anchors.")
    working_size: Annotated[int, Field(ge=64, le=1080)] | None = Field(
        default=None, description="The short side of the frame as the network sees it; null is the preset's own."
    )


class JobIn(Document):
    """One propagation to run."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    video_id: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="The video, uploaded before. Left out where the video comes in the same call."
    )
    objects: Annotated[list[ObjectIn], Field(max_length=254)] | None = Field(
        default=None, description="The objects. Left out, they are taken from the labels and named `object-<id>`."
    )
    anchors: Annotated[list[AnchorIn], Field(max_length=10_000)] = Field(
        default_factory=list, description="The labelled frames."
    )
    annotations: JsonValue = Field(
        default=None,
        description="Labels of another tool, which become anchors beside those given here: a JSON document as it is,"
        " another text (XML, rows) as a string, a zip or PNG as a string in base64.",
    )
    format: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="The format of `annotations`, as `GET /v1/formats` lists them. Left out, it is recognised.",
    )
    options: OptionsIn = OptionsIn()
    metadata: Metadata = Field(default_factory=dict, description="The caller's own, returned untouched.")

    @field_validator("objects")
    @classmethod
    def _bounded(cls, objects: list[ObjectIn] | None) -> list[ObjectIn] | None:
        skeletons = [object_.skeleton for object_ in objects or () if object_.skeleton is not None]
        if sum(len(skeleton.points) + len(skeleton.edges) for skeleton in skeletons) > MAX_SKELETONS:
            raise ValueError(f"all skeletons together must not have more than {MAX_SKELETONS} points and edges")
        return objects


class ProgressOut(Answer):
    """How far a job is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PROGRESS]})

    frames_done: int
    frames_total: int
    fps: float | None
    eta_seconds: float | None


class SkeletonOut(Answer):
    """The names of an object's keypoints and the lines between them, as pairs of indices."""

    points: list[str]
    edges: list[tuple[int, int]]


class ObjectOut(Answer):
    """An object of a job."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": 1, "name": "dog", "colour": "#e6194b", "skeleton": None}]}
    )

    id: int
    name: str
    colour: str
    skeleton: SkeletonOut | None


class OptionsOut(Answer):
    """The options of a job, each resolved to a value."""

    model_config = ConfigDict(json_schema_extra={"examples": [_OPTIONS]})

    model: str
    model_sha256: str
    preset: str
    start: int
    end: int
    stride: int
    direction: Direction
    working_size: int


class JobOut(Answer):
    """A job: where it stands and what it was asked to do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "j_Zk3uV0w9QyTbq1Lx",
                    "video_id": "v_6jN2wq0fXbE1sR4a",
                    "status": "running",
                    "revision": 0,
                    "created_at": "2026-11-23T12:00:00.120Z",
                    "started_at": "2026-11-23T12:00:00.480Z",
                    "finished_at": None,
                    "progress": _PROGRESS,
                    "attempts": 1,
                    "cancel_requested": False,
                    "error": None,
                    "objects": [{"id": 1, "name": "dog", "colour": "#e6194b", "skeleton": None}],
                    "options": _OPTIONS,
                    "metadata": {"task": "caller's own, returned untouched"},
                }
            ]
        }
    )

    id: str
    video_id: str
    status: Status
    revision: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: ProgressOut
    attempts: int
    cancel_requested: bool
    error: ProblemOut | None
    objects: list[ObjectOut]
    options: OptionsOut
    metadata: dict[str, JsonValue]


class JobList(Answer):
    """Jobs, newest first."""

    jobs: list[JobOut]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last.")


class KeypointOut(Answer):
    """Where a keypoint is, in pixels with two decimals."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "head", "x": 322.25, "y": 96.5, "visible": True, "confidence": 0.913}]}
    )

    name: str
    x: float
    y: float
    visible: bool
    confidence: float


class RleOut(Answer):
    """A mask in COCO's compressed run lengths."""

    size: tuple[int, int] = Field(description="`[height, width]`.")
    counts: str


class ObjectResultOut(Answer):
    """One object on one frame."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": 1,
                    "visible": True,
                    "confidence": 0.934,
                    "mask": {"size": [4, 6], "counts": "72209"},
                    "box": [1.0, 0.0, 3.0, 4.0],
                    "keypoints": [],
                    "source": "propagated",
                }
            ]
        }
    )

    object: int
    visible: bool
    confidence: float = Field(description="0 to 1, three decimals.")
    mask: RleOut | None
    box: tuple[float, float, float, float] | None
    keypoints: list[KeypointOut]
    source: Literal["anchor", "propagated"]


class ResultOut(Answer):
    """The labels of one frame."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"frame": 7, "time_ms": 280, "objects": []}]})

    frame: int
    time_ms: int
    objects: list[ObjectResultOut]


class ResultList(Answer):
    """Results in the order of frames."""

    frames: list[ResultOut]
    next_start: int | None = Field(
        description="Pass it as `start` for the next page. Null once the job has ended and nothing follows."
    )
    status: Status = Field(description="The job's status: results may still be added while it is queued or running.")
    progress: ProgressOut
