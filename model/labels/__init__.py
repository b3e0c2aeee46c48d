"""Labels: what an object looks like on a frame, and the forms labels come in and go out as.

`types` has the vocabulary, `rle`, `raster` and `indexed_png` turn the forms of a region into boolean masks and back,
and `jsonio` is the one place that turns a frame's result into JSON and back. Nothing here imports torch.

Geometry everywhere: pixels, x right, y down, the centre of the top-left pixel at (0.5, 0.5); a box is
(x, y, width, height); a mask is a boolean array (height, width).
"""

from __future__ import annotations

from model.labels.indexed_png import colour_of
from model.labels.types import (
    Anchor,
    FrameResult,
    Keypoint,
    KeypointResult,
    Label,
    LabelObject,
    ObjectResult,
    Skeleton,
)

__all__ = [
    "Anchor",
    "FrameResult",
    "Keypoint",
    "KeypointResult",
    "Label",
    "LabelObject",
    "ObjectResult",
    "Skeleton",
    "colour_of",
]
