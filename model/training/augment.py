"""Photometric augmentation of whole batches, on their device: every picture its own draw, no loop over pictures.

Pictures are (B, 3, H, W) sRGB in 0..1. All draws come from an explicit generator, on its own device: one on the CPU
gives the same augmentation on any device, and choosing pictures by it does not wait for the GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.lab import lab_to_rgb, rgb_to_lab
from model.training.cells import full_precision

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in OpenCV, Pillow and torchvision


@dataclass(frozen=True)
class Photometry:
    """How strongly pictures are changed. All zero changes nothing.

    The defaults are slight: the colours of a video hardly change from frame to frame, and features that were taught to
    expect it do without one of the best cues there are (`docs/training.md` has what that costs).

    Attributes:
        brightness, contrast, saturation: factors are drawn from 1 - value to 1 + value.
        hue: greatest turn to either side, as a share of the full circle (0.5 is the opposite colour).
        grey: probability that a picture loses its colour.
        blur: probability that a picture is blurred.
        blur_sigma: least and greatest standard deviation in pixels.
        drop_a, drop_b, drop_both: probabilities that Lab's a, its b, or both are dropped; at most 1 in all.
    """

    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.02
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.3, 1.5)
    drop_a: float = 0.02
    drop_b: float = 0.02
    drop_both: float = 0.03


def augment(images: Tensor, photometry: Photometry, generator: torch.Generator | None = None) -> Tensor:
    """Everything that the photometry asks for, in this order: jitter, blur, dropped channels, grey."""
    p = photometry
    images = jitter(
        images,
        brightness=p.brightness,
        contrast=p.contrast,
        saturation=p.saturation,
        hue=p.hue,
        generator=generator,
    )
    images = blur(images, p.blur, p.blur_sigma, generator)
    images = drop_channels(images, a=p.drop_a, b=p.drop_b, both=p.drop_both, generator=generator)
    return greyscale(images, p.grey, generator)


def jitter(
    images: Tensor,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random brightness, contrast (about the picture's mean grey), saturation and hue; clamped to 0..1.

    Together they are one affine map of colours per picture, applied once. Hue turns colours about the grey axis and
    leaves their grey as it is.
    """
    if not any((brightness, contrast, saturation, hue)):
        return images
    draws = _draws(images, 4, generator) * 2 - 1  # (B, 4)
    light, gain, chroma = (1 + draws[:, :3] * draws.new_tensor([brightness, contrast, saturation])).unbind(dim=1)
    angle = draws[:, 3] * (2 * math.pi * hue)
    grey = images.new_tensor(_GREY, dtype=torch.float32)
    mean = (images.float().mean(dim=(2, 3)) * grey).sum(dim=1)
    to_grey = grey.expand(3, 3)
    # (v - grey v) turned about (1, 1, 1) by Rodrigues' formula; the axis itself has no part that turns.
    axis = grey.new_tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    away = torch.eye(3, device=grey.device) - 1 / 3
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    turn = cos * away + sin * axis + 1 / 3
    shift = (light * mean * (1 - gain))[:, None, None]
    with full_precision(images):
        colour = to_grey + chroma[:, None, None] * (turn - to_grey @ turn)
        flat = torch.baddbmm(shift, colour * (light * gain)[:, None, None], images.float().flatten(2))
    return flat.clamp_(0, 1).view(images.shape)


def greyscale(images: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Some pictures without their colour."""
    chosen = _chosen(images, probability, generator)
    if chosen is None:
        return images
    picked = images[chosen]
    grey = (picked * picked.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)
    return images.index_copy(0, chosen, grey.expand_as(picked))


def blur(
    images: Tensor,
    probability: float,
    sigma: tuple[float, float] = (0.3, 1.5),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Some pictures blurred by a Gaussian, each with a sigma of its own, in pixels; edges are reflected."""
    deviation = sigma[0] + _draws(images, 1, generator)[:, 0] * (sigma[1] - sigma[0])
    chosen = _chosen(images, probability, generator)
    if chosen is None:
        return images
    reach = min(math.ceil(3 * sigma[1]), min(images.shape[2:]) - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.softmax(-(offsets / deviation[chosen, None]).square() / 2, dim=1).repeat_interleave(3, dim=0)
    x = images[chosen].float().flatten(0, 1)[None]  # one group per picture and channel
    groups = x.shape[1]
    x = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    with full_precision(images):
        x = F.conv2d(x, kernel[:, None, None, :], groups=groups)
        x = F.conv2d(x, kernel[:, None, :, None], groups=groups)
    return images.index_copy(0, chosen, x.view(-1, *images.shape[1:]).to(images.dtype))


def drop_channels(
    images: Tensor, *, a: float, b: float, both: float, generator: torch.Generator | None = None
) -> Tensor:
    """Some pictures without Lab's a, b or both, back in RGB.

    After MAST (Lai et al. 2020): an encoder that cannot count on colour may still use it where it is there. A colour
    that RGB lacks after the loss is clamped.
    """
    if a + b + both <= 0:
        return images
    draws = _draws(images, 1, generator, keep=True)[:, 0]
    index = (draws < a + b + both).nonzero()[:, 0]
    draws = draws[index]
    kept = torch.stack([torch.ones_like(draws), (draws >= a) & (draws < a + b), draws < a], dim=1)
    chosen, kept = index.to(images.device), kept.to(images.device)
    if not len(chosen):
        return images
    lab = rgb_to_lab(images[chosen]) * kept[:, :, None, None]
    return images.index_copy(0, chosen, lab_to_rgb(lab).to(images.dtype))


def lightness(images: Tensor) -> Tensor:
    """The paper's colour-blind input: Lab's L in 0..1, three times; (B, 3, H, W) to (B, 3, H, W).

    UVC (Li et al. 2019) shows its matching encoder (L' + 1) / 2 of `model.lab`'s scale.
    """
    return ((rgb_to_lab(images)[:, :1] + 1) / 2).expand_as(images)


def _draws(images: Tensor, count: int, generator: torch.Generator | None, *, keep: bool = False) -> Tensor:
    """(B, count) in 0..1, brought to the pictures' device unless they are to be kept on the generator's."""
    device = images.device if generator is None else generator.device
    draws = torch.rand(len(images), count, generator=generator, device=device)
    return draws if keep else draws.to(images.device)


def _chosen(images: Tensor, probability: float, generator: torch.Generator | None) -> Tensor | None:
    """Indices of the pictures that a draw picked, or None for none."""
    if probability <= 0:
        return None
    index = (_draws(images, 1, generator, keep=True)[:, 0] < probability).nonzero()[:, 0]
    return index.to(images.device) if len(index) else None
