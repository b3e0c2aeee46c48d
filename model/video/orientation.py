"""How a stored picture is turned and mirrored to be shown."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import SideData
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways a picture can lie: first transposed, then mirrored.

    Attributes:
        transpose: rows become columns.
        mirror_x: left and right change places.
        mirror_y: top and bottom change places.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def rotation(self) -> int:
        """Clockwise degrees; a mirrored picture counts as turned by the nearest half turn of its vertical axis."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) as shown of a picture stored with that width and height."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an (H, W, 3) picture; the result is C-contiguous."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        if self.mirror_x:
            image = image[:, ::-1]
        if self.mirror_y:
            image = image[::-1]
        return np.ascontiguousarray(image)

    @classmethod
    def of_frame(cls, frame: av.VideoFrame) -> Orientation:
        """Read a decoded frame's display matrix; turns that are no multiple of 90 degrees go to the nearest one."""
        data = frame.side_data.get("DISPLAYMATRIX")
        matrix = bytes(data) if isinstance(data, SideData) else b""
        if len(matrix) < 36:
            return cls()
        # Row vectors: (x', y') = (a x + c y, b x + d y). The matrix is [a b u; c d v; x y w] in 16.16 fixed point.
        a, b, _, c, d = struct.unpack("=9i", matrix[:36])[:5]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(transpose=False, mirror_x=a < 0, mirror_y=d < 0)
        return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0)

    @classmethod
    def of_exif(cls, tag: int) -> Orientation:
        """The meaning of EXIF's orientation tag (1 to 8); anything else is upright."""
        return _EXIF.get(tag, cls())


_EXIF = {
    2: Orientation(mirror_x=True),
    3: Orientation(mirror_x=True, mirror_y=True),
    4: Orientation(mirror_y=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, mirror_x=True),
    7: Orientation(transpose=True, mirror_x=True, mirror_y=True),
    8: Orientation(transpose=True, mirror_y=True),
}
