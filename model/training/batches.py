"""What one step sees: which frames, and which crops of them. Every draw comes from the step's own generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.encoder import STRIDE
from model.errors import MediaError
from model.training.config import TrainingConfig
from model.training.crops import correspondence, mirror, random_crops, zoom_of
from model.training.footage import Footage, fit
from model.training.layers import Motion, Pieces, compose, matches, paste, random_pieces, random_places


@dataclass(frozen=True)
class Batch:
    """Crops of B samples, the first V of which are of videos and the others photographs; sRGB in 0..1.

    Attributes:
        first: (B, 3, S, S), a crop of each sample's first frame.
        second: (B, 3, S, S), another crop of the same frame, or None.
        locations, valid: (B, N, 2) and (B, N), where each cell of the first crop lies in the second, or None.
        later: of each of the sample's later frames a crop near the first one's place, (V, 3, S, S); where the last of
            them is there whole, not of that one.
        whole: (V, 3, W, W), the last of those frames whole, or None.
        videos: (B,) int64, equal where samples come from the same file.
    """

    first: Tensor
    second: Tensor | None
    locations: Tensor | None
    valid: Tensor | None
    later: tuple[Tensor, ...]
    whole: Tensor | None
    videos: Tensor

    @property
    def clips(self) -> int:
        """V, how many samples are of videos."""
        return len(self.later[0]) if self.later else (0 if self.whole is None else len(self.whole))


class View(NamedTuple):
    """Crops of some frames."""

    frames: Tensor
    theta: Tensor


@dataclass(frozen=True)
class Layer:
    """A piece in front of each of a batch's samples, and where it is in each of its views."""

    pieces: Pieces
    places: list[Tensor]

    @staticmethod
    def draw(config: TrainingConfig, samples: int, views: int, generator: torch.Generator, *, bare: int) -> list[Layer]:
        """As many as the config wants, the hindmost first. The first `bare` samples get no pieces."""
        count = min(math.ceil(config.layers), samples - 1)
        layers = []
        for _ in range(count):
            pieces = random_pieces(samples, config.layers / count, generator)
            pieces.present[:bare] = False
            layers.append(Layer(pieces, random_places(samples, views, Motion(), generator)))
        return layers


