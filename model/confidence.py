"""From evidence to one number, 0 to 1: how much of the label is expected to be right.

The number estimates J, the overlap of the label with the truth, by a logistic curve over a weighted sum of evidence.
Weights were fitted to measured overlaps and are kept above 0: better evidence never lowers a confidence. What they
reach on clips that they were not fitted on stands in docs/accuracy.md.
"""

from __future__ import annotations

import math

import numpy as np

from model.evidence import NAMES

# Written by: python tools/confidence.py --davis DAVIS --jhmdb JHMDB --cache plain.json, and then the same with
# --cache balanced.json --preset balanced --working-size 240 --refit --also plain.json
# fitted:
INTERCEPT = -4.162
WEIGHTS = {
    "mass": 1.924,
    "outline": 1.808,
    "back": 0.135,
    "kept": 0.145,
    "own": 0.317,
    "spread": 1.001,
    "memory": 0.370,
}
# end of fitted

GONE = 0.10
"""Below this product of `mass` and `own` an object is taken to be gone: see `gone`."""

_MASS, _OWN = NAMES.index("mass"), NAMES.index("own")
_WEIGHTS = np.array([WEIGHTS.get(name, 0.0) for name in NAMES], np.float64)


def expected_overlap(evidence: np.ndarray) -> float:
    """The expected overlap of a propagated label with the truth.

    Args:
        evidence: (len(NAMES),), one channel's row.
    """
    return 1 / (1 + math.exp(-(INTERCEPT + float(_WEIGHTS @ evidence))))


def gone(evidence: np.ndarray) -> bool:
    """Whether what arrived on a frame is no longer the object, so that the object is taken to be hidden or away.

    A label that clings to what hides its object, or to the ground where it was, is both: undecided, since most matches
    say that nothing is there, and unlike the object on its anchor. Either alone is no sign: an object that comes back
    is undecided at first, and one that turned around is unlike its anchor.

    Args:
        evidence: (len(NAMES),), one channel's row.
    """
    return float(evidence[_MASS] * evidence[_OWN]) < GONE
