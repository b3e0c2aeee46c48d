"""What a job is asked to do, checked against its video and pinned: the document a worker starts from.

`resolve` turns a request into a `JobSpec`: every default filled in, the model's SHA-256 pinned, every label checked.
`build_labels` turns a `JobSpec` into the model's own types. Both know nothing of HTTP, so that the command line uses
them too. Faults are collected: one `InvalidDocument` names them all, each with a JSON pointer into the request.

A picture of a mask (an indexed or grey PNG, as DAVIS has them) joins a request through `with_mask`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, ParamSpec, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from app.problems import InvalidDocument
from app.schemas.base import faults_of
from app.schemas.jobs import Direction, JobIn, Metadata
from app.schemas.labels import AnchorIn, KeypointIn, LabelIn, ObjectIn, RleIn, SkeletonIn
from model.catalogue import find_model
from model.errors import InputError, LabelError
from model.labels import Anchor, Keypoint, Label, LabelObject, Skeleton, colour_of, indexed_png, raster, rle
from model.labels.types import Mask
from model.presets import find_preset

P = ParamSpec("P")
SCHEMA_VERSION: Literal[1] = 1
_VIVID = (
    "#e6194b",
    "#3cb44b",
    "#ffe119",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#46f0f0",
    "#f032e6",
    "#bcf60c",
    "#fabebe",
    "#008080",
    "#e6beff",
    "#9a6324",
    "#fffac8",
    "#800000",
    "#aaffc3",
    "#808000",
    "#ffd8b1",
    "#000075",
    "#808080",
)  # fmt: skip  (Sasha Trubetskoy, "List of 20 simple, distinct colors", 2017)
MAX_LABEL_PIXELS = 1 << 30
"""How many pixels all regions of a job may cover together: they are all in the worker's memory at once."""


class VideoSize(Protocol):
    """What a request is checked against; `model.video.VideoInfo` is one."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def frame_count(self) -> int: ...


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
    faults = _Faults()
    options = _options(job_in, info, home, faults)
    objects = _objects(job_in, faults)
    faults.stop()
    assert options is not None
    video = VideoFacts(width=info.width, height=info.height, frame_count=info.frame_count)
    spec = JobSpec(
        video=video, objects=objects, anchors=tuple(job_in.anchors), options=options, metadata=job_in.metadata
    )
    for _ in _anchors(spec, faults):  # one anchor's masks at a time
        pass
    faults.stop()
    return spec


def build_labels(spec: JobSpec) -> tuple[tuple[LabelObject, ...], tuple[Anchor, ...]]:
    """The objects and anchors of a job as the model takes them, anchors in the order of their frames.

    Raises:
        InvalidDocument: as `resolve` does; it never happens for a spec that `resolve` returned.
    """
    faults = _Faults()
    anchors = sorted(_anchors(spec, faults), key=lambda anchor: anchor.frame)
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
        anchors[at] = _joined(anchors[at], anchor)
    return job_in.model_copy(update={"anchors": anchors})


def default_colour(object_id: int) -> str:
    """The colour of an object whose caller gave none, `#rrggbb`: twenty that are easy to tell apart, then DAVIS's."""
    if object_id <= len(_VIVID):
        return _VIVID[object_id - 1]
    return "#{:02x}{:02x}{:02x}".format(*colour_of(object_id))


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _skeleton(given: SkeletonIn | None) -> Skeleton | None:
    return None if given is None else Skeleton(points=tuple(given.points), edges=tuple(given.edges))


class _Faults(list[InputError]):
    """Faults found so far; the first hundred are kept."""

    def add(self, slug: str, pointer: str, detail: str) -> None:
        if len(self) < 100:
            self.append(InputError(detail, slug=slug, pointer=pointer))

    def stop(self) -> None:
        if self:
            raise InvalidDocument(self)


def _options(job_in: JobIn, info: VideoSize, home: Path | None, faults: _Faults) -> Options | None:
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


def _objects(job_in: JobIn, faults: _Faults) -> tuple[ObjectSpec, ...]:
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


