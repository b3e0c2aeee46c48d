"""Channels: what propagation carries, one soft map per region and per keypoint, whatever they were given as.

A region (mask, polygon or box) becomes the share of each cell that it covers; a keypoint becomes a small Gaussian whose
centre lies between cells. Of an object that is given as boxes alone, each cell also carries how far away the four sides
of its box are. From here on all are maps of numbers on the encoder's grid, and the affinity does not care.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.geometry import Grid
from model.labels import Anchor, Keypoint, Label, LabelObject
from model.labels.types import Box, Mask

KEYPOINT_SIGMA = 0.5
"""Of a keypoint's Gaussian, in cells (UVC's JHMDB protocol)."""


SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Channel:
    """One soft map: an object's region, one of its keypoints, or how far away one of its box's `SIDES` is."""

    object: int
    keypoint: str | None = None
    side: str | None = None

    @property
    def region(self) -> bool:
        """Whether it is an object's region."""
        return self.keypoint is None and self.side is None


@dataclass(frozen=True, eq=False)
class AnchorMaps:
    """An anchor on the grid.

    Attributes:
        values: (C, rows, columns) float32, zero for the channels it does not give.
        given: (C,) bool, the channels that it says something about.
        present: (C,) bool, of these the ones that are there rather than declared absent.
        known: (rows, columns) bool, False for cells that are void through and through; None where no cell is.
    """

    values: Tensor
    given: np.ndarray
    present: np.ndarray
    known: Tensor | None


class ChannelSet:
    """The channels of a job, in a fixed order: objects as declared, each region first, then its keypoints.

    Args:
        objects: as declared.
        anchors: all of the job's anchors. A keypoint becomes a channel when some anchor shows it visible; a hidden
            keypoint is returned on its own frame but teaches nothing about what it looks like.
        grid: the encoder's grid for this video.
        box_sides: whether objects that are given as boxes alone carry where the sides of these are.

    Attributes:
        extents: by object that does so, the greatest width and height of its boxes, in pixels.
    """

    def __init__(
        self, objects: Sequence[LabelObject], anchors: Sequence[Anchor], grid: Grid, *, box_sides: bool = False
    ) -> None:
        self.grid = grid
        self.extents: dict[int, tuple[float, float]] = {}
        self.objects = tuple(objects)
        labels = [label for anchor in anchors for label in anchor.labels]
        found: dict[Channel, None] = {}
        for declared in objects:
            own = [label for label in labels if label.object == declared.id]
            if any(label.mask is not None for label in own):
                found[Channel(declared.id)] = None
            boxes = [label.box for label in own if label.mask is not None]
            if box_sides and boxes and None not in boxes:
                found.update({Channel(declared.id, side=side): None for side in SIDES})
                widths, heights = zip(*(box[2:] for box in boxes if box is not None), strict=True)
                self.extents[declared.id] = (max(widths), max(heights))
            found.update({Channel(declared.id, point.name): None for label in own for point in shown(label)})
        self.channels = tuple(found)
        self.index = {channel: number for number, channel in enumerate(self.channels)}
        self.anchors: dict[int, Anchor] = {anchor.frame: anchor for anchor in anchors}

    def __len__(self) -> int:
        return len(self.channels)

    def homes(self) -> list[tuple[int, float]]:
        """For every keypoint's channel, in their order: the channel of its object's region, and on which share of the
        anchors that give both the keypoint lies in the region, or less than a cell beside it (0 where none does)."""
        lies: dict[Channel, list[bool]] = {}
        for anchor in self.anchors.values():
            for label in anchor.labels:
                if label.mask is not None:
                    for point in shown(label):
                        lies.setdefault(Channel(label.object, point.name), []).append(self._lies_in(label.mask, point))
        return [
            (self.index.get(Channel(channel.object), 0), float(np.mean(lies.get(channel, [False]))))
            for channel in self.channels
            if channel.keypoint is not None
        ]

    def _lies_in(self, mask: Mask, point: Keypoint) -> bool:
        column, row = self.grid.to_cell(point.x, point.y)
        left, top = self.grid.to_pixel(column - 1, row - 1)
        right, bottom = self.grid.to_pixel(column + 1, row + 1)
        near = mask[max(0, math.floor(top)) : math.ceil(bottom), max(0, math.floor(left)) : math.ceil(right)]
        return bool(near.any())

    def given(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Two (C,) bool: which channels the anchor on `frame` gives, and which of them as present."""
        given, present = np.zeros(len(self), bool), np.zeros(len(self), bool)
        for label in self.anchors[frame].labels:
            for number, channel in enumerate(self.channels):
                if channel.object == label.object and (label.absent or _gives(label, channel)):
                    given[number] = True
                    present[number] = not label.absent
        return given, present

    def maps(self, frame: int) -> AnchorMaps:
        """The anchor on `frame` as soft maps."""
        anchor = self.anchors[frame]
        given, present = self.given(frame)
        values = torch.zeros(len(self), self.grid.rows, self.grid.columns)
        regions = [(label.object, label.mask) for label in anchor.labels if label.mask is not None]
        known = None
        void = None if anchor.void is None else torch.from_numpy(anchor.void)
        if void is not None:
            learned = self.grid.cells(~void[None])[0]
            known = learned > 0
        # Where masks overlap each takes an equal share, so that all shares and the background's add up to 1.
        depth = sum(mask.astype(np.float32) for _, mask in regions)
        for identity, mask in regions:
            share = torch.from_numpy(np.where(mask, 1 / np.maximum(depth, 1), 0).astype(np.float32))
            if void is None:
                cells = self.grid.cells(share[None])[0]
            else:
                cells = self.grid.cells(share.masked_fill(void, 0)[None])[0] / learned.clamp(min=1e-6)
            values[self.index[Channel(identity)]] = cells
        for label in anchor.labels:
            if label.box is not None and label.object in self.extents:
                share = values[self.index[Channel(label.object)]]
                for side, apart in zip(SIDES, self._sides(label.object, label.box), strict=True):
                    values[self.index[Channel(label.object, side=side)]] = share * apart
            for point in shown(label):
                values[self.index[Channel(label.object, point.name)]] = self._gaussian(point)
        return AnchorMaps(values, given, present, None if known is None or bool(known.all()) else known)

    def _gaussian(self, point: Keypoint) -> Tensor:
        column, row = self.grid.to_cell(point.x, point.y)
        y = (torch.arange(self.grid.rows) - row) ** 2
        x = (torch.arange(self.grid.columns) - column) ** 2
        return torch.exp(-(y[:, None] + x) / (2 * KEYPOINT_SIGMA**2))

    def _sides(self, identity: int, box: Box) -> Tensor:
        """(4, rows, columns) from each cell to the `SIDES` of a box, in shares of the object's `extents`, 0..1."""
        across, down = self.grid.centres()
        width, height = self.extents[identity]
        x, y = across / width, (down / height)[:, None]
        left, top, right, bottom = (
            box[0] / width,
            box[1] / height,
            (box[0] + box[2]) / width,
            (box[1] + box[3]) / height,
        )
        apart = torch.broadcast_tensors(x - left, y - top, right - x, bottom - y)
        return torch.stack(apart).clamp(0, 1)


def shown(label: Label) -> list[Keypoint]:
    """The keypoints of a label that the frame shows."""
    return [point for point in label.keypoints if point.visible]


def _gives(label: Label, channel: Channel) -> bool:
    if channel.side is not None:
        return label.box is not None
    if channel.keypoint is None:
        return label.mask is not None
    return any(point.name == channel.keypoint for point in shown(label))
