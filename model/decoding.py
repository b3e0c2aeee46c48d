"""From soft maps to labels: masks at the frame's own resolution, keypoints below the cell, and how sure each is."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from model.box_votes import located_box
from model.channels import KEYPOINT_SIGMA, Channel, ChannelSet
from model.confidence import expected_overlap, gone
from model.geometry import Grid
from model.labels import FrameResult, Keypoint, KeypointResult, Label, LabelObject, ObjectResult, raster
from model.labels.raster import tight_box
from model.labels.types import Box

KEYPOINT_CELLS = 5
"""A keypoint is the weighted mean of its map's best cells (UVC's JHMDB protocol)."""

VISIBLE_KEYPOINT = 0.1
"""The least confidence at which a propagated keypoint counts as visible."""

# The mass of a keypoint's own Gaussian on the grid: what an undisturbed match hands on.
_WHOLE_KEYPOINT = 2 * math.pi * KEYPOINT_SIGMA**2


@torch.inference_mode()
def decode(
    channels: ChannelSet,
    frame: int,
    time_ms: int,
    values: Tensor,
    known: np.ndarray,
    evidence: np.ndarray | None = None,
    *,
    declare_gone: bool = True,
) -> FrameResult:
    """The labels of one frame.

    Regions compete at every pixel with each other and with the background, whose share is what the regions leave of 1;
    soft maps are interpolated first and compared after. An object that carries the sides of its boxes is where they
    locate it (`box_votes`); its mask is that rectangle, less what regions of other objects win.

    What an anchor gave on this frame comes back as it gave it, and its objects have the source `anchor`. Where it gave
    keypoints of an object whose region is known from elsewhere, the region is propagated, and the object's confidence
    is the region's; given keypoints have 1 of their own. Likewise given regions may stand beside propagated keypoints.

    A region that the evidence does not take for its object any more is left empty, and the object is not visible, if
    `declare_gone` says so; the soft maps know nothing of it, and the object is there again as soon as the evidence is.

    Args:
        values: (C, rows, columns) float32 soft maps on the CPU.
        known: (C,) bool, the channels of which an anchor has been seen.
        evidence: (C, len(model.evidence.NAMES)); None leaves confidence to what the maps alone say, and takes nothing
            for gone.
    """
    masks = _masks(channels, values, known)
    boxes = _located(channels, values, known, masks) if channels.extents else {}
    anchor = channels.anchors.get(frame)
    labels = {label.object: label for label in anchor.labels} if anchor else {}
    objects = tuple(
        _object(
            channels,
            declared,
            masks.get(declared.id),
            boxes.get(declared.id),
            values,
            known,
            labels.get(declared.id),
            evidence,
            declare_gone,
        )
        for declared in channels.objects
    )
    return FrameResult(frame=frame, time_ms=time_ms, objects=objects)


def _masks(channels: ChannelSet, values: Tensor, known: np.ndarray) -> dict[int, np.ndarray]:
    grid = channels.grid
    regions = [
        (channel.object, grid.support(values[number]) if known[number] else None)
        for number, channel in enumerate(channels.channels)
        if channel.region
    ]
    masks = {identity: np.zeros((grid.height, grid.width), bool) for identity, _ in regions}
    supports = [(identity, support) for identity, support in sorted(regions, key=lambda r: r[0]) if support]
    if not supports:
        return masks
    y0, y1 = min(s[0].start for _, s in supports), max(s[0].stop for _, s in supports)
    x0, x1 = min(s[1].start for _, s in supports), max(s[1].stop for _, s in supports)
    # The winner so far, its share, and the shares of all: one pass an object, over its own support only.
    best, total = torch.zeros(y1 - y0, x1 - x0), torch.zeros(y1 - y0, x1 - x0)
    winner = torch.zeros(y1 - y0, x1 - x0, dtype=torch.uint8)
    for identity, (y, x, share) in supports:
        here = (slice(y.start - y0, y.stop - y0), slice(x.start - x0, x.stop - x0))
        total[here] += share
        # Of equal shares the higher id wins, as in an indexed PNG.
        winner[here] = torch.where((share >= best[here]) & (share > 0), identity, winner[here])
        best[here] = torch.maximum(best[here], share)
    winner[best <= 1 - total] = 0
    picture = winner.numpy()
    for identity, (y, x, _) in supports:
        masks[identity][y, x] = picture[y.start - y0 : y.stop - y0, x.start - x0 : x.stop - x0] == identity
    return masks


def _located(channels: ChannelSet, values: Tensor, known: np.ndarray, masks: dict[int, np.ndarray]) -> dict[int, Box]:
    """Where the objects are that carry the sides of their boxes; what lies there of no other's region becomes theirs.

    Of two such objects the one with the higher id lies in front.
    """
    boxes: dict[int, Box] = {}
    taken = np.zeros((channels.grid.height, channels.grid.width), bool)
    for identity, mask in masks.items():
        if identity not in channels.extents:
            taken |= mask
    for identity in sorted(channels.extents, reverse=True):
        mask, masks[identity] = masks[identity], np.zeros_like(taken)
        if known[channels.index[Channel(identity)]]:
            box = located_box(channels, identity, values, tight_box(mask))
            if box is not None:
                boxes[identity] = box
                y, x = raster.covered(box[1], box[3], taken.shape[0]), raster.covered(box[0], box[2], taken.shape[1])
                masks[identity][y, x] = ~taken[y, x]
                taken[y, x] = True
    return boxes


def _object(
    channels: ChannelSet,
    declared: LabelObject,
    mask: np.ndarray | None,
    located: Box | None,
    values: Tensor,
    known: np.ndarray,
    label: Label | None,
    evidence: np.ndarray | None,
    declare_gone: bool,
) -> ObjectResult:
    keypoints = _keypoints(channels, declared, values, known, label)
    region = channels.index.get(Channel(declared.id))
    propagated, lost = 0.0, False
    if mask is not None and region is not None and mask.any():
        told = None if evidence is None else evidence[region]
        propagated = _mass(values[region]) if told is None else round(expected_overlap(told), 3)
        lost = declare_gone and told is not None and gone(told)
    if label is not None:
        given = label.absent or label.mask is not None or mask is None
        mask = label.mask if label.mask is not None else mask
        if label.absent and mask is not None:
            mask = np.zeros_like(mask)
        box = label.box or (None if mask is None else tight_box(mask))
        confidence = 1.0 if given else propagated
        return ObjectResult(declared.id, not label.absent, confidence, mask, box, keypoints, "anchor")
    if mask is not None:
        mask = np.zeros_like(mask) if lost else mask
        # Another object's box may cover the whole mask of one that is located all the same.
        visible = not lost and (bool(mask.any()) or located is not None)
        box = located if visible and located is not None else tight_box(mask)
        return ObjectResult(declared.id, visible, propagated, mask, box, keypoints, "propagated")
    seen = [point for point in keypoints if point.visible]
    confidence = float(np.mean([point.confidence for point in keypoints])) if keypoints else 0.0
    return ObjectResult(declared.id, bool(seen), confidence, None, None, keypoints, "propagated")


def _keypoints(
    channels: ChannelSet, declared: LabelObject, values: Tensor, known: np.ndarray, label: Label | None
) -> tuple[KeypointResult, ...]:
    if label is not None and label.absent:
        return ()
    given = {point.name: point for point in label.keypoints} if label else {}
    names = dict.fromkeys(declared.skeleton.points) if declared.skeleton else {}
    carried = {c.keypoint: n for n, c in enumerate(channels.channels) if c.object == declared.id and c.keypoint}
    names.update(dict.fromkeys(carried))
    names.update(dict.fromkeys(given))
    found: list[KeypointResult] = []
    for name in names:
        if name in given:
            found.append(_as_given(given[name]))
        elif name in carried and known[carried[name]]:
            point = _decode_keypoint(channels.grid, name, values[carried[name]])
            if point is not None:
                found.append(point)
    return tuple(found)


def _decode_keypoint(grid: Grid, name: str, cells: Tensor) -> KeypointResult | None:
    count = min(KEYPOINT_CELLS, cells.numel())
    best = cells.reshape(-1).topk(count)
    mass = float(best.values.sum())
    if mass <= 0:
        return None  # nothing of it arrived: there is no place to name
    weight = best.values / mass
    column = float((weight * (best.indices % grid.columns)).sum())
    row = float((weight * (best.indices // grid.columns)).sum())
    x, y = grid.to_pixel(column, row)
    confidence = min(1.0, mass / _WHOLE_KEYPOINT)
    x, y = min(max(x, 0.0), float(grid.width)), min(max(y, 0.0), float(grid.height))
    return KeypointResult(name, round(x, 2), round(y, 2), confidence >= VISIBLE_KEYPOINT, round(confidence, 3))


def _as_given(point: Keypoint) -> KeypointResult:
    return KeypointResult(point.name, point.x, point.y, point.visible, 1.0)


def _mass(share: Tensor) -> float:
    """How much of the affinity that reached the object's cells came from the object: sum p^2 / sum p, in 0..1.

    1 where every cell is wholly in or out, lower where matches disagree.
    """
    total = float(share.sum())
    return round(min(1.0, float((share * share).sum()) / total), 3) if total > 0 else 0.0