def _anchors(spec: JobSpec, faults: _Faults) -> Iterator[Anchor]:
    """The anchors one by one, as far as they are without fault; faults are added to `faults`."""
    objects = {object_.id: object_ for object_ in spec.objects}
    if not spec.anchors:
        faults.add("no-anchors", "/anchors", "Label at least one frame.")
        return
    regions = sum(
        sum(1 for label in anchor.labels if _regions(label)) + (anchor.void is not None) for anchor in spec.anchors
    )
    pixels = spec.video.width * spec.video.height
    if regions * pixels > MAX_LABEL_PIXELS:
        most = MAX_LABEL_PIXELS // pixels
        detail = f"{regions} regions are too many for frames of this size: at most {most}. Label fewer frames."
        faults.add("too-many-labels", "/anchors", detail)
        return
    frames: set[int] = set()
    labelled: set[int] = set()
    for i, anchor in enumerate(spec.anchors):
        where = f"/anchors/{i}"
        _check_frame(spec, anchor.frame, f"{where}/frame", frames, faults)
        before = len(faults)
        yielded = _anchor(anchor, where, spec.video, objects, faults)
        labelled.update(label.object for label in anchor.labels if _regions(label) or label.keypoints)
        if len(faults) == before:
            yield yielded
    for i, object_ in enumerate(spec.objects):
        if object_.id not in labelled:
            detail = f"Object {object_.id} is labelled nowhere. Give it a region or keypoints on an anchor, or drop it."
            faults.add("object-unlabelled", f"/objects/{i}", detail)


def _check_frame(spec: JobSpec, frame: int, pointer: str, seen: set[int], faults: _Faults) -> None:
    covered, count = spec.options.frames, spec.video.frame_count
    if frame >= count:
        detail = f"Frame {frame} lies beyond the video, whose last frame is {count - 1}."
        faults.add("anchor-outside-video", pointer, detail)
    elif frame not in covered:
        step = f" in steps of {covered.step}" if covered.step != 1 else ""
        detail = f"The job covers the frames {covered.start} to {covered[-1]}{step}; frame {frame} is none of them."
        faults.add("anchor-outside-range", pointer, detail)
    if frame in seen:
        detail = f"Frame {frame} is an anchor twice. Put all its labels into one."
        faults.add("duplicate-label", pointer, detail)
    seen.add(frame)


class _Region(NamedTuple):
    mask: Mask
    void: Mask | None = None


def _anchor(anchor: AnchorIn, where: str, video: VideoFacts, objects: dict[int, ObjectSpec], faults: _Faults) -> Anchor:
    labels: list[Label] = []
    voids: list[Mask] = []
    seen: set[int] = set()
    if anchor.void is not None:
        void = _caught(faults, f"{where}/void", _rle, anchor.void, video)
        voids.extend([] if void is None else [void.mask])
    if not anchor.labels:
        faults.add("empty-label", f"{where}/labels", "An anchor needs at least one label.")
    for j, label in enumerate(anchor.labels):
        pointer = f"{where}/labels/{j}"
        if label.object not in objects:
            known = ", ".join(map(str, sorted(objects))) or "none"
            detail = f"Object {label.object} is not declared in `objects` (declared: {known})."
            faults.add("unknown-object", f"{pointer}/object", detail)
            continue
        if label.object in seen:
            detail = f"Object {label.object} is labelled twice on frame {anchor.frame}. Put it into one label."
            faults.add("duplicate-label", pointer, detail)
        seen.add(label.object)
        if not _check_content(label, pointer, faults):
            continue
        keypoints = _keypoints(label.keypoints, objects[label.object], f"{pointer}/keypoints", video, faults)
        region: _Region | None = None
        for name in _regions(label):
            region = _caught(faults, f"{pointer}/{name}", _read, label, name, video)
        if region is not None and region.void is not None:
            voids.append(region.void)
        labels.append(
            Label(
                object=label.object,
                mask=None if region is None else region.mask,
                box=label.box,
                keypoints=keypoints,
                absent=label.absent,
            )
        )
    merged = np.logical_or.reduce(voids) if voids else None
    return Anchor(frame=anchor.frame, labels=tuple(labels), void=merged)


def _check_content(label: LabelIn, pointer: str, faults: _Faults) -> bool:
    regions = _regions(label)
    if len(regions) > 1:
        detail = f"The label has {' and '.join(regions)}. Keep one of them."
        faults.add("two-regions", pointer, detail)
    elif label.absent and (regions or label.keypoints):
        detail = "`absent` says that the object is gone; remove it, or remove the region and the keypoints."
        faults.add("contradictory-label", pointer, detail)
    elif not (label.absent or regions or label.keypoints):
        detail = 'The label needs a region, keypoints, or "absent": true.'
        faults.add("empty-label", pointer, detail)
    else:
        return True
    return False


