"""The frame table: which frames a video has, when they are shown, and where decoding can start.

It is made once, when a video is accepted, and stored; every later reading goes by it, so that index n is one and the
same picture to the API, to a job and to an export.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from os import PathLike
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class FrameTable:
    """All frames of a video, in the order shown.

    Attributes:
        pts: int64 (n,), presentation timestamps in `time_base`, strictly increasing.
        keyframe: bool (n,), where a decoder can start.
        time_base: seconds of one tick of `pts`.
        by_pts: whether a decoded frame is recognised by its timestamp. False where the file's own timestamps are
            missing or wrong; frames are then counted from the start, and `pts` holds corrected times.
        names: file name of every frame for a folder or an archive of images, else None.
    """

    pts: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    time_base: Fraction
    by_pts: bool = True
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pts.dtype != np.int64 or self.pts.ndim != 1 or self.keyframe.dtype != np.bool_:
            raise ValueError("pts must be int64 (n,) and keyframe bool (n,)")
        if self.keyframe.shape != self.pts.shape or (self.names is not None and len(self.names) != len(self.pts)):
            raise ValueError("pts, keyframe and names must be of one length")
        if len(self.pts) == 0 or self.time_base <= 0 or (np.diff(self.pts) <= 0).any():
            raise ValueError("a frame table has at least one frame and strictly increasing timestamps")

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.pts)

    def time_ms(self, index: int) -> int:
        """Milliseconds from frame 0 to frame `index`, rounded half away from zero.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= index < len(self.pts):
            raise IndexError(f"frame {index} of {len(self.pts)}")
        return round_half_up(1000 * (int(self.pts[index]) - int(self.pts[0])) * self.time_base)

    def index_of(self, pts: int) -> int | None:
        """Index of the frame with timestamp `pts`, or None where no frame has it."""
        index = int(np.searchsorted(self.pts, pts))
        return index if index < len(self.pts) and int(self.pts[index]) == pts else None

    def keyframe_at_or_before(self, index: int) -> int | None:
        """The last keyframe at or before `index`, or None where decoding has to start at the file's beginning."""
        position = int(np.searchsorted(self._keyframes, index, side="right")) - 1
        return int(self._keyframes[position]) if position >= 0 else None

    @cached_property
    def _keyframes(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.keyframe)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the table as npz (no pickle) under exactly this name."""
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                schema_version=np.int64(SCHEMA_VERSION),
                pts=self.pts,
                keyframe=self.keyframe,
                time_base=np.array([self.time_base.numerator, self.time_base.denominator], dtype=np.int64),
                by_pts=np.bool_(self.by_pts),
                names=np.array(self.names or (), dtype=np.str_),
            )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FrameTable:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no frame table, or one of another schema version.
            OSError: the file cannot be read.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as data:
                version = int(data["schema_version"])
                if version != SCHEMA_VERSION:
                    raise ValueError(f"frame table of schema version {version}, expected {SCHEMA_VERSION}")
                numerator, denominator = (int(part) for part in data["time_base"])
                return cls(
                    pts=data["pts"],
                    keyframe=data["keyframe"],
                    time_base=Fraction(numerator, denominator),
                    by_pts=bool(data["by_pts"]),
                    names=tuple(str(name) for name in data["names"]) or None,
                )
        except (KeyError, TypeError, EOFError, AttributeError, BadZipFile, ZeroDivisionError) as error:
            raise ValueError(f"{path} is not a frame table: {error}") from error


def round_half_up(value: Fraction) -> int:
    """The nearest integer; halves away from zero, as the contract of `time_ms` has it."""
    sign = -1 if value < 0 else 1
    return sign * ((2 * abs(value.numerator) + value.denominator) // (2 * value.denominator))
