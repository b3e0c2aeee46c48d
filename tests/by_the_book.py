"""The datasets' protocols a second time, in their own terms and slowly, to hold `labelprop evaluate` against."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

Box = tuple[float, float, float, float]

_SHARED = Path(os.environ.get("LABELPROP_SHARED", Path(__file__).parents[2] / "shared"))
_SCORER = _SHARED / "tools" / "score.py"

needs_scorer = pytest.mark.skipif(
    not _SCORER.is_file(), reason="no ../shared/tools/score.py (or $LABELPROP_SHARED): it lies beside the project"
)


def shared_scorer() -> ModuleType:
    """The independent scorer beside the project, with its `score_masks` and `score_points`."""
    spec = importlib.util.spec_from_file_location("shared_scorer", _SCORER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def edges(mask: np.ndarray) -> np.ndarray:
    """The boundary map of the DAVIS toolkit (seg2bmap), which treats the last row and column on their own."""
    east, south, south_east = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    east[:, :-1], south[:-1], south_east[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edge = (mask ^ east) | (mask ^ south) | (mask ^ south_east)
    edge[-1], edge[:, -1] = mask[-1] ^ east[-1], mask[:, -1] ^ south[:, -1]
    edge[-1, -1] = False
    return edge


def boundary_f(pred: np.ndarray, truth: np.ndarray, tolerance: float = 0.008) -> float:
    """DAVIS's F by distance transforms."""
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    p, t = edges(pred), edges(truth)
    if not p.any() or not t.any():
        return float(not p.any() and not t.any())
    near_t = ndimage.distance_transform_edt(~t) <= radius
    near_p = ndimage.distance_transform_edt(~p) <= radius
    precision, recall = (p & near_t).sum() / p.sum(), (t & near_p).sum() / t.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def jaccard(pred: np.ndarray, truth: np.ndarray) -> float:
    """DAVIS's J."""
    union = (pred | truth).sum()
    return 1.0 if union == 0 else float((pred & truth).sum() / union)


def statistics(values: Sequence[float]) -> tuple[float, float, float]:
    """The DAVIS toolkit's mean, recall and decay, with its own rounding of the quarters' ends."""
    array = np.asarray(values, np.float64)
    ids = np.round(np.linspace(1, len(array), 5) + 1e-10).astype(int) - 1
    bins = [array[ids[i] : ids[i + 1] + 1] for i in range(4)]
    return float(np.mean(array)), float(np.mean(array > 0.5)), float(np.mean(bins[0]) - np.mean(bins[3]))


def davis(
    pred: Mapping[str, Sequence[np.ndarray]], truth: Mapping[str, Sequence[np.ndarray]], *, single: bool = False
) -> dict[str, float]:
    """The seven numbers of a set of sequences, from index maps by frame; `single` where values are 0 and 255."""
    rows = []
    for name, frames in truth.items():
        identities = [255] if single else [int(each) for each in np.unique(frames[0]) if each not in (0, 255)]
        for identity in identities:
            pairs = [
                (p > 0, t > 0) if single else (p == identity, t == identity)
                for p, t in zip(pred[name], frames, strict=True)
            ][1:-1]
            j, f = [jaccard(*pair) for pair in pairs], [boundary_f(*pair) for pair in pairs]
            rows.append((*statistics(j), *statistics(f)))
    j, j_recall, j_decay, f, f_recall, f_decay = np.mean(rows, axis=0).tolist()
    return {
        "J&F": (j + f) / 2, "J": j, "J-recall": j_recall, "J-decay": j_decay,
        "F": f, "F-recall": f_recall, "F-decay": f_decay,
    }  # fmt: skip


def pck(pred: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], alpha: float) -> float:
    """PCK of clips, each (2, joints, frames): every joint's share over all clips, then the joints' mean."""
    hits: list[list[bool]] = [[] for _ in range(next(iter(truth.values())).shape[1])]
    for name, true in truth.items():
        for t in range(1, true.shape[2]):
            low, high = true[:, :, t].min(axis=1), true[:, :, t].max(axis=1)
            box = 0.6 * np.linalg.norm(high - low)
            for j, of_joint in enumerate(hits):
                of_joint.append(bool(np.linalg.norm(pred[name][:, j, t] - true[:, j, t]) / box <= alpha))
    return float(np.mean([np.mean(of_joint) for of_joint in hits]))


def vip(pred: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """mIoU of VIP: the pixels of all frames together, class by class, without those that are nowhere."""
    p, t = (np.concatenate([each.reshape(-1) for each in maps]) for maps in (pred, truth))
    p, t = p[t < 20], t[t < 20]
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")
        shares = [np.float64(((p == k) & (t == k)).sum()) / ((p == k) | (t == k)).sum() for k in range(20)]
    return float(np.nanmean(shares))


def otb(pred: Sequence[Box], truth: Sequence[Box]) -> tuple[float, float]:
    """Success AUC and precision at 20 pixels of one sequence, as OTB's toolkit takes rectangles: of whole pixels."""
    overlaps, distances = [], []
    for (px, py, pw, ph), (tx, ty, tw, th) in zip(pred, truth, strict=True):
        across = max(0.0, min(px + pw - 1, tx + tw - 1) - max(px, tx) + 1)
        down = max(0.0, min(py + ph - 1, ty + th - 1) - max(py, ty) + 1)
        overlaps.append(across * down / (pw * ph + tw * th - across * down))
        centres = np.array((px + (pw - 1) / 2, py + (ph - 1) / 2)), np.array((tx + (tw - 1) / 2, ty + (th - 1) / 2))
        distances.append(np.linalg.norm(centres[0] - centres[1]))
    curve = [sum(overlap > threshold for overlap in overlaps) / len(overlaps) for threshold in np.arange(0, 21) / 20]
    return float(np.mean(curve)), float(np.mean(np.array(distances) <= 20))
