"""All losses of one batch, weighed and added: the paper's joint objective and what small data needs beside it.

Matching (the warm-up) looks at crops of two frames; localising and matching (the joint stage) at a crop of one frame
and the whole of another, in which the crop is first found and then matched within the box where it was found. One
affinity serves both, and every loss that is on sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.lab import rgb_to_lab
from model.training import localisation
from model.training.augment import augment, lightness
from model.training.autoencoder import STRIDE, ColourAutoencoder
from model.training.batches import Batch
from model.training.concentration import concentration_loss
from model.training.config import TrainingConfig
from model.training.consistency import consistency_loss, subsample
from model.training.orthogonality import coordinate_orthogonality
from model.training.palindrome import palindrome_loss
from model.training.reconstruction import OUTLIER_LIMIT, reconstruct
from model.training.transport import affinity, over_reference, over_target

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Example:
    """What a picture of the training shows; detached, on the training's device.

    Attributes:
        patch: (V, 3, S, S) sRGB, the reference crops.
        frame: (V, 3, W, W) sRGB, the whole frames they were looked for in, or None while matching crops.
        boxes: (V, 4) in cells of the frame, where each was localised, or None.
        estimate: (V, 3, S, S) scaled Lab, the target as rebuilt, or None.
        truth: (V, 3, S, S) scaled Lab, the target, or None.
    """

    patch: Tensor
    frame: Tensor | None = None
    boxes: Tensor | None = None
    estimate: Tensor | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class Losses:
    """The sum that is trained, and its parts before their weights, detached."""

    total: Tensor
    parts: dict[str, Tensor]
    example: Example


class Objective:
    """Computes the losses of batches.

    Args:
        config: which losses, with which weights.
        encoder: (B, 3, H, W) normalised RGB to (B, C, H/8, W/8) features; the trained network.
        autoencoder: the frozen colour auto-encoder, where reconstruction has a weight.
    """

    def __init__(self, config: TrainingConfig, encoder: nn.Module, autoencoder: ColourAutoencoder | None) -> None:
        if config.needs_autoencoder and autoencoder is None:
            raise ValueError("Reconstruction needs a colour auto-encoder.")
        self._config, self._encoder, self._autoencoder = config, encoder, autoencoder

    def __call__(self, batch: Batch, generator: torch.Generator, *, drop_outliers: bool = True) -> Losses:
        """The losses of a batch. Where it holds whole frames they are the joint stage's, else the warm-up's."""
        config = self._config
        clips = batch.clips
        views = [self._input(batch.first, generator, second=False)]
        if batch.second is not None:
            views.append(self._input(batch.second, generator, second=True))
        views += [self._input(crops, generator, second=False) for crops in batch.later]
        # One pass for all crops of one size: batch normalisation then sees them all alike.
        features = iter(self._encode(torch.cat(views)).split([len(view) for view in views]))
        first = next(features)
        second = next(features) if batch.second is not None else None
        later = list(features)
        if batch.whole is not None:
            later.append(self._encode(self._input(batch.whole, generator, second=False)))

        parts: dict[str, Tensor] = {}
        if second is not None and config.losses.two_crop:
            parts["two_crop"] = self._two_crop(batch, first, second, generator)
        if later and config.losses.palindrome:
            parts["palindrome"] = self._palindrome(batch, first[:clips], later, second, generator)
        example = Example(batch.first[:clips].detach())
        if later:
            matched, example = self._match(batch, first[:clips], later[-1], drop_outliers)
            parts.update(matched)
        weights = vars(config.losses)
        total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
        return Losses(total, {name: value.detach() for name, value in parts.items()}, example)

    def _encode(self, images: Tensor) -> Tensor:
        features: Tensor = self._encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def _input(self, images: Tensor, generator: torch.Generator, *, second: bool) -> Tensor:
        config = self._config
        changed = augment(images, config.second_photometry if second else config.photometry, generator)
        if config.input == "lightness":
            changed = lightness(changed)
        mean, std = (changed.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        return (changed - mean) / std

    def _two_crop(self, batch: Batch, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        config = self._config
        assert batch.locations is not None
        assert batch.valid is not None
        locations, valid = batch.locations, batch.valid
        if config.queries:
            first, locations, valid = subsample(first, locations, valid, config.queries, generator)
        cells = second.shape[2] * second.shape[3]
        negatives = None
        if config.negatives and config.negatives < cells:
            negatives = torch.randperm(cells, generator=generator)[: config.negatives].to(second.device)
        return consistency_loss(
            first,
            second,
            locations,
            valid,
            temperature=config.temperature,
            safe_radius=config.safe_radius,
            videos=batch.videos,
            negatives=negatives,
            others=config.others,
        )

    def _palindrome(
        self, batch: Batch, first: Tensor, later: list[Tensor], second: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        config, clips = self._config, batch.clips
        starts = None
        cells = first.shape[2] * first.shape[3]
        if config.queries and config.queries < cells:
            starts = torch.randperm(cells, generator=generator)[: config.queries].to(first.device)
        return palindrome_loss(
            [first, *later],
            end=None if second is None else second[:clips],
            locations=None if batch.locations is None else batch.locations[:clips],
            valid=None if batch.valid is None else batch.valid[:clips],
            starts=starts,
            temperature=config.temperature,
            dropout=config.dropout,
            generator=generator if first.device.type == "cpu" else None,
        )

    def _match(
        self, batch: Batch, reference: Tensor, target: Tensor, drop_outliers: bool
    ) -> tuple[dict[str, Tensor], Example]:
        """The paper's own losses, on the last frame of each sample."""
        config, losses = self._config, self._config.losses
        patch = batch.first[: batch.clips]
        example = Example(patch)
        if not (losses.reconstruction or losses.concentration or losses.orthogonality):
            return {}, example
        boxes = shown = None
        if batch.whole is not None:
            target, boxes = self._localise(reference, target)
            shown = boxes.detach()
        scores = affinity(reference, target, config.temperature, config.normalise)
        size, target_size = _size(reference), _size(target)
        parts: dict[str, Tensor] = {}
        if losses.concentration:
            parts["concentration"] = concentration_loss(scores, size, target_size)
        weights = over_reference(scores)
        if losses.orthogonality:
            parts["orthogonality"] = coordinate_orthogonality(weights, size)
        if losses.reconstruction:
            assert self._autoencoder is not None
            truth = rgb_to_lab(batch.later[-1] if batch.whole is None else batch.whole)
            patch_lab = rgb_to_lab(patch)
            with torch.no_grad():
                colours = self._autoencoder.encode(patch_lab)
                target_colours = self._autoencoder.encode(truth)
            if boxes is not None:
                grid = _size(target_colours)
                target_colours = localisation.crop(target_colours, boxes, target_size)
                truth = localisation.crop(truth, boxes, _pixels(target_size), size=grid)
            rebuilt = reconstruct(
                weights,
                colours,
                target_colours,
                patch_lab,
                truth,
                self._autoencoder.decode,
                energy_weight=losses.energy,
                outlier_limit=OUTLIER_LIMIT if drop_outliers else None,
            )
            parts["reconstruction"] = rebuilt.loss
            example = Example(patch, batch.whole, shown, rebuilt.estimate, truth.detach())
        elif boxes is not None:
            example = Example(patch, batch.whole, shown)
        return parts, example

    def _localise(self, reference: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Where each patch is in its whole frame, and the features there, in as many cells as the patch has."""
        config = self._config
        scores = affinity(reference, frame, config.temperature, config.normalise)
        places = localisation.coordinates(over_target(scores), _size(frame))
        side = (float(reference.shape[2]), float(reference.shape[3]))
        boxes = localisation.boxes(places, _size(frame), scale=config.scale, side=side)
        return localisation.crop(frame, boxes, _size(reference)), boxes


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[2], maps.shape[3]


def _pixels(cells: tuple[int, int]) -> tuple[int, int]:
    return cells[0] * STRIDE, cells[1] * STRIDE