class Sampler:
    """Draws batches from footage.

    Sources are drawn by their weights, and within a source every frame is as likely as every other. Photographs are
    drawn from everything, a video's frames too.

    Args:
        footage: where frames come from.
        config: how many, how far apart and how they are cut.
        weights: of sources by name; those not named get the square root of their number of frames, so that a large
            source counts more than a small one and does not drown it.

    Raises:
        MediaError: slug `no-footage`, where pairs of frames are wanted and every shot has one frame only.
    """

    def __init__(self, footage: Footage, config: TrainingConfig, weights: Mapping[str, float] | None = None) -> None:
        self._footage, self._config = footage, config
        self._times = footage.times_ms.cpu().double().numpy()
        sizes = footage.sizes.cpu()
        self._sizes = sizes
        self._files = _files(footage)
        share = _shares(footage, dict(weights or {}))
        self._any = _Choice(np.arange(len(footage.runs)), share)
        moving = np.array([i for i, run in enumerate(footage.runs) if run.count > 1], dtype=np.int64)
        moving = moving[share[moving] > 0]
        if config.clips and not len(moving):
            raise MediaError(
                "None of the footage moves: every shot has a single frame. Add videos, or train on photographs alone "
                "with --set clips=0.",
                slug="no-footage",
            )
        self._moving = _Choice(moving, share[moving]) if len(moving) else None

    def draw(self, generator: torch.Generator, *, crops_later: bool = True, whole: bool = False) -> Batch:
        """One batch, on the footage's device.

        Args:
            generator: on the CPU, so that every device sees the same batches.
            crops_later: whether crops of the later frames are wanted.
            whole: whether the last of the later frames is wanted whole, in place of its crop.
        """
        config = self._config
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        runs, frames = self._choose(random)
        sizes = self._sizes[frames[:, 0]]
        crops = partial(
            random_crops,
            sizes,
            size=config.crop,
            rotation_degrees=config.rotation_degrees,
            shear=config.shear,
            aspect=config.aspect,
            generator=generator,
        )
        base = crops(zoom=config.zoom)
        zoom = zoom_of(base, config.crop)
        near = partial(
            crops, zoom=(zoom / config.zoom_change, zoom * config.zoom_change), near=base, reach=config.reach
        )
        clips = config.clips if config.needs_pairs else 0
        views = [View(frames[:, 0], base)]
        if config.needs_two_crops:
            views.append(View(frames[:, 0], near()))
        # Of the frame that is seen whole nobody needs a crop.
        for k in range(config.ahead - whole if crops_later and clips else 0):
            views.append(View(frames[:clips, k + 1], near()[:clips]))
        flipped = torch.rand(len(frames), generator=generator) < config.flip
        views = [View(view.frames, mirror(view.theta, flipped[: len(view.frames)])) for view in views]
        # Whole frames have no pieces, and so neither may the patches that are looked for in them.
        layers = Layer.draw(config, len(frames), len(views), generator, bare=clips if whole else 0)
        images = [self._cut(view.frames, view.theta, config.crop) for view in views]
        for number, layer in enumerate(layers, 1):
            # What a piece shows is another sample's first frame, as its crop has it.
            shown = View(frames[:, 0].roll(-number), base.roll(-number, dims=0))
            images = [self._behind(layer, k, image, shown) for k, image in enumerate(images)]
        first, *rest = images
        second = rest.pop(0) if config.needs_two_crops else None
        locations = valid = None
        if second is not None:
            locations, valid = correspondence(views[0].theta, views[1].theta, config.crop)
            for layer in layers:
                here, there = layer.places[:2]
                locations, valid = matches((locations, valid), layer.pieces, here, there, config.crop // STRIDE)
            locations, valid = locations.to(self._device), valid.to(self._device)
        entire = None
        if whole and clips:
            last = frames[:clips, config.ahead]
            entire = self._cut(last, mirror(fit(self._sizes[last], config.whole), flipped[:clips]), config.whole)
        videos = torch.from_numpy(self._files[runs]).to(self._device)
        return Batch(first, second, locations, valid, tuple(rest), entire, videos)

    def _behind(self, layer: Layer, view: int, images: Tensor, shown: View) -> Tensor:
        """Pictures of a view with the layer's pieces in front of them."""
        chosen = layer.pieces.present[: len(images)].nonzero()[:, 0]
        if not len(chosen):
            return images
        place = layer.places[view][chosen]
        content = self._cut(shown.frames[chosen], compose(shown.theta[chosen], place), self._config.crop)
        here = chosen.to(self._device)
        pasted = paste(images[here], content, layer.pieces[chosen].to(self._device), place.to(self._device))
        return images.index_copy(0, here, pasted)

    @property
    def _device(self) -> torch.device:
        return self._footage.pixels.device

    def _cut(self, frames: Tensor, theta: Tensor, size: int) -> Tensor:
        return self._footage.cut(frames.to(self._device), theta.to(self._device), size)

    def _choose(self, random: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """(B,) runs and (B, 1 + ahead) frames; a photograph's are all the same."""
        config = self._config
        runs, frames = [], []
        for _ in range(config.clips):
            assert self._moving is not None
            run = self._moving(random)
            runs.append(run)
            frames.append(self._walk(run, random))
        for _ in range(config.photographs if config.needs_two_crops else 0):
            run = self._any(random)
            runs.append(run)
            frame = self._footage.runs[run].first + int(random.integers(self._footage.runs[run].count))
            frames.append([frame] * (1 + config.ahead))
        return np.array(runs), torch.tensor(frames)

    def _walk(self, index: int, random: np.random.Generator) -> list[int]:
        """Frames of one run, each a random gap after the one before it; forwards or backwards in time."""
        config, run = self._config, self._footage.runs[index]
        times = self._times[run.first : run.first + run.count]
        gap = random.uniform(*config.gap_ms)
        # The whole walk should fit, at a smaller gap where the run is short.
        length = min(gap * config.ahead, times[-1] - times[0])
        start = int(random.integers(np.searchsorted(times, times[-1] - length, side="right")))
        wanted = times[start] + length / config.ahead * np.arange(config.ahead + 1)
        places = np.abs(times[None] - wanted[:, None]).argmin(axis=1)
        # Neighbours in a short run may fall together; a later frame is another one where there are enough.
        order = np.arange(len(places))
        places = np.maximum.accumulate(places - order) + order
        places = np.minimum(places, np.maximum(len(times) - 1 - order[::-1], order)).clip(max=len(times) - 1)
        if random.random() < 0.5:
            places = places[::-1]
        return [run.first + int(place) for place in places]


class _Choice:
    def __init__(self, items: np.ndarray, weights: np.ndarray) -> None:
        self._items, self._sums = items, np.cumsum(weights)

    def __call__(self, random: np.random.Generator) -> int:
        place = np.searchsorted(self._sums, random.random() * self._sums[-1], side="right")
        return int(self._items[min(int(place), len(self._items) - 1)])


def _files(footage: Footage) -> np.ndarray:
    """(runs,) the same number for the shots of one file."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(run.file, len(numbers)) for run in footage.runs])


def _shares(footage: Footage, weights: dict[str, float]) -> np.ndarray:
    """(runs,) how likely each is drawn, up to a factor."""
    frames: dict[str, int] = {}
    for run in footage.runs:
        frames[run.source] = frames.get(run.source, 0) + run.count
    if not frames:
        raise MediaError("The footage holds no frame. Give videos or photographs.", slug="no-footage")
    # One of weight 0 may well be missing: reading leaves it out.
    unknown = sorted(name for name, value in weights.items() if value and name not in frames)
    if unknown:
        raise MediaError(
            f"There is no source {', '.join(unknown)} in the footage. Sources are: {', '.join(sorted(frames))}.",
            slug="no-footage",
        )
    if any(not math.isfinite(value) or value < 0 for value in weights.values()) or not any(
        weights.get(name, 1.0) for name in frames
    ):
        raise MediaError("Weights of sources are numbers of 0 or more, and one at least is above 0.", slug="no-footage")
    per_frame = {name: weights.get(name, math.sqrt(count)) / count for name, count in frames.items()}
    return np.array([per_frame[run.source] * run.count for run in footage.runs])
