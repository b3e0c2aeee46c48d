"""What is propagated while it is timed: a rendered scene whose truth is known, or the caller's own video."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.labels import FrameResult, indexed_png
from model.labels.types import MAX_OBJECT_ID
from model.rendered import RenderedClip, render_clip, write_clip

LOOP = 48
"""Frames that are rendered; a longer clip plays them forth and back."""
IN_SCENE = 16
"""Objects that the scene shows at least, so that it is the same however many of them are labelled."""
_LEAST_SIDE = 32
_MOST_SIDE = 8192


@dataclass(frozen=True)
class Scene:
    """A rendered clip of which the first objects are labelled.

    Attributes:
        width, height: in pixels.
        objects: how many are labelled.
        shown: how many the scene has.
        frame_count: how long it is.
    """

    width: int
    height: int
    objects: int
    shown: int
    frame_count: int

    def clip(self) -> RenderedClip:
        """The clip, to be painted and asked for its truth."""
        return render_clip(
            width=self.width, height=self.height, frame_count=self.frame_count, objects=self.shown, loop=LOOP
        )

    def write(self, path: Path) -> None:
        """Encodes the clip, which is the same for any number of labelled objects."""
        write_clip(self.clip(), path)

    def mask(self) -> bytes:
        """The first frame's true mask of the labelled objects, as an indexed PNG."""
        return indexed_png.encode(labelled(self.clip().mask(0), self.objects))


def labelled(index_map: NDArray[np.uint8], objects: int) -> NDArray[np.uint8]:
    """An index map in which only the first `objects` are marked."""
    return np.where(index_map <= objects, index_map, 0).astype(np.uint8)


def index_map_of(result: FrameResult, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A result's masks as one (height, width) uint8 index map; they do not overlap."""
    index_map = np.zeros(shape, np.uint8)
    for each in result.objects:
        if each.mask is not None:
            index_map[each.mask] = each.object
    return index_map


def sizes(text: str) -> list[tuple[int, int]]:
    """Sizes of frames from `480p,1080p,640x360`: a height at 16:9, or width x height.

    Raises:
        InputError: what cannot be rendered.
    """
    found = []
    for part in _parts(text, "--sizes"):
        wide = re.fullmatch(r"(\d{1,5})p", part)
        both = re.fullmatch(r"(\d{1,5})x(\d{1,5})", part)
        if wide:
            height = int(wide[1])
            size = (2 * round(height * 8 / 9), height)
        elif both:
            size = (int(both[1]), int(both[2]))
        else:
            raise InputError(f"--sizes: {part!r} is no size. Give heights (480p) or sizes (854x480), commas between.")
        if any(not _LEAST_SIDE <= side <= _MOST_SIDE or side % 2 for side in size):
            detail = f"--sizes: {part!r} is {size[0]} x {size[1]}. Both must be even, {_LEAST_SIDE} to {_MOST_SIDE}."
            raise InputError(detail)
        found.append(size)
    return found


def counts(text: str, option: str, *, least: int = 1, most: int | None = None) -> list[int]:
    """Whole numbers from `1,4,16`, ascending.

    Raises:
        InputError: something else, or a number out of bounds.
    """
    numbers = []
    for part in _parts(text, option):
        if not re.fullmatch(r"\d{1,9}", part):
            raise InputError(f"{option}: {part!r} is no whole number. Give one or several, commas between.")
        number = int(part)
        if number < least or (most is not None and number > most):
            bounds = f"{least} or more" if most is None else f"{least} to {most}"
            raise InputError(f"{option}: {number} is out of bounds; {bounds}.")
        numbers.append(number)
    return sorted(set(numbers))


def object_counts(text: str) -> list[int]:
    """As `counts`, for how many objects are labelled."""
    return counts(text, "--objects", most=MAX_OBJECT_ID)


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(f"{option}: {text!r} has an empty part. Give one or several, commas between.")
    return list(dict.fromkeys(parts))
