"""What a video may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps on one video. Every one is checked while reading, never taken from a header alone.

    Attributes:
        max_bytes: size of the file, or the total of a folder or of an archive's unpacked images.
        max_pixels: width times height of one frame.
        max_frames: frames in the video.
        max_seconds: time from the first frame to the last.
    """

    max_bytes: int = 8 * 1024**3
    max_pixels: int = 4096 * 2304
    max_frames: int = 200_000
    max_seconds: float = 4 * 3600.0
