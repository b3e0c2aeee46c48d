"""What a job is asked to do, checked against its video and pinned: the document a worker starts from.

`resolve` turns a request into a `JobSpec`: every default filled in, the model's SHA-256 pinned, every label checked.
`build_labels` turns a `JobSpec` into the model's own types. Both know nothing of HTTP, so that the command line uses
them too. Faults are collected: one `InvalidDocument` names them all, each with a JSON pointer into the request.

A picture of a mask (an indexed or grey PNG, as DAVIS has them) joins a request through `with_mask`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from app.anchors import Faults, VideoSize, read_anchors, regions_of
from app.problems import InvalidDocument
from app.schemas.base import faults_of
from app.schemas.jobs import Direction, JobIn, Metadata
from app.schemas.labels import AnchorIn, LabelIn, ObjectIn, RleIn, SkeletonIn
from model.catalogue import find_model
from model.errors import InputError, LabelError
from model.labels import Anchor, LabelObject, Skeleton, colour_of, indexed_png, rle
from model.labels.types import Mask
from model.presets import find_preset

SCHEMA_VERSION: Literal[1] = 1
# Six digits each; Sasha Trubetskoy, "List of 20 simple, distinct colors", 2017.
_VIVID = (
    "e6194b3cb44bffe1194363d8f58231911eb446f0f0f032e6bcf60cfabebe"
    "008080e6beff9a6324fffac8800000aaffc3808000ffd8b1000075808080"
)


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VideoFacts(_Stored):
    """What the labels of a job refer to: the frame's size as shown, in pixels, and the number of frames."""

    width: int
    height: int
    frame_count: int


class ObjectSpec(_Stored):
    """A declared object, or one taken from the labels."""

    id: int
    name: str
    colour: str
    skeleton: SkeletonIn | None


class Options(_Stored):
    """Every option of a job, resolved to a value. `end` is exclusive."""

    model: str
    model_sha256: str
    preset: str
    start: int
    end: int
    stride: int
    direction: Direction
    working_size: int

    @property
    def frames(self) -> range:
        """The true indices of the frames that the job covers."""
        return range(self.start, self.end, self.stride)


class JobSpec(_Stored):
    """A job as it was accepted; `spec.json` beside its results. Anchors stand exactly as they were given."""

    schema_version: Literal[1] = SCHEMA_VERSION
    video: VideoFacts
    objects: tuple[ObjectSpec, ...]
    anchors: tuple[AnchorIn, ...]
    options: Options
    metadata: Metadata


def parse_job(data: bytes | str) -> JobIn:
    """A request from JSON.

    Raises:
        InvalidDocument: `invalid-request`, with a pointer to every faulty field, or `invalid-json`.
    """
    try:
        return JobIn.model_validate_json(data)
    except ValidationError as error:
        slug = "invalid-json" if error.errors(include_url=False)[0]["type"] == "json_invalid" else "invalid-request"
        faults = faults_of(error)
    raise InvalidDocument([InputError(fault.detail, slug=slug, pointer=fault.pointer) for fault in faults])


def resolve(job_in: JobIn, info: VideoSize, *, home: Path | None = None) -> JobSpec:
    """The job that a request asks for, on this video.

    Args:
        job_in: the request.
        info: the video's facts.
        home: where models beside the packaged ones are looked up.

    Raises:
        InvalidDocument: with every fault found and a pointer into the request. Its slug is the faults' own where they
            agree, such as `mask-size-mismatch`, and `invalid-request` otherwise.
    """
    faults = Faults()
    options = _options(job_in, info, home, faults)
    objects = _objects(job_in, faults)
    faults.stop()
    assert options is not None
    video = VideoFacts(width=info.width, height=info.height, frame_count=info.frame_count)
    spec = JobSpec(
        video=video, objects=objects, anchors=tuple(job_in.anchors), options=options, metadata=job_in.metadata
    )
    for _ in _read(spec, faults):  # one anchor's masks at a time
        pass
    faults.stop()
    return spec


def build_labels(spec: JobSpec) -> tuple[tuple[LabelObject, ...], tuple[Anchor, ...]]:
    """The objects and anchors of a job as the model takes them, anchors in the order of their frames.

    Raises:
        InvalidDocument: as `resolve` does; it never happens for a spec that `resolve` returned.
    """
    faults = Faults()
    anchors = sorted(_read(spec, faults), key=lambda anchor: anchor.frame)
    faults.stop()
    objects = tuple(
        LabelObject(
            id=declared.id,
            name=declared.name,
            colour=rgb(declared.colour),
            skeleton=_skeleton(declared.skeleton),
        )
        for declared in spec.objects
    )
    return objects, tuple(anchors)


def anchor_from_png(data: bytes, info: VideoSize, *, frame: int = 0) -> tuple[list[ObjectIn], AnchorIn]:
    """The objects and the anchor that a mask picture holds.

    Where the picture's only values are 0 and 255 it is object 1; otherwise 255 is void and every other value an id.

    Args:
        data: an indexed or grey PNG of the frame's size.
        info: the video's facts.
        frame: the frame that it labels.

    Raises:
        LabelError: `bad-mask`, `mask-size-mismatch` or `empty-mask`.
    """
    index_map = indexed_png.decode(data, size=(info.width, info.height), max_pixels=info.width * info.height)
    regions, void = indexed_png.split(index_map)
    if not regions:
        raise LabelError(
            "The mask marks no object: every pixel is background or void. Mark each object with its id, 1 to 254.",
            slug="empty-mask",
        )
    labels = [LabelIn(object=id_, mask=_rle_in(region)) for id_, region in regions.items()]
    anchor = AnchorIn(frame=frame, labels=labels, void=None if void is None else _rle_in(void))
    return [ObjectIn(id=id_) for id_ in regions], anchor


