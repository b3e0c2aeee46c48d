"""The overlay: the video with its labels drawn on it, as an H.264 MP4 that plays everywhere, at the original times."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.formats.options import DEFAULTS, ExportOptions
from model.labels import FrameResult, LabelObject, ObjectResult
from model.labels.raster import tight_box
from model.labels.types import Colour, Mask
from model.video import Frame, encode_video

if TYPE_CHECKING:
    from app.formats.base import ExportInput

_STILL_FPS = Fraction(1)


def write(given: ExportInput, path: Path) -> None:
    """The frames that have results, each at its own time after the first of them.

    Raises:
        MediaError: `no-frames` where there are no results, `frame-unreadable` where a frame does not decode.
    """
    encode_video(
        path,
        (draw(frame.image, result, given.objects, given.options) for frame, result in _paired(given)),
        fps=given.info.fps or _STILL_FPS,
        pts_ms=_times(given.results()),
        sample_aspect_ratio=given.info.sample_aspect_ratio,
    )


def draw(
    image: NDArray[np.uint8],
    result: FrameResult,
    objects: tuple[LabelObject, ...],
    options: ExportOptions = DEFAULTS,
) -> NDArray[np.uint8]:
    """One frame with its labels: translucent regions with outlines, points with their skeleton, and names.

    Args:
        image: (height, width, 3) uint8 RGB; it is not changed.
        result: its labels.
        objects: whose colours, names and skeletons are used.
        options: outline, opacity, names and confidence.

    Returns:
        A new (height, width, 3) uint8 RGB.
    """
    by_id = {object_.id: object_ for object_ in objects}
    shown = [(by_id[found.object], found) for found in result.objects if found.visible and found.object in by_id]
    canvas = image.copy()
    thickness = max(1, round(min(image.shape[:2]) / 300))
    for object_, found in shown:
        if found.mask is not None:
            _paint(canvas, found.mask, object_.colour, thickness, options)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for object_, found in shown:
        if found.mask is None and found.box is not None:
            x, y, width, height = found.box
            pen.rectangle((x, y, x + width, y + height), outline=object_.colour, width=thickness)
        _points(pen, object_, found, thickness)
    for object_, found in shown:
        words = [object_.name] if options.names else []
        words += [f"{found.confidence:.2f}"] if options.confidence else []
        if words:
            _tag(pen, " ".join(words), object_.colour, _corner(found), picture.size)
    return np.asarray(picture)


def _paired(given: ExportInput) -> Iterator[tuple[Frame, FrameResult]]:
    """Each result with its frame; frames without a result are passed over."""
    frames: Iterator[Frame] | None = None
    for result in given.results():
        frames = frames or given.frames(result.frame)
        yield next(frame for frame in frames if frame.index == result.frame), result


def _times(results: Iterator[FrameResult]) -> Iterator[int]:
    first, last = None, -1
    for result in results:
        first = result.time_ms if first is None else first
        # Above 1000 frames a second two frames share a millisecond; the file needs them apart.
        last = max(result.time_ms - first, last + 1)
        yield last


def _paint(canvas: NDArray[np.uint8], mask: Mask, colour: Colour, thickness: int, options: ExportOptions) -> None:
    box = tight_box(mask)
    if box is None:
        return
    # Only the part of the picture that the object covers is touched.
    margin = thickness + 1
    left, top = max(0, int(box[0]) - margin), max(0, int(box[1]) - margin)
    right, bottom = int(box[0] + box[2]) + margin, int(box[1] + box[3]) + margin
    region, inside = canvas[top:bottom, left:right], mask[top:bottom, left:right]
    tint = np.array(colour, np.float32)
    fill = np.float32(options.opacity)
    region[inside] = (region[inside] * (1 - fill) + tint * fill).astype(np.uint8)
    if options.outline:
        region[inside & ~_shrunk(inside, thickness)] = colour


def _shrunk(mask: Mask, steps: int) -> Mask:
    """The mask without its outermost `steps` pixels; what lies beyond the frame counts as inside."""
    for _ in range(steps):
        padded = np.pad(mask, 1, mode="edge")
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _points(pen: ImageDraw.ImageDraw, object_: LabelObject, found: ObjectResult, thickness: int) -> None:
    by_name = {point.name: point for point in found.keypoints}
    if object_.skeleton is not None:
        ends = [tuple(by_name.get(object_.skeleton.points[end]) for end in edge) for edge in object_.skeleton.edges]
        for a, b in ends:
            if a is not None and b is not None and a.visible and b.visible:
                pen.line((a.x, a.y, b.x, b.y), fill=(255, 255, 255), width=2 * thickness)
    radius = 2 * thickness + 1
    for point in found.keypoints:
        around = (point.x - radius, point.y - radius, point.x + radius, point.y + radius)
        if point.visible:
            pen.ellipse(around, fill=object_.colour, outline=(255, 255, 255), width=thickness)
        else:
            pen.ellipse(around, outline=object_.colour, width=thickness)


def _tag(
    pen: ImageDraw.ImageDraw, text: str, colour: Colour, corner: tuple[float, float], size: tuple[int, int]
) -> None:
    x, y = corner
    font = _font(max(10, min(size) // 28))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pad = max(2, (bottom - top) // 4)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x, y = max(0.0, min(x, size[0] - width)), max(0.0, min(y - height - pad, size[1] - height))
    pen.rounded_rectangle((x, y, x + width, y + height), radius=pad, fill=colour)
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 150
    pen.text((x + pad - left, y + pad - top), text, font=font, fill=(0, 0, 0) if light else (255, 255, 255))


def _corner(found: ObjectResult) -> tuple[float, float]:
    box = found.box or (None if found.mask is None else tight_box(found.mask))
    if box is not None:
        return box[0], box[1]
    return min((p.x for p in found.keypoints), default=0.0), min((p.y for p in found.keypoints), default=0.0)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
