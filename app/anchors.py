"""Labels as a caller sent them become the model's own types; every fault is found, with a pointer into the request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, ParamSpec, Protocol

import numpy as np

from app.problems import InvalidDocument
from app.schemas.labels import AnchorIn, LabelIn, RleIn, SkeletonIn
from model.errors import InputError, LabelError
from model.labels import Anchor, Keypoint, Label, indexed_png, raster, rle
from model.labels.types import Mask

P = ParamSpec("P")
Skeletons = Mapping[int, SkeletonIn | None]
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


class Faults(list[InputError]):
    """Faults found so far; the first hundred are kept."""

    def add(self, slug: str, pointer: str, detail: str) -> None:
        if len(self) < 100:
            self.append(InputError(detail, slug=slug, pointer=pointer))

    def stop(self) -> None:
        if self:
            raise InvalidDocument(self)


def read_anchors(
    anchors: Sequence[AnchorIn],
    skeletons: Skeletons,
    video: VideoSize,
    covered: range,
    faults: Faults,
) -> Iterator[Anchor]:
    """The anchors one by one, in the order given, as far as they are without fault.

    Args:
        anchors: as the caller sent them.
        skeletons: the declared objects, in their order, by id.
        video: what the labels are drawn on.
        covered: the frames of the job.
        faults: what is wrong is added here, with pointers into the request.
    """
    if not anchors:
        faults.add("no-anchors", "/anchors", "Label at least one frame.")
        return
    regions = sum(
        sum(1 for label in anchor.labels if regions_of(label)) + (anchor.void is not None) for anchor in anchors
    )
    pixels = video.width * video.height
    if regions * pixels > MAX_LABEL_PIXELS:
        most = MAX_LABEL_PIXELS // pixels
        detail = f"{regions} regions are too many for frames of this size: at most {most}. Label fewer frames."
        faults.add("too-many-labels", "/anchors", detail)
        return
    frames: set[int] = set()
    labelled: set[int] = set()
    for i, anchor in enumerate(anchors):
        where = f"/anchors/{i}"
        _check_frame(anchor.frame, f"{where}/frame", video.frame_count, covered, frames, faults)
        before = len(faults)
        read = _anchor(anchor, where, video, skeletons, faults)
        # A label with a fault counts too: its own fault is the one to mend.
        labelled.update(label.object for label in anchor.labels if not label.absent or len(faults) > before)
        if len(faults) == before:
            yield read
    for i, object_id in enumerate(skeletons):
        if object_id not in labelled:
            detail = f"Object {object_id} is labelled nowhere. Give it a region or keypoints on an anchor, or drop it."
            faults.add("object-unlabelled", f"/objects/{i}", detail)


def _check_frame(frame: int, pointer: str, count: int, covered: range, seen: set[int], faults: Faults) -> None:
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


def _anchor(
    anchor: AnchorIn, where: str, video: VideoSize, skeletons: Mapping[int, SkeletonIn | None], faults: Faults
) -> Anchor:
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
        if label.object not in skeletons:
            known = ", ".join(map(str, sorted(skeletons))) or "none"
            detail = f"Object {label.object} is not declared in `objects` (declared: {known})."
            faults.add("unknown-object", f"{pointer}/object", detail)
            continue
        if label.object in seen:
            detail = f"Object {label.object} is labelled twice on frame {anchor.frame}. Put it into one label."
            faults.add("duplicate-label", pointer, detail)
        seen.add(label.object)
        if not _check_content(label, pointer, faults):
            continue
        keypoints = _keypoints(label, skeletons[label.object], f"{pointer}/keypoints", video, faults)
        region: _Region | None = None
        for name in regions_of(label):
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


def _check_content(label: LabelIn, pointer: str, faults: Faults) -> bool:
    regions = regions_of(label)
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


def regions_of(label: LabelIn) -> list[str]:
    """The names of the regions that a label holds; at most one is allowed."""
    return [name for name in ("mask", "png", "polygon", "box") if getattr(label, name) is not None]


def _caught(
    faults: Faults, pointer: str, read: Callable[P, _Region], *args: P.args, **kwargs: P.kwargs
) -> _Region | None:
    """What `read` returns, or None and a fault at `pointer`."""
    try:
        return read(*args, **kwargs)
    except InputError as error:
        faults.add(error.slug, pointer + (error.pointer or ""), error.detail)
        return None


def _read(label: LabelIn, name: str, video: VideoSize) -> _Region:
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


def _rle(given: RleIn | None, video: VideoSize) -> _Region:
    assert given is not None
    document = {"size": list(given.size), "counts": given.counts}
    size = (video.width, video.height)
    return _Region(rle.decode(document, size=size, max_pixels=video.width * video.height))


def _png(text: str, object_id: int, video: VideoSize) -> _Region:
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
    label: LabelIn, skeleton: SkeletonIn | None, pointer: str, video: VideoSize, faults: Faults
) -> tuple[Keypoint, ...]:
    seen: set[str] = set()
    for k, point in enumerate(label.keypoints):
        where = f"{pointer}/{k}"
        if point.name in seen:
            faults.add("duplicate-label", f"{where}/name", f"The keypoint {point.name!r} stands twice in this label.")
        elif skeleton is not None and point.name not in skeleton.points:
            names = ", ".join(skeleton.points)
            detail = f"The skeleton of object {label.object} has no point {point.name!r}; it has: {names}."
            faults.add("bad-keypoint", f"{where}/name", detail)
        seen.add(point.name)
        if not (0 <= point.x <= video.width and 0 <= point.y <= video.height):
            detail = f"({point.x:g}, {point.y:g}) lies outside the frame of {video.width} x {video.height} pixels."
            faults.add("bad-keypoint", where, detail)
    return tuple(Keypoint(name=point.name, x=point.x, y=point.y, visible=point.visible) for point in label.keypoints)
