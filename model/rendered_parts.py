"""What rendered clips are painted from: shapes as signed distances, their textures, and the landscape behind them."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Field = NDArray[np.float32]
Window = tuple[slice, slice]

_LIGHT = (-0.55, -0.83)  # where the light comes from, in the picture
_SHADOW = 7.0  # how far a shape darkens what lies behind it, in units


@dataclass(frozen=True)
class Pose:
    """Where a shape's own origin lies (pixels), how it is turned (radians, clockwise) and its pixels per unit."""

    x: float
    y: float
    angle: float
    scale: float


class Shape(Protocol):
    """A textured shape in its own coordinates, in units."""

    @property
    def texture(self) -> Image.Image:
        """The surface's colours, from `corner` on at `density` pixels a unit."""
        ...

    @property
    def corner(self) -> tuple[float, float]: ...

    @property
    def density(self) -> float: ...

    def centre(self) -> tuple[float, float, float]:
        """Centre and radius of a circle that holds the shape."""
        ...

    def field(self, x: Field, y: Field) -> tuple[Field, Field, Field]:
        """At each point: the distance to the outline (negative inside), and the surface's slope in x and y (-1..1)."""
        ...


@dataclass(frozen=True)
class Capsule:
    """A limb: from a round end at the origin to a round end at (length, 0)."""

    length: float
    start: float
    end: float
    texture: Image.Image
    density: float

    @property
    def corner(self) -> tuple[float, float]:
        widest = max(self.start, self.end) + 2
        return -self.start - 2, -widest

    def centre(self) -> tuple[float, float, float]:
        return self.length / 2, 0.0, self.length / 2 + max(self.start, self.end)

    def field(self, x: Field, y: Field) -> tuple[Field, Field, Field]:
        t = np.clip(x / self.length, 0, 1) if self.length else np.zeros_like(x)
        radius = self.start + (self.end - self.start) * t
        along = x - t * self.length
        return np.hypot(along, y) - radius, along / radius, y / radius


@dataclass(frozen=True)
class Flower:
    """A disc with rounded petals around the origin."""

    radius: float
    petals: int
    depth: float
    texture: Image.Image
    density: float

    @property
    def corner(self) -> tuple[float, float]:
        reach = self.radius * (1 + self.depth) + 2
        return -reach, -reach

    @classmethod
    def new(cls, rng: np.random.Generator, unit: float, *, hue: float | None = None, petals: int = 7) -> Flower:
        """A flower for a frame of `unit` pixels a unit; without a hue, one of the reds is drawn."""
        radius, depth = 64.0, 0.14
        density = max(unit, 0.25)
        reach = radius * (1 + depth) + 2
        size = round(2 * reach * density)
        hue = rng.uniform(0.93, 1.03) if hue is None else hue
        texture = _cloth(rng, size, size, _hues(hue, (0.0, 0.62, 1.0), (0.055, 0.85, 0.98)), cell=26 * density)
        y, x = np.mgrid[:size, :size]
        x, y = (x + 0.5) / density - reach, (y + 0.5) / density - reach
        distance, angle = np.hypot(x, y), np.arctan2(y, x)
        gold = np.array(_hues(hue, (0.14, 0.75, 1.0))[0])
        dark = np.array(_hues(hue, (-0.07, 0.8, 0.5))[0])
        swirl = np.clip(2.2 * np.sin(petals * angle + distance * 0.09 + 1.2) - 1.1, 0, 1) * (distance > 27)
        texture += (gold - texture) * (0.75 * swirl)[..., None]
        ring = np.exp(-(((distance - 29) / 3.2) ** 2))
        texture += (dark - texture) * (0.8 * ring)[..., None]
        seeds = (np.sin(x * 0.75) * np.sin(y * 0.75) > 0.25) * (distance < 24)
        texture += (gold - texture) * (distance < 27)[..., None] * 0.85
        texture += (dark - texture) * (0.7 * seeds)[..., None]
        return cls(radius, petals, depth, _image(texture), density)

    def centre(self) -> tuple[float, float, float]:
        return 0.0, 0.0, self.radius * (1 + self.depth)

    def field(self, x: Field, y: Field) -> tuple[Field, Field, Field]:
        distance, angle = np.hypot(x, y), np.arctan2(y, x) * self.petals
        wave = self.depth * self.radius
        outline = self.radius + wave * np.cos(angle)
        # Divided by its gradient's length on the outline, so that one unit off the outline measures about one.
        slant = wave * self.petals * np.sin(angle) / outline
        return (distance - outline) / np.sqrt(1 + slant * slant), x / outline, y / outline


