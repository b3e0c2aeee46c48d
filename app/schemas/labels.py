"""Objects, labels and anchors as callers send them. `app.jobspec` says what they mean and checks it against a video."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from app.schemas.base import Document, Name

ObjectId = Annotated[int, Field(ge=1, le=254, description="1 to 254; 0 is the background and 255 is void.")]
Ring = Annotated[list[float], Field(max_length=20_000)]
FrameIndex = Annotated[int, Field(ge=0, lt=2**31, description="0-based index of a frame.")]


class RleIn(Document):
    """A mask in COCO's run lengths: column by column, starting with the count of zeros."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"size": [4, 6], "counts": [7, 2, 2, 2, 11]}]})

    size: tuple[Annotated[int, Field(ge=1, le=65535)], Annotated[int, Field(ge=1, le=65535)]] = Field(
        description="`[height, width]`, as the frame is shown."
    )
    counts: str | Annotated[list[Annotated[int, Field(ge=0, le=2**32)]], Field(max_length=2_000_000)] = Field(
        description="COCO's compressed text, or the list of run lengths. They add up to height times width."
    )


class KeypointIn(Document):
    """A named point on an object, in pixels; the centre of the top-left pixel is (0.5, 0.5)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "head", "x": 321.5, "y": 96.0, "visible": True}]}
    )

    name: Name
    x: float
    y: float
    visible: bool = Field(default=True, description="False where the point is hidden but its place is known.")


class SkeletonIn(Document):
    """The names of an object's keypoints and the lines between them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"points": ["head", "hand"], "edges": [[0, 1]]}]})

    points: Annotated[list[Name], Field(min_length=1, max_length=256)]
    edges: Annotated[list[tuple[int, int]], Field(max_length=4096, description="Pairs of indices into `points`.")] = (
        Field(default_factory=list)
    )

    @model_validator(mode="after")
    def _consistent(self) -> SkeletonIn:
        if len(set(self.points)) != len(self.points):
            raise ValueError("the names of a skeleton's points must differ from each other")
        if any(not 0 <= end < len(self.points) for edge in self.edges for end in edge):
            raise ValueError(f"edges are pairs of indices into `points`, 0 to {len(self.points) - 1}")
        return self


class ObjectIn(Document):
    """A thing to carry through the video."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": 2, "name": "rider", "skeleton": {"points": ["head", "hand"], "edges": [[0, 1]]}}]
        }
    )

    id: ObjectId
    name: Name | None = Field(default=None, description="Without one: `object-<id>`.")
    colour: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$", examples=["#e6194b"])] | None = Field(
        default=None, description="For pictures of the results. Without one, a colour that depends on the id alone."
    )
    skeleton: SkeletonIn | None = Field(
        default=None, description="Without one, an object's keypoints may have any names."
    )


class LabelIn(Document):
    """What one object looks like on one frame: at most one region (`mask`, `png`, `polygon` or `box`) and keypoints."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": 2,
                    "polygon": [[310, 92, 334, 90, 330, 140]],
                    "keypoints": [{"name": "head", "x": 321.5, "y": 96.0, "visible": True}],
                },
                {"object": 1, "absent": True},
            ]
        }
    )

    object: ObjectId
    mask: RleIn | None = Field(default=None, description="The region in run lengths.")
    png: str | None = Field(
        default=None,
        description="The region as a PNG in base64. Where its only values are 0 and 255, or 0 and 1, it is this"
        " object's; otherwise this object's are the pixels whose value is its id, and 255 is void.",
    )
    polygon: Annotated[list[Ring], Field(max_length=1000)] | None = Field(
        default=None, description="Rings `[x0, y0, x1, y1, ...]`; a pixel is inside by the even-odd rule at its centre."
    )
    box: tuple[float, float, float, float] | None = Field(
        default=None, description="`[x, y, width, height]`. A box alone starts as a filled rectangle."
    )
    keypoints: Annotated[list[KeypointIn], Field(max_length=256)] = Field(default_factory=list)
    absent: bool = Field(default=False, description="True says that the object is gone on this frame.")


class AnchorIn(Document):
    """A frame that a person labelled. It comes back exactly as given."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"frame": 0, "labels": [{"object": 1, "box": [100, 80, 60.5, 40]}]}]}
    )

    frame: FrameIndex
    labels: list[LabelIn] = Field(description="Objects that are not mentioned are unknown here, not gone.")
    void: RleIn | None = Field(
        default=None, description="Pixels that belong to nothing and are not learned from (an indexed PNG's 255)."
    )
