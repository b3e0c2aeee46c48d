"""Tracking one frame at a time: the propagation for tools that hand over a picture and want its shapes at once.

There is no job, no video and no looking ahead: an object starts on a picture with a label, and every further picture
moves it on. Objects that start on one picture share one memory, compete for pixels as in a job, and cost one encoding
and one affinity a picture.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.catalogue import find_model
from model.channels import ChannelSet
from model.checkpoint import load_checkpoint
from model.decoding import decode
from model.features import FeatureExtractor
from model.geometry import Grid
from model.labels import Anchor, FrameResult, Label, LabelObject, ObjectResult, colour_of
from model.labels.types import MAX_OBJECT_ID
from model.presets import Preset, find_preset
from model.propagator import Propagator
from model.video import Frame
from worker.models import prepare_process


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A picture, encoded. It is never changed, and one picture's is used by all objects on it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        features: (rows, columns, C), of length 1.
        grid: the encoder's.
    """

    image: NDArray[np.uint8]
    features: Tensor
    grid: Grid


@dataclass(eq=False)
class Target:
    """An object that is tracked. Only `Tracker` changes it."""

    _group: _Group
    _id: int
    _seen: int = 0


class Tracker:
    """Moves objects from picture to picture.

    Args:
        extractor: the encoder on its device.
        preset: the settings of the propagation.
        max_memories: how many groups of objects keep their memory of recent pictures; beyond it the group that was idle
            longest falls back to the picture that its objects were drawn on. A memory at 480p takes 0.3 GB in float32.
    """

    def __init__(self, extractor: FeatureExtractor, preset: Preset, *, max_memories: int = 8) -> None:
        self._extractor, self._preset, self._max_memories = extractor, preset, max_memories
        self._live: OrderedDict[int, _Group] = OrderedDict()
        self._forming: _Group | None = None

    def prepare(self, image: NDArray[np.uint8]) -> TrackedFrame:
        """Encodes a picture, (H, W, 3) uint8 RGB."""
        grid = Grid.of(self._preset, image.shape[1], image.shape[0])
        return TrackedFrame(image, self._extractor(image, grid), grid)

    def start(self, frame: TrackedFrame, label: Label) -> Target:
        """An object as it looks on a picture; the label's own object id does not matter."""
        group = self._forming
        if group is None or not group.takes(frame):
            group = self._forming = _Group(frame)
        return Target(group, group.add(label))

    def step(self, frame: TrackedFrame, target: Target) -> ObjectResult:
        """Where the object is on the next picture.

        Objects of one group that are asked for on the same picture are moved together. One that fell behind the others
        leaves them and goes on from the picture that it was drawn on.

        Raises:
            ValueError: the picture has another size than the one that the object was drawn on.
        """
        group = target._group
        if frame.grid != group.frame.grid:
            raise ValueError("the picture has another size than the one that the object was drawn on")
        if target._seen == group.steps:
            self._advance(group, frame)
        elif target._seen != group.steps - 1 or group.current is not frame:
            label = group.labels[target._id - 1]
            group = target._group = _Group(group.frame)
            target._id = group.add(label)
            self._advance(group, frame)
        target._seen = group.steps
        assert group.result is not None
        return next(found for found in group.result.objects if found.object == target._id)

    def _advance(self, group: _Group, frame: TrackedFrame) -> None:
        group.advance(frame, self._extractor, self._preset)
        self._live[id(group)] = group
        self._live.move_to_end(id(group))
        while len(self._live) > self._max_memories:
            self._live.popitem(last=False)[1].forget()


class _Group:
    """Objects that started on one picture, and what is remembered of the pictures since."""

    def __init__(self, frame: TrackedFrame) -> None:
        self.frame = frame
        self.labels: list[Label] = []
        self.steps = 0
        self.current: TrackedFrame | None = None
        self.result: FrameResult | None = None
        self._propagator: Propagator | None = None
        self._channels: ChannelSet | None = None

    def takes(self, frame: TrackedFrame) -> bool:
        """Whether an object on this picture may still join: it is this very picture, and nothing has moved yet.

        The same picture prepared anew does not count: an object that is drawn again because the first attempt was given
        up would compete with itself.
        """
        return frame is self.frame and not self.steps and len(self.labels) < MAX_OBJECT_ID

    def add(self, label: Label) -> int:
        self.labels.append(replace(label, object=len(self.labels) + 1))
        return len(self.labels)

    def advance(self, frame: TrackedFrame, extractor: FeatureExtractor, preset: Preset) -> None:
        if self._propagator is None or self._channels is None:
            objects = [LabelObject(label.object, "", colour_of(label.object)) for label in self.labels]
            anchors = [Anchor(0, tuple(self.labels))]
            self._channels = ChannelSet(objects, anchors, self.frame.grid, box_sides=preset.box_sides)
            self._propagator = Propagator(extractor, self._channels, preset)
            self._propagator.step(Frame(0, 0, self.frame.image), self.frame.features)
        self.steps += 1
        soft = self._propagator.step(Frame(self.steps, 0, frame.image), frame.features)
        self.result = decode(
            self._channels, self.steps, 0, soft.values, soft.known, soft.evidence, declare_gone=preset.declares_gone
        )
        self.current = frame

    def forget(self) -> None:
        self._propagator = self._channels = None


def load_tracker(
    model: str = "uvc-r18",
    preset: str = "plain",
    device: str = "auto",
    *,
    home: Path | None = None,
    working_size: int = 0,
    threads: int = 0,
    max_memories: int = 8,
) -> Tracker:
    """A tracker with a named model, in a process of its own.

    Args:
        model: its name.
        preset: named settings.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
        home: where models beside the packaged ones are looked up.
        working_size: short side as the network sees it; 0 is the preset's own.
        threads: CPU threads; 0 chooses.
        max_memories: as `Tracker` takes it.

    Raises:
        ModelError: the model, the preset or the device is not there.
    """
    prepare_process(threads)
    settings = find_preset(preset)
    if working_size:
        settings = replace(settings, working_size=working_size)
    extractor = FeatureExtractor(load_checkpoint(find_model(model, home).path), device=device)
    return Tracker(extractor, settings, max_memories=max_memories)