def placed(shape: Shape, pose: Pose, picture: tuple[int, ...]) -> tuple[Window, Field]:
    """The window of the picture that a shape touches, and there the distance to its outline in pixels."""
    window, x, y = _window(shape, pose, picture, 1.0)
    return window, shape.field(x, y)[0] * pose.scale


def covers(shape: Shape, pose: Pose, x: float, y: float) -> bool:
    """Whether the pixel that holds a point of the picture belongs to a shape there."""
    centre = np.array([[math.floor(x) + 0.5]], np.float32), np.array([[math.floor(y) + 0.5]], np.float32)
    return bool(shape.field(*_local(pose, *centre))[0][0, 0] < 0)


def shade(picture: NDArray[np.uint8], shape: Shape, pose: Pose) -> None:
    """Paints a shape into a picture (height, width, 3): texture, light, and a soft shadow on what lies behind."""
    reach = _SHADOW * pose.scale
    window, x, y = _window(shape, pose, picture.shape, reach + 1)
    if not x.size:
        return
    distance, slope_x, slope_y = shape.field(x, y)
    distance *= pose.scale
    c, s = math.cos(pose.angle), math.sin(pose.angle)
    facing = slope_x * (c * _LIGHT[0] + s * _LIGHT[1]) + slope_y * (c * _LIGHT[1] - s * _LIGHT[0])
    rim = slope_x * slope_x + slope_y * slope_y
    light = 0.98 + 0.2 * facing - 0.26 * rim * rim
    gloss = np.maximum(facing - 0.25, 0) * np.maximum(1.15 - rim, 0) * 75
    colour = np.asarray(_sampled(shape, pose, window), np.float32)
    colour *= light[..., None]
    colour += gloss[..., None]
    cover = np.clip(0.5 - distance, 0, 1)
    dark = np.clip(1 - distance / reach, 0, 1)
    behind = picture[window] * (1 - 0.34 * dark * dark)[..., None]
    behind += (colour - behind) * cover[..., None]
    picture[window] = np.clip(behind + 0.5, 0, 255).astype(np.uint8)


def ground_shadow(picture: NDArray[np.uint8], x: float, y: float, reach: float) -> None:
    """Darkens a flat, soft ellipse on the ground around a point of the picture (height, width, 3)."""
    height, width = picture.shape[:2]
    top, bottom = max(0, round(y - reach / 4)), min(height, round(y + reach / 4))
    left, right = min(width, max(0, round(x - reach))), max(0, min(width, round(x + reach)))
    rows = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y) * (4 / reach)
    columns = (np.arange(left, right, dtype=np.float32)[None] + 0.5 - x) / reach
    dark = np.clip(1 - rows * rows - columns * columns, 0, 1)
    window = picture[top:bottom, left:right]
    window[:] = (window * (1 - 0.45 * dark)[..., None] + 0.5).astype(np.uint8)


