"""Pictures in two layers: a piece of another frame that moves before this one, each with its own known motion.

Two crops of one frame differ by one affine map, so what lies about a cell is the same in both, and features may lean on
it: a strip of ground beside a leg then looks like the leg, takes its label, and keeps it when the leg has gone on. With
a piece of another frame in front, that moves from one view to the next by a map of its own, context changes at the
piece's edge as at a real object's, and the match of every cell is still known exactly: cells of the piece go with it,
cells of the frame stay, and those that it hides or uncovers have no match.

After the flying chairs of Dosovitskiy et al. 2015 (FlowNet), for features rather than for flow.

A piece is a tree of thick strokes, so that it has limbs as well as a body. It is drawn in a space of its own, in which
it reaches about from -1 to 1; `random_places` gives the map from each view's normalised coordinates into that space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.training.cells import centres, normalised
from model.training.crops import apply, invert

_STROKES = 4


@dataclass(frozen=True)
class Pieces:
    """One piece for each of B samples.

    Attributes:
        starts, ends: (B, n, 2) of its strokes, in the piece's own space.
        radii: (B, n) of its strokes.
        present: (B,) bool, False for samples that get none.
    """

    starts: Tensor
    ends: Tensor
    radii: Tensor
    present: Tensor

    def to(self, device: torch.device) -> Pieces:
        return Pieces(*(getattr(self, name).to(device) for name in ("starts", "ends", "radii", "present")))

    def __getitem__(self, items: slice | Tensor) -> Pieces:
        return Pieces(self.starts[items], self.ends[items], self.radii[items], self.present[items])

    def depth(self, points: Tensor) -> Tensor:
        """(B, N, 2) points of the piece's space to (B, N): how far inside they are; below 0 outside."""
        x, y = points.unbind(dim=2)
        depth = torch.full_like(x, -torch.inf)
        for k in range(self.radii.shape[1]):  # stroke by stroke, so that nothing larger than the points is held
            start, along = self.starts[:, k, None], (self.ends - self.starts)[:, k, None]
            across, down = x - start[..., 0], y - start[..., 1]
            length = along.square().sum(dim=2).clamp(min=1e-6)
            share = ((across * along[..., 0] + down * along[..., 1]) / length).clamp(0, 1)
            away = torch.hypot(across - share * along[..., 0], down - share * along[..., 1])
            depth = torch.maximum(depth, self.radii[:, k, None] - away)
        return torch.where(self.present[:, None], depth, -torch.inf)


def random_pieces(count: int, probability: float, generator: torch.Generator) -> Pieces:
    """Pieces at random, each present with that probability. On the generator's device."""
    draw = lambda *shape: torch.rand(*shape, generator=generator, device=generator.device)  # noqa: E731
    # A body through the middle, then limbs that begin on the strokes before them.
    angle = draw(count, _STROKES) * 2 * math.pi
    length = 0.3 + 0.5 * draw(count, _STROKES)
    reach = torch.stack([torch.cos(angle), torch.sin(angle)], dim=2) * length[:, :, None]
    starts = [-reach[:, 0] / 2]
    ends = [reach[:, 0] / 2]
    for k in range(1, _STROKES):
        where = draw(count, 1)
        joint = starts[0] + where * (ends[0] - starts[0]) if k < 3 else ends[-1]
        starts.append(joint)
        ends.append(joint + reach[:, k])
    body = 0.12 + 0.4 * draw(count, 1)
    limbs = 0.05 + 0.2 * draw(count, _STROKES - 1)
    present = draw(count) < probability
    return Pieces(torch.stack(starts, dim=1), torch.stack(ends, dim=1), torch.cat([body, limbs], dim=1), present)


@dataclass(frozen=True)
class Motion:
    """How strongly a piece differs from view to view.

    Attributes:
        zoom: least and greatest size of the piece's space, as a share of the view.
        zoom_change: greatest factor between two views.
        rotation_degrees: greatest turn to either side.
        shift: greatest move to either side, as a share of the view's half side.
    """

    zoom: tuple[float, float] = (0.35, 0.9)
    zoom_change: float = 1.3
    rotation_degrees: float = 25.0
    shift: float = 0.5


def random_places(count: int, views: int, motion: Motion, generator: torch.Generator) -> list[Tensor]:
    """Where each piece is in each of several views: maps (B, 2, 3) from a view's coordinates to the piece's space."""
    draw = lambda *shape: torch.rand(*shape, generator=generator, device=generator.device)  # noqa: E731
    base = torch.exp(math.log(motion.zoom[0]) + draw(count) * math.log(motion.zoom[1] / motion.zoom[0]))
    middle = (draw(count, 2) * 2 - 1) * 0.7
    places = []
    for _ in range(views):
        size = base * torch.exp((draw(count) - 0.5) * math.log(motion.zoom_change))
        angle = (draw(count) * 2 - 1) * math.radians(motion.rotation_degrees)
        centre = (middle + (draw(count, 2) * 2 - 1) * motion.shift).clamp(-0.9, 0.9)
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        turn = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
        places.append(torch.cat([turn, -(turn @ centre[:, :, None])], dim=2))
    return places


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The map that goes through `inner` first and `outer` second; (B, 2, 3) each."""
    linear = (outer[:, :, None, :2] * inner[:, :, :2].mT[:, None]).sum(dim=3)
    offset = (outer[:, :, :2] * inner[:, None, :, 2]).sum(dim=2) + outer[:, :, 2]
    return torch.cat([linear, offset[:, :, None]], dim=2)


def paste(view: Tensor, content: Tensor, pieces: Pieces, place: Tensor) -> Tensor:
    """Puts the pieces in front: (B, 3, S, S) of the frames and of what the pieces show, both as seen in this view.

    Edges are soft over a pixel, so that they give the piece away no more than a real object's.
    """
    size = view.shape[2]
    points = apply(place, normalised(centres((size, size), device=view.device), (size, size)))
    # From the piece's space to pixels: its depth grows by one piece unit per 1 / |place| of the view's half side.
    scale = (place[:, 0, 0] * place[:, 1, 1] - place[:, 0, 1] * place[:, 1, 0]).abs().sqrt()
    pixels = pieces.depth(points) * (size / 2 / scale)[:, None]
    share = (pixels + 0.5).clamp(0, 1).view(-1, 1, size, size)
    return torch.lerp(view, content, share)


def matches(
    behind: tuple[Tensor, Tensor], pieces: Pieces, first: Tensor, second: Tensor, cells: int
) -> tuple[Tensor, Tensor]:
    """Where every cell of the first view is in the second, by the layer that it shows.

    Args:
        behind: locations (B, N, 2) and valid (B, N) of the frame behind, as `crops.correspondence` gives them.
        first, second: the places of the pieces in the two views.
        cells: cells a side.

    Returns:
        As `behind`. A cell is valid where both views show the same layer there.
    """
    size = (cells, cells)
    start = normalised(centres(size, device=first.device), size)
    in_piece = pieces.depth(apply(first, start)) > 0  # (B, N)
    carried = apply(invert(second), apply(first, start))
    carried = (carried + 1) * (cells / 2) - 0.5
    inside = ((carried >= 0) & (carried <= cells - 1)).all(dim=2)
    locations, valid = behind
    hidden = pieces.depth(apply(second, normalised(locations, size))) > 0
    moved = torch.where(in_piece[..., None], carried, locations)
    return moved, torch.where(in_piece, inside, valid & ~hidden)
