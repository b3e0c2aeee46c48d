"""From evidence to one number, 0 to 1: how much of the label is expected to be right.

The number estimates J, the overlap of the label with the truth, by a logistic curve over a weighted sum of evidence.
Weights were fitted to measured overlaps and are kept above 0: better evidence never lowers a confidence. What they
reach on clips that they were not fitted on stands in docs/accuracy.md.
"""

from __future__ import annotations

import math

import numpy as np

from model.evidence import NAMES

# Written by: python tools/confidence.py --davis DAVIS --jhmdb JHMDB --refit
# fitted:
INTERCEPT = -6.0
WEIGHTS = {"back": 2.0, "kept": 2.0, "own": 2.0, "memory": 2.0}
# end of fitted

GONE = 0.15
"""An object whose label has less confidence than this is taken to be gone: see `gone`."""

_WEIGHTS = np.array([WEIGHTS.get(name, 0.0) for name in NAMES], np.float64)


def expected_overlap(evidence: np.ndarray) -> float:
    """The expected overlap of a propagated label with the truth.

    Args:
        evidence: (len(NAMES),), one channel's row.
    """
    return 1 / (1 + math.exp(-(INTERCEPT + float(_WEIGHTS @ evidence))))


def gone(evidence: np.ndarray) -> bool:
    """Whether what arrived on a frame is no longer the object, so that the object is taken to be hidden or away."""
    return expected_overlap(evidence) < GONE
