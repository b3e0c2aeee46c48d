"""Random affine crops of frames, and which cell of one crop is which of another's.

A crop is a map theta, (2, 3): from its own normalised coordinates, [-1, 1] from edge to edge (`align_corners=False`),
to pixels of the source frame, in which the centre of the top-left pixel is (0.5, 0.5). Two maps of one frame give the
exact correspondence between their crops, whatever the frame shows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from model.encoder import STRIDE
from model.training.cells import centres, normalised

_ROUNDING = 1e-3  # cells; a crop compared with itself loses no border cell to float32


def random_crops(
    sizes: Tensor,
    *,
    size: int,
    zoom: tuple[float | Tensor, float | Tensor] = (0.5, 1.0),
    rotation_degrees: float = 0.0,
    shear: float = 0.0,
    aspect: float = 1.0,
    flip: float = 0.0,
    near: Tensor | None = None,
    reach: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One random square crop of each frame.

    Args:
        sizes: (B, 2) integers, height and width of the source frames in pixels.
        size: side of the crop in pixels.
        zoom: least and greatest number of output pixels per source pixel, drawn evenly in its logarithm; (B,) tensors
            give each frame limits of its own. Rotation, shear and aspect change no area, so this is the scale whatever
            else is drawn.
        rotation_degrees: greatest rotation to either side.
        shear: greatest shear to either side, in pixels across per pixel down.
        aspect: greatest ratio of the two axes' scales.
        flip: probability of mirroring left and right.
        near: (B, 2, 3) earlier crops of the same frames: the new centre is drawn within them, so that the two overlap.
        reach: how far from the earlier crop's centre, 0 on it and 1 anywhere in that crop.
        generator: source of every draw, and of their device; one on the CPU gives the same crops on any device.

    Returns:
        (B, 2, 3) float32 on the device of `sizes`. A crop lies inside of its frame where it fits; on an axis where it
        does not it is centred, and reaches beyond on both sides.
    """
    device = sizes.device if generator is None else generator.device
    draws = torch.rand(7, len(sizes), generator=generator, device=device).to(sizes.device)
    signed = draws * 2 - 1
    least, most = (torch.as_tensor(limit, device=draws.device).log() for limit in zoom)
    scale = torch.exp(least + draws[0] * (most - least))
    angle = signed[1] * math.radians(rotation_degrees)
    stretch = torch.exp(signed[2] * (math.log(aspect) / 2))
    mirror = torch.where(draws[3] < flip, -1.0, 1.0)
    skew = signed[4] * shear
    cos, sin = torch.cos(angle), torch.sin(angle)
    # Rotation times [[stretch, skew], [0, 1 / stretch]] times the mirror, in source pixels from the crop's centre.
    half = size / 2 / scale
    xx, yx = cos * stretch * mirror * half, sin * stretch * mirror * half
    xy, yy = (cos * skew - sin / stretch) * half, (sin * skew + cos / stretch) * half
    extent = torch.stack([xx.abs() + xy.abs(), yx.abs() + yy.abs()], dim=1)
    frame = sizes.flip(1).float()
    low, high = extent.minimum(frame / 2), (frame - extent).maximum(frame / 2)
    if near is None:
        centre = low + draws[5:7].T * (high - low)
    else:
        centre = near[:, :, 2] + reach * (near[:, :, :2] * signed[5:7].T[:, None]).sum(dim=2)
        centre = centre.maximum(low).minimum(high)
    return torch.stack([torch.stack([xx, xy, centre[:, 0]], dim=1), torch.stack([yx, yy, centre[:, 1]], dim=1)], dim=1)


def zoom_of(theta: Tensor, size: int) -> Tensor:
    """(B, 2, 3) maps of crops of `size` pixels to (B,): output pixels per source pixel, as `random_crops` draws it."""
    area = theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]
    return size / 2 / area.abs().sqrt()


def mirror(theta: Tensor, chosen: Tensor) -> Tensor:
    """The crops seen in a mirror, left and right exchanged, where (B,) bool `chosen` says so."""
    sign = torch.where(chosen, -1.0, 1.0).to(theta.device)
    return torch.cat([theta[:, :, :1] * sign[:, None, None], theta[:, :, 1:]], dim=2)


def correspondence(theta1: Tensor, theta2: Tensor, size: int, stride: int = STRIDE) -> tuple[Tensor, Tensor]:
    """Where every cell of crop 1 lies in crop 2, by their maps alone.

    Args:
        theta1, theta2: (B, 2, 3), crops of `size` pixels a side of the same frames.
        stride: pixels per cell and side.

    Returns:
        locations: (B, h * w, 2) float32, (x, y) in cells of crop 2 with centres at integers.
        valid: (B, h * w) bool, where the place lies between crop 2's outermost centres, so that no match has to be
            moved to the border.
    """
    side = size // stride
    points = apply(theta1, normalised(centres((side, side), device=theta1.device), (side, side)))
    points = (apply(invert(theta2), points) + 1) * (side / 2) - 0.5
    valid = ((points >= -_ROUNDING) & (points <= side - 1 + _ROUNDING)).all(dim=2)
    return points, valid


def crop(frames: Tensor, theta: Tensor, size: int, *, padding_mode: str = "reflection") -> Tensor:
    """Cuts the crops out: (B, C, H, W) frames and (B, 2, 3) to (B, C, size, size), bilinear, float32.

    Beyond the frame its reflection is seen. One sample per pixel: below a zoom of 0.5 source pixels are skipped, and
    frames should be made smaller first.
    """
    height, width = frames.shape[2:]
    points = apply(theta, normalised(centres((size, size), device=theta.device), (size, size)))
    grid = (points / points.new_tensor([width / 2, height / 2]) - 1).view(-1, size, size, 2)
    return F.grid_sample(frames.float(), grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)


def apply(theta: Tensor, points: Tensor) -> Tensor:
    """(B, 2, 3) maps on (N, 2) or (B, N, 2) points: (B, N, 2). Products, no matmul, so autocast rounds nothing."""
    x, y = points[..., 0], points[..., 1]
    axes = [theta[:, axis, :1] * x + theta[:, axis, 1:2] * y + theta[:, axis, 2:] for axis in (0, 1)]
    return torch.stack(axes, dim=-1)


def invert(theta: Tensor) -> Tensor:
    """The maps the other way, (B, 2, 3); of maps with an area."""
    a, b, c = theta[:, 0].unbind(dim=1)
    d, e, f = theta[:, 1].unbind(dim=1)
    area = a * e - b * d
    back = torch.stack([torch.stack([e, -b], dim=1), torch.stack([-d, a], dim=1)], dim=1) / area[:, None, None]
    shift = -(back[:, :, 0] * c[:, None] + back[:, :, 1] * f[:, None])
    return torch.cat([back, shift[:, :, None]], dim=2)