def with_mask(job_in: JobIn, data: bytes, info: VideoSize) -> JobIn:
    """The request with a mask picture of the job's first frame (`options.start`) joined to it.

    What the request already says about that frame stays: keypoints join the picture's regions; a region that is given
    both ways is found by `resolve` as two labels of one object.

    Raises:
        LabelError: as `anchor_from_png` does; its pointer is `/mask`.
    """
    try:
        _, anchor = anchor_from_png(data, info, frame=job_in.options.start)
    except LabelError as error:
        raise LabelError(error.detail, slug=error.slug, pointer="/mask") from None
    if job_in.objects is not None:
        unknown = sorted({label.object for label in anchor.labels} - {object_.id for object_ in job_in.objects})
        if unknown:
            values = ", ".join(map(str, unknown[:10])) + (", …" if len(unknown) > 10 else "")
            detail = f"The mask has the values {values}, which no object in `objects` declares. Declare them there."
            raise LabelError(detail, slug="unknown-object", pointer="/mask")
    anchors = list(job_in.anchors)
    at = next((i for i, given in enumerate(anchors) if given.frame == anchor.frame), None)
    if at is None:
        anchors.insert(0, anchor)
    else:
        anchors[at] = joined(anchors[at], anchor)
    return job_in.model_copy(update={"anchors": anchors})


def joined(given: AnchorIn, picture: AnchorIn) -> AnchorIn:
    """One anchor from what a request gave and what a picture or a file adds to it."""
    labels = list(given.labels)
    for label in picture.labels:
        at = next((i for i, other in enumerate(labels) if other.object == label.object), None)
        if at is None or regions_of(labels[at]) or labels[at].absent or (labels[at].keypoints and label.keypoints):
            labels.append(label)
        else:
            added = {name: getattr(label, name) for name in regions_of(label)}
            added["keypoints"] = labels[at].keypoints or label.keypoints
            labels[at] = labels[at].model_copy(update=added)
    return given.model_copy(update={"labels": labels, "void": given.void or picture.void})


def default_colour(object_id: int) -> str:
    """The colour of an object whose caller gave none, `#rrggbb`: twenty that are easy to tell apart, then DAVIS's."""
    if 6 * object_id <= len(_VIVID):
        return "#" + _VIVID[6 * object_id - 6 : 6 * object_id]
    return "#{:02x}{:02x}{:02x}".format(*colour_of(object_id))


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _skeleton(given: SkeletonIn | None) -> Skeleton | None:
    return None if given is None else Skeleton(points=tuple(given.points), edges=tuple(given.edges))


def _options(job_in: JobIn, info: VideoSize, home: Path | None, faults: Faults) -> Options | None:
    given = job_in.options
    end = info.frame_count if given.end is None else given.end
    if end > info.frame_count:
        detail = f"The video has {info.frame_count} frames; `end` must not be above that, or null for all of them."
        faults.add("invalid-range", "/options/end", detail)
    elif given.start >= end:
        detail = f"No frames between start {given.start} and end {end} (exclusive) of {info.frame_count} frames."
        faults.add("invalid-range", "/options/start", detail)
    try:
        model = find_model(given.model, home)
    except InputError as error:
        faults.add(error.slug, "/options/model", error.detail)
        return None
    try:
        preset = find_preset(given.preset)
    except InputError as error:
        faults.add(error.slug, "/options/preset", error.detail)
        return None
    return Options(
        model=model.name,
        model_sha256=model.sha256,
        preset=preset.name,
        start=given.start,
        end=end,
        stride=given.stride,
        direction=given.direction,
        working_size=preset.working_size if given.working_size is None else given.working_size,
    )


def _objects(job_in: JobIn, faults: Faults) -> tuple[ObjectSpec, ...]:
    if job_in.objects is None:
        ids = {label.object for anchor in job_in.anchors for label in anchor.labels}
        declared = [ObjectIn(id=id_) for id_ in sorted(ids)]
    else:
        declared = list(job_in.objects)
    seen: set[int] = set()
    for i, object_ in enumerate(declared):
        if object_.id in seen:
            faults.add("invalid-request", f"/objects/{i}/id", f"Object {object_.id} is declared twice.")
        seen.add(object_.id)
    return tuple(
        ObjectSpec(
            id=object_.id,
            name=object_.name or f"object-{object_.id}",
            colour=(object_.colour or default_colour(object_.id)).lower(),
            skeleton=object_.skeleton,
        )
        for object_ in declared
    )


def _read(spec: JobSpec, faults: Faults) -> Iterator[Anchor]:
    skeletons = {declared.id: declared.skeleton for declared in spec.objects}
    return read_anchors(spec.anchors, skeletons, spec.video, spec.options.frames, faults)


def _rle_in(mask: Mask) -> RleIn:
    encoded = rle.encode(mask)
    height, width = encoded["size"]
    return RleIn(size=(height, width), counts=encoded["counts"])
