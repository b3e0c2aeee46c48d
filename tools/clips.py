"""Clips with true masks, for the tools that measure: DAVIS, JHMDB, and rendered ones in which objects are hidden."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.catalogue import find_model
from model.channels import ChannelSet
from model.checkpoint import load_checkpoint
from model.decoding import decode
from model.evaluation.benchmark import Benchmark, Clip
from model.evaluation.davis import Davis
from model.evaluation.jhmdb import Jhmdb
from model.evaluation.metrics import jaccard
from model.features import FeatureExtractor
from model.geometry import Grid
from model.labels import Anchor, FrameResult, Label, LabelObject, colour_of
from model.labels.types import Mask
from model.meeting import Meeting
from model.plan import Plan
from model.presets import Preset, find_preset
from model.propagator import Propagator, SoftMaps
from model.rendered import RenderedClip, render_clip
from model.video import Frame, open_video

CURTAINS = (0.45, 0.6)

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Measured:
    """A clip to measure on; frames and truth are read when asked for.

    Attributes:
        name: unique among all clips.
        dataset: `davis`, `jhmdb` or `curtain`.
        source: where it comes from.
    """

    name: str
    dataset: str
    source: tuple[Benchmark[Any], Clip] | RenderedClip

    def frames(self) -> list[Frame]:
        if isinstance(self.source, RenderedClip):
            return [Frame(i, 40 * i, image) for i, image in enumerate(self.source.frames())]
        clip = self.source[1]
        with open_video(clip.video) as source:
            return list(source.frames(0, clip.frame_count))

    def truth(self, frame: int) -> dict[int, Mask]:
        """True masks by object."""
        if isinstance(self.source, RenderedClip):
            index_map = self.source.mask(frame)
            return {each.id: index_map == each.id for each in self.source.objects}
        benchmark, clip = self.source
        return {each.object: each.mask for each in benchmark.truth(clip, frame).objects if each.mask is not None}

    def anchor(self, frame: int) -> Anchor:
        """A frame as a person would label it: the true masks of the first frame's objects, or that they are gone."""
        wanted = [identity for identity, mask in self.truth(0).items() if mask.any()]
        truth = self.truth(frame)
        labels = (
            Label(identity, truth[identity]) if truth[identity].any() else Label(identity, None, absent=True)
            for identity in wanted
        )
        return Anchor(frame, tuple(labels))


def mean_overlap(result: FrameResult, truth: Mapping[int, Mask]) -> float:
    """The mean J of a result's masks, with the true ones by object."""
    return float(np.mean([jaccard(o.mask, truth[o.object]) for o in result.objects if o.mask is not None]))


def measured_clips(davis: Path | None, jhmdb: Path | None, curtains: int = 0) -> list[Measured]:
    """The clips of the datasets that are given, in the order of their names, and rendered ones of so many seeds."""
    clips: list[Measured] = []
    for name, benchmark in (("davis", davis and Davis(davis)), ("jhmdb", jhmdb and Jhmdb(jhmdb))):
        if benchmark:
            found = [Measured(clip.name, name, (benchmark, clip)) for clip in benchmark.select().clips]
            clips += sorted((clip for clip in found if clip.truth(0)), key=lambda clip: clip.name)
    for seed in range(curtains):
        for width in CURTAINS:
            clip = render_clip(width=320, height=240, frame_count=40, seed=seed, curtained=width)
            clips.append(Measured(f"curtain-{seed}-{width}", "curtain", clip))
    return clips