def _regions(label: LabelIn) -> list[str]:
    return [name for name in ("mask", "png", "polygon", "box") if getattr(label, name) is not None]


def _caught(
    faults: _Faults, pointer: str, read: Callable[P, _Region], *args: P.args, **kwargs: P.kwargs
) -> _Region | None:
    """What `read` returns, or None and a fault at `pointer`."""
    try:
        return read(*args, **kwargs)
    except InputError as error:
        faults.add(error.slug, pointer + (error.pointer or ""), error.detail)
        return None


def _read(label: LabelIn, name: str, video: VideoFacts) -> _Region:
    match name:
        case "mask":
            region = _rle(label.mask, video)
        case "png":
            region = _png(label.png or "", label.object, video)
        case "polygon":
            region = _Region(raster.polygon(label.polygon or [], video.height, video.width))
        case _:
            assert label.box is not None
            region = _Region(raster.box(*label.box, video.height, video.width))
    if not region.mask.any():
        hint = "It is smaller than one pixel." if name in ("polygon", "box") else "It has no pixels."
        raise LabelError(f'{hint} If the object is gone on this frame, send "absent": true.', slug="empty-mask")
    return region


def _rle(given: RleIn | None, video: VideoFacts) -> _Region:
    assert given is not None
    height, width = given.size
    if (height, width) != (video.height, video.width):
        raise LabelError(
            f"The mask is {width} x {height} pixels, the frame is {video.width} x {video.height}."
            " Send a mask of the frame's size; `size` is [height, width].",
            slug="mask-size-mismatch",
        )
    return _Region(rle.decode({"size": [height, width], "counts": given.counts}))


def _png(text: str, object_id: int, video: VideoFacts) -> _Region:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise LabelError("`png` must be a PNG file in base64, without line breaks.", slug="bad-mask") from None
    index_map = indexed_png.decode(data, size=(video.width, video.height), max_pixels=video.width * video.height)
    regions, void = indexed_png.split(index_map)
    if list(regions) == [1] and void is None:  # black and white, with 1 or with 255 for white
        return _Region(regions[1])
    if regions and object_id not in regions:
        values = ", ".join(map(str, list(regions)[:10]))
        raise LabelError(
            f"The picture marks objects {values}, but this label's object is {object_id}."
            f" Mark its pixels with {object_id}, or use only 0 and 255.",
            slug="unknown-object",
        )
    return _Region(index_map == object_id, void)


def _keypoints(
    given: list[KeypointIn], object_: ObjectSpec, pointer: str, video: VideoFacts, faults: _Faults
) -> tuple[Keypoint, ...]:
    seen: set[str] = set()
    for k, point in enumerate(given):
        where = f"{pointer}/{k}"
        if point.name in seen:
            faults.add("duplicate-label", f"{where}/name", f"The keypoint {point.name!r} stands twice in this label.")
        elif object_.skeleton is not None and point.name not in object_.skeleton.points:
            names = ", ".join(object_.skeleton.points)
            detail = f"The skeleton of object {object_.id} has no point {point.name!r}; it has: {names}."
            faults.add("bad-keypoint", f"{where}/name", detail)
        seen.add(point.name)
        if not (0 <= point.x <= video.width and 0 <= point.y <= video.height):
            detail = f"({point.x:g}, {point.y:g}) lies outside the frame of {video.width} x {video.height} pixels."
            faults.add("bad-keypoint", where, detail)
    return tuple(Keypoint(name=point.name, x=point.x, y=point.y, visible=point.visible) for point in given)


def _joined(given: AnchorIn, picture: AnchorIn) -> AnchorIn:
    """One anchor from what a request gave and what a picture adds."""
    labels = list(given.labels)
    for label in picture.labels:
        at = next((i for i, other in enumerate(labels) if other.object == label.object), None)
        if at is None or _regions(labels[at]) or labels[at].absent:
            labels.append(label)
        else:
            labels[at] = labels[at].model_copy(update={"mask": label.mask})
    return given.model_copy(update={"labels": labels, "void": given.void or picture.void})


def _rle_in(mask: Mask) -> RleIn:
    encoded = rle.encode(mask)
    height, width = encoded["size"]
    return RleIn(size=(height, width), counts=encoded["counts"])
