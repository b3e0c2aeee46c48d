"""Portraits: what regions look like on their anchors, a bounded number of cells of each.

All regions of a frame are described at once, in tensors of one size with a mask beside them, and nothing is read back
to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from model.sampling import evenly

SAMPLES = 64
"""How many of a region's cells are looked at."""

AREA, MASS, OUTLINE, SPREAD = range(4)
"""Columns of `shapes`."""

_AROUND = 128  # how many of the cells around a region
_MARGIN = 6  # in cells: how far "around" reaches


@dataclass(frozen=True, eq=False)
class Portraits:
    """Regions on anchors.

    Attributes:
        taken: (R,) bool, of which regions there is one.
        own: (R, SAMPLES, C) features of the region's cells.
        own_counts: (R, SAMPLES) bool, which of them count.
        around: (R, m, C) features of cells around it.
        around_counts: (R, m) bool.
        shapes: (R, 4), of its soft map.
    """

    taken: Tensor
    own: Tensor
    own_counts: Tensor
    around: Tensor
    around_counts: Tensor
    shapes: Tensor

    @classmethod
    def of(cls, features: Tensor, maps: Tensor, known: Tensor | None) -> Portraits:
        """From a frame.

        Args:
            features: (rows, columns, C).
            maps: (R, rows, columns) soft maps.
            known: (rows, columns) bool, False for void cells, which belong to no portrait; None where there are none.
        """
        flat = features.flatten(0, 1)
        own, own_counts = evenly(core(maps.flatten(1)), SAMPLES)
        around, around_counts = surroundings(maps, known)
        return cls(maps.flatten(1).any(dim=1), flat[own], own_counts, flat[around], around_counts, shapes(maps))

    def placed(self, at: Tensor, count: int) -> Portraits:
        """These, as those of the regions numbered `at` (r,) among `count`; the others have none."""
        return _each(lambda part: part.new_zeros(count, *part.shape[1:]).index_copy(0, at, part), self)

    def over(self, older: Portraits) -> Portraits:
        """These where there are any, the older ones elsewhere."""

        def newest(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(self.taken.view(-1, *(1,) * (new.dim() - 1)), new, old)

        return replace(_each(newest, self, older), taken=self.taken | older.taken)


def shapes(maps: Tensor) -> Tensor:
    """(R, 4) float64 of (R, rows, columns) soft maps, in cells: area (sum p), mass (sum p^2 / sum p), outline
    (sum |grad p| / sqrt(sum p)) and spread (the cells' distance from their centre, for the area that they have).

    In float64, so that the order of a sum, which threads may change, leaves no trace. Of an empty map the numbers are
    finite and mean nothing.
    """
    maps = maps.double()
    area = maps.sum(dim=(1, 2)).clamp(min=1e-9)
    outline = maps.diff(dim=1).abs().sum(dim=(1, 2)) + maps.diff(dim=2).abs().sum(dim=(1, 2))
    variance = _variance(maps.sum(dim=1), area) + _variance(maps.sum(dim=2), area)
    spread = ((variance + 1 / 6) / area).sqrt()  # a cell has an extent of its own
    return torch.stack([area, (maps * maps).sum(dim=(1, 2)) / area, outline / area.sqrt(), spread], dim=1)


def core(values: Tensor) -> Tensor:
    """(R, cells) bool: the cells that belong to the regions, however faint a whole map is; none of an empty one."""
    return (values >= values.amax(dim=1, keepdim=True).clamp(max=1.0) / 2) & (values > 0)


def surroundings(maps: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cells near each region and not of it; all but it where that leaves none.

    Args:
        maps: (R, rows, columns).
        known: (rows, columns) bool, which cells may be taken, where some of them can.

    Returns:
        As `evenly`.
    """
    picture = maps > 0.1
    near = picture[:, None].float()
    for reach in ((_MARGIN, 0), (0, _MARGIN)):  # along one axis after the other: the same, and less work
        near = F.max_pool2d(near, (2 * reach[0] + 1, 2 * reach[1] + 1), 1, reach)
    ring, flat = ((near[:, 0] > 0) & ~picture).flatten(1), maps.flatten(1)
    ring = torch.where(ring.any(dim=1, keepdim=True), ring, flat <= flat.amin(dim=1, keepdim=True))
    if known is not None:
        seen = ring & known.to(ring.device).flatten()
        ring = torch.where(seen.any(dim=1, keepdim=True), seen, ring)
    return evenly(ring, _AROUND)


def _variance(profile: Tensor, total: Tensor) -> Tensor:
    """(R,) of (R, n) profiles whose sums are `total`."""
    place = torch.arange(profile.shape[1], device=profile.device, dtype=profile.dtype)
    mean = (profile * place).sum(dim=1) / total
    return (profile * (place - mean[:, None]) ** 2).sum(dim=1) / total


def _each(function: Callable[..., Tensor], *portraits: Portraits) -> Portraits:
    """The portraits that come of the same done to every part."""
    return Portraits(*(function(*(getattr(p, part.name) for p in portraits)) for part in fields(Portraits)))