def landscape(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A textured evening landscape: sky with clouds, three ranges of hills, a meadow."""
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    hue = rng.uniform(-0.03, 0.03)
    cell = height / 5
    top, low, cloud = (np.array(c) for c in _hues(hue, (0.58, 0.5, 0.72), (0.09, 0.3, 0.97), (0.05, 0.12, 1.0)))
    sky = top + (low - top) * np.clip(y * 1.9, 0, 1)[..., None] + np.zeros((height, width, 1))
    puffs = np.clip(_noise(rng, height, width, cell, 5, stretch=2.2) * 1.5 - 0.05, 0, 1)
    picture = sky + (cloud - sky) * (0.75 * puffs)[..., None]
    ranges = (
        (0.47, 0.16, (0.62, 0.27, 0.62), (0.66, 0.33, 0.48)),
        (0.60, 0.12, (0.48, 0.33, 0.50), (0.43, 0.42, 0.34)),
        (0.74, 0.07, (0.27, 0.45, 0.55), (0.33, 0.55, 0.34)),
    )
    for base, swing, light, dark in ranges:
        ridge = base - swing * _noise(rng, 1, width, cell * 1.7, 5)
        ridge -= 0.015 * _noise(rng, 1, width, cell / 6, 3)
        cover = np.clip((y - ridge) * height + 0.5, 0, 1)
        ground = _cloth(rng, height, width, _hues(hue, light, dark), cell=cell * 0.45, grain=0.2)
        ground *= (0.82 + 0.32 * np.clip(1 - (y - ridge) * 3.2, 0, 1))[..., None]
        picture += (ground - picture) * cover[..., None]
    return _image(picture)


def curtain(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """A piece of heavy cloth with folds, (height, width, 3)."""
    hue = rng.uniform(-0.5, 0.5)
    cloth = _cloth(rng, height, width, _hues(hue, (0.0, 0.5, 0.8), (0.04, 0.6, 0.45)), cell=height / 9)
    across = np.arange(width, dtype=np.float32) * (2 * math.pi / max(24, height / 6))
    folds = 0.85 + 0.2 * np.sin(across + 0.8 * np.sin(across * 0.37)) * rng.uniform(0.6, 1.0)
    return np.asarray(_image(cloth * folds[None, :, None]))


def puppet_shapes(rng: np.random.Generator, unit: float) -> dict[str, Capsule]:
    """The puppet's limbs by name, from back to front."""
    hue = rng.uniform(-0.04, 0.04)
    shirt, sleeve, skin, trousers, shoe = (
        ((0.50, 0.70, 0.78), (0.56, 0.85, 0.42)),
        ((0.12, 0.72, 0.98), (0.06, 0.80, 0.82)),
        ((0.085, 0.33, 1.0), (0.065, 0.42, 0.93)),
        ((0.76, 0.45, 0.66), (0.70, 0.62, 0.40)),
        ((0.97, 0.75, 0.85), (0.99, 0.85, 0.52)),
    )
    sizes: dict[str, tuple[float, float, float, Any, str]] = {
        "right_thigh": (64, 21, 17, trousers, "checks"),
        "right_shin": (62, 17, 12, trousers, "bands"),
        "right_shoe": (20, 14, 10, shoe, ""),
        "left_thigh": (64, 21, 17, trousers, "spots"),
        "left_shin": (62, 17, 12, trousers, "bands"),
        "left_shoe": (20, 14, 10, shoe, ""),
        "right_upper_arm": (60, 18, 14, sleeve, "bands"),
        "right_forearm": (62, 14, 11, sleeve, "spots"),
        "right_palm": (6, 15, 13, skin, ""),
        "torso": (92, 36, 44, shirt, "spots"),
        "head": (8, 39, 36, skin, "face"),
        "left_upper_arm": (60, 18, 14, sleeve, "spots"),
        "left_forearm": (62, 14, 11, sleeve, "bands"),
        "left_palm": (6, 15, 13, skin, ""),
    }
    return {name: _limb(rng, unit, hue, *size) for name, size in sizes.items()}


def _limb(
    rng: np.random.Generator, unit: float, hue: float, length: float, start: float, end: float, cloth: Any, marks: str
) -> Capsule:
    density = max(unit, 0.25)
    across = 2 * max(start, end) + 4
    width, height = round((length + start + end + 4) * density), round(across * density)
    colours = _hues(hue, *cloth)
    image = _image(_cloth(rng, height, width, colours, cell=17 * density))
    # Marks are drawn four times as large and reduced, which is all the smoothing they need.
    layer = Image.new("L", (width * 4, height * 4), 0)
    draw, k = ImageDraw.Draw(layer), 4 * density
    middle = across / 2
    if marks == "bands":
        for x in np.arange(rng.uniform(6, 14), length + start + end, 21):
            draw.rectangle((x * k, 0, (x + 8) * k, height * 4), fill=205)
    elif marks == "checks":
        for row in range(4):
            for x in np.arange(4 + 12 * (row % 2), length + start + end, 24):
                draw.rectangle((x * k, row * 12 * k, (x + 12) * k, (row + 1) * 12 * k), fill=170)
    elif marks == "spots":
        for _ in range(int(width * height / density**2 / 260)):
            x, y, r = rng.uniform(0, width / density), rng.uniform(0, across), rng.uniform(2.5, 6)
            draw.ellipse(((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k), fill=215)
    elif marks == "face":
        _face(draw, k, start + 2, middle)
    ink = _hues(hue, (0.06, 0.6, 0.22) if marks == "face" else (cloth[0][0] + 0.03, 0.16, 1.0))[0]
    mask = layer.resize((width, height), Image.Resampling.LANCZOS)
    image.paste(tuple(int(v) for v in ink), (0, 0, width, height), mask)
    return Capsule(float(length), float(start), float(end), image, density)


def _face(draw: ImageDraw.ImageDraw, k: float, x: float, y: float) -> None:
    """Eyes, mouth and hair of a head whose top lies towards +x."""
    for side in (-1, 1):
        draw.ellipse(((x + 4) * k, (y + side * 14 - 4.5) * k, (x + 15) * k, (y + side * 14 + 4.5) * k), fill=255)
    draw.arc(((x - 20) * k, (y - 15) * k, (x + 4) * k, (y + 15) * k), 100, 260, fill=235, width=round(3.5 * k))
    draw.pieslice(((x - 31) * k, (y - 46) * k, (x + 61) * k, (y + 46) * k), -58, 58, fill=0)
    draw.chord(((x - 36) * k, (y - 46) * k, (x + 52) * k, (y + 46) * k), -52, 52, fill=225)


def _window(shape: Shape, pose: Pose, picture: tuple[int, ...], spare: float) -> tuple[Window, Field, Field]:
    """The window of the picture around a shape, and the shape's own coordinates at its pixels' centres."""
    x, y, radius = shape.centre()
    c, s = math.cos(pose.angle) * pose.scale, math.sin(pose.angle) * pose.scale
    middle_x, middle_y, reach = pose.x + c * x - s * y, pose.y + s * x + c * y, radius * pose.scale + spare
    top, bottom = (max(0, min(picture[0], math.floor(edge))) for edge in (middle_y - reach, middle_y + reach + 1))
    left, right = (max(0, min(picture[1], math.floor(edge))) for edge in (middle_x - reach, middle_x + reach + 1))
    columns = np.arange(left, right, dtype=np.float32)[None] + 0.5
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
    return (slice(top, bottom), slice(left, right)), *_local(pose, columns, rows)


def _local(pose: Pose, x: Field, y: Field) -> tuple[Field, Field]:
    c, s = math.cos(pose.angle) / pose.scale, math.sin(pose.angle) / pose.scale
    x, y = x - np.float32(pose.x), y - np.float32(pose.y)
    return c * x + s * y, c * y - s * x


def _sampled(shape: Shape, pose: Pose, window: Window) -> Image.Image:
    """The shape's texture as it lies in a window of the picture."""
    size = window[1].stop - window[1].start, window[0].stop - window[0].start
    k = shape.density / pose.scale
    c, s = k * math.cos(pose.angle), k * math.sin(pose.angle)
    x, y = window[1].start - pose.x, window[0].start - pose.y
    left, top = (shape.density * edge for edge in shape.corner)
    matrix = (c, s, c * x + s * y - left, -s, c, c * y - s * x - top)
    return shape.texture.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _cloth(
    rng: np.random.Generator,
    height: int,
    width: int,
    colours: list[tuple[float, float, float]],
    cell: float,
    grain: float = 0.1,
) -> NDArray[np.float32]:
    """A mottled surface (height, width, 3) between two colours."""
    light, dark = (np.array(colour, np.float32) for colour in colours)
    mix = np.clip(0.5 + 0.75 * _noise(rng, height, width, cell, 4), 0, 1)[..., None]
    return (dark + (light - dark) * mix) * (1 + grain * _noise(rng, height, width, cell / 5, 3)[..., None])


def _noise(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int, *, stretch: float = 1.0
) -> NDArray[np.float32]:
    """Smooth noise (height, width), about -1..1: random grids, each finer and at 0.55 of the weight of the last."""
    total, weight = np.zeros((height, width), np.float32), 1.0
    for _ in range(octaves):
        if cell < 2:
            break
        rows, columns = math.ceil(height / cell) + 4, math.ceil(width / (cell * stretch)) + 4
        grid = Image.fromarray(rng.uniform(-1, 1, (rows, columns)).astype(np.float32))
        x, y = rng.uniform(1, 2, 2)  # where one grid's lines lie on another's, an edge would show
        area = (x, y, x + width / (cell * stretch), y + height / cell)
        total += weight * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=area))
        cell, weight = cell / 1.9, weight * 0.55
    return total


def _hues(shift: float, *colours: tuple[float, float, float]) -> list[tuple[float, float, float]]:
    """Colours given as hue, saturation and value, with the hue shifted, as red, green and blue up to 255."""
    rgb = [colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in colours]
    return [(255 * r, 255 * g, 255 * b) for r, g, b in rgb]


def _image(colours: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.clip(colours + 0.5, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
