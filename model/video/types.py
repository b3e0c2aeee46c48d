"""What the reader yields and says about a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Frame:
    """One frame, as shown.

    Args:
        index: 0-based index in the video, whatever range or stride is being read.
        time_ms: presentation time in milliseconds after frame 0.
        image: its pixels, or what decodes them when they are first asked for.

    Attributes:
        index, time_ms: as given.
    """

    __slots__ = ("_image", "_read", "index", "time_ms")

    def __init__(self, index: int, time_ms: int, image: NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]) -> None:
        self.index, self.time_ms = index, time_ms
        self._image: NDArray[np.uint8] | None = None if callable(image) else image
        self._read: Callable[[], NDArray[np.uint8]] | None = image if callable(image) else None

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 RGB, shape (height, width, 3), C-contiguous, rotation metadata applied.

        Of a frame that is not decoded yet, this decodes it: at the cost of a jump in the video, and not by two threads.

        Raises:
            MediaError: `frame-unreadable`, naming the index; only where the frame is not decoded yet.
        """
        if self._image is None:
            assert self._read is not None
            self._image, self._read = self._read(), None
        return self._image

    @property
    def decoded(self) -> bool:
        """Whether `image` is at hand."""
        return self._image is not None


@dataclass(frozen=True)
class VideoInfo:
    """The facts of a video.

    Attributes:
        container: `mp4`, `mov`, `webm`, `matroska`, `avi` or `mpegts`; `zip` or `folder` for images.
        codec: name of the codec, for images the format (`jpeg`, `png`, ...).
        width, height: in pixels as shown, that is after rotation.
        frame_count: exact number of frames.
        duration_ms: time of the last frame plus one mean frame interval.
        fps: mean rate, or None where there is none (a single frame, images without a stated rate).
        sample_aspect_ratio: width of a pixel over its height, as shown; reported, never resampled.
        rotation: clockwise degrees (0, 90, 180 or 270) that the reader applies to the stored picture.
        bytes: size of the file; of a folder, the total of its images.
    """

    container: str
    codec: str
    width: int
    height: int
    frame_count: int
    duration_ms: int
    fps: Fraction | None
    sample_aspect_ratio: Fraction
    rotation: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """A JSON document; `fps` becomes `{"ratio": "30000/1001", "value": 29.97}` or null."""
        document = asdict(self)
        document["fps"] = None if self.fps is None else _ratio(self.fps)
        document["sample_aspect_ratio"] = f"{self.sample_aspect_ratio.numerator}/{self.sample_aspect_ratio.denominator}"
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> VideoInfo:
        """The inverse of `to_json`; fields that this version does not know are left out.

        Raises:
            KeyError, ValueError, TypeError: the document was not written by `to_json`.
        """
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        fields["fps"] = None if fields["fps"] is None else Fraction(fields["fps"]["ratio"])
        fields["sample_aspect_ratio"] = Fraction(fields["sample_aspect_ratio"])
        return cls(**fields)


def _ratio(fps: Fraction) -> dict[str, Any]:
    return {"ratio": f"{fps.numerator}/{fps.denominator}", "value": round(float(fps), 3)}
