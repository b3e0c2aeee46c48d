"""The measures of DAVIS for masks (J and F) and PCK for keypoints, in numpy alone.

J is the Jaccard index and F the boundary measure of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for
Video Object Segmentation" (CVPR 2016), with boundaries matched within a disc as in the DAVIS toolkit. PCK follows the
JHMDB protocol that the correspondence papers use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.labels.types import Mask

Point = Sequence[float] | None
Track = Sequence[Sequence[Point]]
"""Keypoints of one clip by frame and joint: (x, y) in pixels, or None for a joint that is not there."""


def jaccard(pred: Mask, truth: Mask) -> float:
    """Intersection over union of two masks (height, width); 1.0 when both are empty."""
    union = np.count_nonzero(pred | truth)
    return 1.0 if union == 0 else np.count_nonzero(pred & truth) / union


def boundary_f(pred: Mask, truth: Mask, tolerance: float = 0.008) -> float:
    """The F measure of two masks' boundaries (height, width).

    A boundary pixel is right when the other boundary comes within `tolerance` of the picture's diagonal, rounded up to
    whole pixels. 1.0 when neither mask has a boundary, 0.0 when only one has.
    """
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    pred_edge, truth_edge = boundary(pred), boundary(truth)
    window = _around(pred_edge | truth_edge)
    if window is None:
        return 1.0
    pred_edge, truth_edge = pred_edge[window], truth_edge[window]
    pred_count, truth_count = np.count_nonzero(pred_edge), np.count_nonzero(truth_edge)
    if not pred_count or not truth_count:
        return 0.0
    precision = np.count_nonzero(pred_edge & dilate(truth_edge, radius)) / pred_count
    recall = np.count_nonzero(truth_edge & dilate(pred_edge, radius)) / truth_count
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def boundary(mask: Mask) -> Mask:
    """The pixels (height, width) whose right, lower or lower right neighbour is on the other side of the outline."""
    mask = np.asarray(mask, np.bool_)
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def dilate(mask: Mask, radius: int) -> Mask:
    """The pixels within `radius` of a pixel of the mask, by Euclidean distance between centres (exact)."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    row = mask.copy()  # dilated along x by `reach` pixels each way
    reach = 0
    for dy in range(radius, -1, -1):
        half = math.isqrt(radius * radius - dy * dy)
        while reach < half:
            reach += 1
            if reach < width:
                row[:, reach:] |= mask[:, :-reach]
                row[:, :-reach] |= mask[:, reach:]
        if dy == 0:
            out |= row
        elif dy < height:
            out[dy:] |= row[:-dy]
            out[:-dy] |= row[dy:]
    return out


def pck(pred: Track | Mapping[str, Track], truth: Track | Mapping[str, Track], alpha: float) -> float:
    """The share of keypoints that are right, for one clip or for many by name.

    A joint is right when its distance to the truth is at most `alpha` times 0.6 times the diagonal of the box around
    that frame's true joints. The first frame of a clip is not scored, nor are frames with fewer than two true joints; a
    joint without a prediction is wrong. Each joint's share over all clips first, then the mean over joints. NaN when
    nothing can be scored.
    """
    truths = truth if isinstance(truth, Mapping) else {"": truth}
    preds = pred if isinstance(pred, Mapping) else {"": pred}
    hits: dict[int, list[bool]] = {}
    for clip, frames in truths.items():
        guesses = preds.get(clip, ())
        for t, joints in enumerate(frames):
            known = np.array([joint for joint in joints if joint is not None], np.float64)
            if t == 0 or len(known) < 2:
                continue
            reach = alpha * 0.6 * math.hypot(*(known.max(0) - known.min(0)))
            guess = guesses[t] if t < len(guesses) else ()
            for j, joint in enumerate(joints):
                if joint is not None:
                    point = guess[j] if j < len(guess) else None
                    hits.setdefault(j, []).append(point is not None and math.dist(point, joint) <= reach)
    shares = [sum(right) / len(right) for right in hits.values()]
    return sum(shares) / len(shares) if shares else math.nan


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """The slices that hold every pixel of the mask; None when it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