class Carrier:
    """Carries labels through one clip, again and again with other anchors: its frames are encoded once.

    Args:
        extractor: the encoder.
        preset: how.
        frames: of the whole clip, from index 0.
    """

    def __init__(self, extractor: FeatureExtractor, preset: Preset, frames: Sequence[Frame]) -> None:
        self._extractor, self._preset, self.frames = extractor, preset, frames
        height, width = frames[0].image.shape[:2]
        self._grid = Grid.of(preset, width, height)
        self._features: list[Tensor | None] = [None] * len(frames)

    def run(self, anchors: Sequence[Anchor]) -> Iterator[tuple[FrameResult, ChannelSet, SoftMaps]]:
        """Results in order, both directions joined as in a job, each with what it was decoded from."""
        channels, met, forward = self.directions(anchors)
        meeting = Meeting(channels)
        for position in range(min(channels.anchors)):
            yield self.decoded(channels, met[position]), channels, met[position]
        for soft in forward:
            joined = meeting.join(soft, met[soft.frame]) if soft.frame in met else soft
            yield self.decoded(channels, joined), channels, joined

    def directions(self, anchors: Sequence[Anchor]) -> tuple[ChannelSet, dict[int, SoftMaps], Iterator[SoftMaps]]:
        """What both directions say, not yet joined: the backward one's by frame, the forward one's in order."""
        ids = sorted({label.object for anchor in anchors for label in anchor.labels})
        objects = [LabelObject(identity, f"object-{identity}", colour_of(identity)) for identity in ids]
        channels = ChannelSet(objects, anchors, self._grid, box_sides=self._preset.box_sides)
        plan = Plan(range(len(self.frames)), tuple(sorted(channels.anchors)))
        backward = {soft.frame: soft for soft in self._pass(channels, reversed(plan.backward))}
        return channels, backward, self._pass(channels, plan.forward)

    def decoded(self, channels: ChannelSet, soft: SoftMaps) -> FrameResult:
        """The labels of a frame."""
        return decode(
            channels,
            soft.frame,
            self.frames[soft.frame].time_ms,
            soft.values,
            soft.known,
            soft.evidence,
            declare_gone=self._preset.declares_gone,
        )

    def _pass(self, channels: ChannelSet, positions: Iterator[int] | range) -> Iterator[SoftMaps]:
        propagator = Propagator(self._extractor, channels, self._preset)
        for position in positions:
            yield propagator.step(self.frames[position], self._encoded(position))

    def _encoded(self, position: int) -> Tensor:
        features = self._features[position]
        if features is None:
            features = self._extractor(self.frames[position].image, self._grid)
            self._features[position] = features
        return features


# What a process of several keeps: its encoder, the preset, and how many frames of a clip it takes at most.
_here: tuple[FeatureExtractor, Preset, int] | None = None


def add_settings(parser: argparse.ArgumentParser, preset: str) -> None:
    """The options that say how clips are carried, `preset` by default."""
    parser.add_argument("--preset", default=preset, help="default: %(default)s")
    parser.add_argument("--model", default="uvc-r18", help="default: %(default)s")
    parser.add_argument("--working-size", type=int, default=0, help="0: the preset's own")
    parser.add_argument("--frames", type=int, default=0, help="of each clip at most; 0: all")
    parser.add_argument("--workers", type=int, default=2, help="clips at a time (default: %(default)s)")


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What decides how clips are carried, as JSON holds it; what was measured with the same need not be again."""
    sha256 = find_model(args.model, None).sha256
    return {"model": sha256, "preset": args.preset, "working_size": args.working_size, "frames": args.frames}


def heading(args: argparse.Namespace) -> str:
    """The same for a reader, the beginning of a sentence."""
    head = f"Model `{args.model}` (SHA-256 `{find_model(args.model, None).sha256[:12]}`), preset `{args.preset}`"
    if args.working_size:
        head += f", short side {args.working_size}"
    return head + (f", the first {args.frames} frames of each" if args.frames else "")


def each_measured(
    args: argparse.Namespace, measure: Callable[..., _Found], clips: Sequence[Measured], *more: Iterable[Any]
) -> Iterator[tuple[Measured, _Found]]:
    """Every clip with what `measure` gives for it and its share of `more`, in their order, while a bar tells how far.

    Several are measured side by side, each in a process in which `carrier_of` can be called.
    """
    settings = (args.model, args.preset, args.working_size, args.frames)
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn"), _prepare, settings) as pool:
        yield from zip(clips, tqdm(pool.map(measure, clips, *more), total=len(clips), unit="clip"), strict=True)


def _prepare(model: str, preset: str, working_size: int, frames: int) -> None:
    global _here
    torch.set_num_threads(1)
    extractor = FeatureExtractor(load_checkpoint(find_model(model, None).path))
    found = find_preset(preset)
    _here = (extractor, replace(found, working_size=working_size or found.working_size), frames)


def carrier_of(clip: Measured) -> Carrier:
    """The clip, ready to be carried as `prepare` said."""
    assert _here is not None
    extractor, preset, most = _here
    return Carrier(extractor, preset, clip.frames()[: most or None])
