"""CIE Lab (D65), each channel scaled to about [-1, 1], as training's losses and cells' colours have it.

UVC (Li et al. 2019) works on OpenCV's 8-bit Lab, L * 255 / 100, a + 128 and b + 128, as (value - 128) / 128. Here the
same scale is computed in float32, without the rounding to bytes:

    L' = L * 255 / 12800 - 1        a' = a / 128        b' = b / 128
"""

from __future__ import annotations

import torch
from torch import Tensor

# Linear sRGB to XYZ over the white point, with OpenCV's constants. Rows add to 1: white has a = b = 0.
_TO_XYZ = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
) / torch.tensor([[0.950456], [1.0], [1.088754]], dtype=torch.float64)
_FROM_XYZ = torch.linalg.inv(_TO_XYZ)
_DELTA = 6 / 29  # where the cube root meets its tangent
_LIGHTNESS = 255 / 12800
UNITS = (1 / _LIGHTNESS, 128.0, 128.0)
"""How many units of Lab 1 is, in each channel."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB in 0..1 to (B, 3, H, W) float32 scaled Lab."""
    x = images.float()
    # The power's base is kept off zero, where its gradient would not be needed but would spoil the other branch's.
    linear = torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = _mix(linear, _TO_XYZ)
    f = torch.where(xyz > _DELTA**3, xyz.clamp(min=_DELTA**3) ** (1 / 3), xyz / (3 * _DELTA * _DELTA) + 4 / 29)
    fx, fy, fz = f.unbind(dim=1)
    return torch.stack([(116 * fy - 16) * _LIGHTNESS - 1, 500 / 128 * (fx - fy), 200 / 128 * (fy - fz)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """(B, 3, H, W) scaled Lab to (B, 3, H, W) float32 sRGB, clamped to 0..1 where a colour does not exist there."""
    lightness, a, b = lab.float().unbind(dim=1)
    fy = ((lightness + 1) / _LIGHTNESS + 16) / 116
    f = torch.stack([fy + a * (128 / 500), fy, fy - b * (128 / 200)], dim=1)
    xyz = torch.where(f > _DELTA, f**3, 3 * _DELTA * _DELTA * (f - 4 / 29))
    linear = _mix(xyz, _FROM_XYZ)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curved).clamp(0, 1)


def lab_l1(estimate: Tensor, truth: Tensor, *, chroma_weight: float = 10.0) -> Tensor:
    """UVC's photometric distance, one per sample: `mean|dL| + w (mean|da| + mean|db|)`, (B, 3, H, W) twice to (B,)."""
    per_channel = (estimate.float() - truth.float()).abs().mean(dim=(2, 3))
    return per_channel[:, 0] + chroma_weight * (per_channel[:, 1] + per_channel[:, 2])


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Every pixel's channels times a 3 x 3 matrix, by products that autocast leaves in float32."""
    r, g, b = x.unbind(dim=1)
    return torch.stack([p * r + q * g + s * b for p, q, s in matrix.tolist()], dim=1)
