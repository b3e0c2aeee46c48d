"""Rendered clips whose truth is known exactly: for the demo, the tests and the benchmarks.

Two textured objects over a textured, slowly drifting landscape: object 1, a flower, spins, grows and crosses the
picture; object 2, a puppet of articulated limbs with a skeleton of keypoints, dances, and the flower hides a part of it
in the middle of the clip. Where more objects are asked for, they are small flowers that circle behind these two, apart
from each other. A curtain may sweep over everything and hide it for a while. Every shape is a signed distance that is
evaluated at the pixels' centres: a pixel belongs to the object in front whose distance is negative there, and colours
are blended over the one pixel around that outline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.labels import Anchor, Keypoint, Label, LabelObject, Skeleton, colour_of
from model.labels.types import MAX_OBJECT_ID
from model.rendered_parts import (
    Flower,
    Pose,
    Shape,
    covers,
    curtain,
    ground_shadow,
    landscape,
    placed,
    puppet_shapes,
    shade,
)

FLOWER, PUPPET = 1, 2
_POINTS = (
    "head",
    "left_shoulder",
    "left_elbow",
    "left_hand",
    "right_shoulder",
    "right_elbow",
    "right_hand",
    "left_knee",
    "left_foot",
    "right_knee",
    "right_foot",
)
_EDGES = ((0, 1), (0, 4), (1, 2), (2, 3), (4, 5), (5, 6), (1, 7), (7, 8), (4, 9), (9, 10))


@dataclass(frozen=True)
class RenderedClip:
    """A clip that is rendered frame by frame when asked, in any order; see `render_clip`.

    Attributes:
        width: of the frames, in pixels.
        height: of the frames.
        frame_count: how many frames there are.
        fps: 25.
        objects: the flower (1), the puppet (2, with a skeleton), and the small flowers (3 and on) if there are any.
    """

    width: int
    height: int
    frame_count: int
    fps: Fraction
    objects: tuple[LabelObject, ...]
    _scene: _Scene
    _loop: int

    @property
    def skeleton(self) -> Skeleton:
        """The puppet's keypoints."""
        return Skeleton(_POINTS, _EDGES)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """All frames in order, (height, width, 3) uint8 RGB, each made when it is asked for.

        Those of a loop are made once and held, in memory, as long as the iterator lives.
        """
        held: dict[int, NDArray[np.uint8]] = {}
        for i in range(self.frame_count):
            if self._loop >= self.frame_count:
                yield self.frame(i)
                continue
            place = self._place(i)
            if place not in held:
                held[place] = self._scene.paint(place)
            yield held[place]

    def frame(self, i: int) -> NDArray[np.uint8]:
        """Frame i, (height, width, 3) uint8 RGB."""
        return self._scene.paint(self._place(i))

    def mask(self, i: int) -> NDArray[np.uint8]:
        """The true index map of frame i, (height, width) uint8: 0, and where an object is seen its id."""
        return self._scene.index_map(self._place(i))

    def keypoints(self, i: int) -> list[Keypoint]:
        """The puppet's true keypoints on frame i, not visible where the flower hides them or off the frame."""
        return self._scene.keypoints(self._place(i))

    def anchor(self, i: int) -> Anchor:
        """Frame i as a person would label it: all masks, and the keypoints that lie on the frame."""
        index_map = self.mask(i)
        points = tuple(p for p in self.keypoints(i) if 0 <= p.x <= self.width and 0 <= p.y <= self.height)
        named = {PUPPET: points}
        return Anchor(i, tuple(Label(o.id, index_map == o.id, keypoints=named.get(o.id, ())) for o in self.objects))

    def _place(self, i: int) -> int:
        """The scene's frame that frame i shows."""
        if not 0 <= i < self.frame_count:
            raise IndexError(f"frame {i} of a clip of {self.frame_count} frames")
        there = i % (2 * self._loop - 2) if self._loop > 1 else 0
        return there if there < self._loop else 2 * self._loop - 2 - there


def render_clip(
    *,
    width: int = 854,
    height: int = 480,
    frame_count: int = 48,
    seed: int = 0,
    objects: int = 2,
    loop: int | None = None,
    curtained: float = 0,
) -> RenderedClip:
    """A clip of the scene described above. The same arguments give the same pixels.

    Args:
        width: in pixels, at least 32.
        height: in pixels, at least 32.
        frame_count: how many frames. The flower takes the whole clip (40 frames at least) to cross the picture; the
            puppet and the landscape move at a speed of their own.
        seed: varies textures, colours, phases and the direction of the flower.
        objects: how many there are, 2 to 254. In small frames many small flowers are small indeed.
        loop: how many frames the scene lasts; a longer clip plays them forth and back, so that it is long at the cost
            of a short one. None: as long as the clip.
        curtained: the width of a curtain, as a share of the frame's, that sweeps over the picture against the flower;
            it begins and ends beside the frame. 0 leaves it out.
    """
    if width < 32 or height < 32 or frame_count < 1 or not 0 <= curtained <= 1:
        raise ValueError("a rendered clip is at least 32 x 32 pixels and one frame, and a curtain no wider than it")
    if not 2 <= objects <= MAX_OBJECT_ID or (loop is not None and loop < 1):
        raise ValueError(f"a rendered clip has 2 to {MAX_OBJECT_ID} objects, and its loop at least one frame")
    length = frame_count if loop is None else min(loop, frame_count)
    declared = (
        LabelObject(FLOWER, "flower", colour_of(FLOWER)),
        LabelObject(PUPPET, "puppet", colour_of(PUPPET), Skeleton(_POINTS, _EDGES)),
        *(LabelObject(i, f"flower-{i}", colour_of(i)) for i in range(PUPPET + 1, objects + 1)),
    )
    scene = _Scene(width, height, length, seed, objects - 2, curtained)
    return RenderedClip(width, height, frame_count, Fraction(25), declared, scene, length)


def write_clip(clip: RenderedClip, path: str | Path) -> None:
    """Encodes a clip as an H.264 MP4. An odd width or height is padded to an even one by the encoder."""
    from model.video import encode_video

    encode_video(Path(path), clip.frames(), fps=clip.fps)


class _Scene:
    """Where everything is at each frame, and how it is painted."""

    def __init__(self, width: int, height: int, frame_count: int, seed: int, small: int, curtained: float) -> None:
        rng = np.random.default_rng(seed)
        self.width, self.height = width, height
        self.unit = min(height / 480, width / 640)  # shapes are laid out for a frame 480 pixels high
        self.span = max(frame_count, 40) - 1
        self.margin = max(4, round(0.07 * width)), max(4, round(0.05 * height))
        self.background = landscape(rng, width + self.margin[0], height + self.margin[1])
        self.flower = Flower.new(rng, self.unit)
        self.puppet = puppet_shapes(rng, self.unit)
        self.phase = float(rng.uniform(0, 2 * math.pi)) if seed else 0.4
        self.flip = bool(seed % 2)
        self.small = [_Small.new(seed, number, small, width, height) for number in range(small)]
        self.curtain = curtain(rng, round(curtained * width), height) if curtained else None

    def paint(self, i: int) -> NDArray[np.uint8]:
        x, y = self._drift(i)
        shifted = self.background.transform(
            (self.width, self.height), Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BILINEAR
        )
        picture = np.array(shifted)
        hip = self._dance(i)[0]["torso"]
        ground_shadow(picture, hip.x, self.height * 0.905, 105 * hip.scale)
        for _, shape, pose in self._placed(i):
            shade(picture, shape, pose)
        if self.curtain is not None:
            left, right = self._hidden(i)
            start = self._curtain_edge(i)
            picture[:, left:right] = self.curtain[:, left - start : right - start]
        return picture

    def index_map(self, i: int) -> NDArray[np.uint8]:
        index_map = np.zeros((self.height, self.width), np.uint8)
        for identity, shape, pose in self._placed(i):
            window, distance = placed(shape, pose, index_map.shape)
            index_map[window][distance < 0] = identity
        left, right = self._hidden(i)
        index_map[:, left:right] = 0
        return index_map

    def keypoints(self, i: int) -> list[Keypoint]:
        _, joints = self._dance(i)
        flower = self._flower_pose(i)
        left, right = self._hidden(i)
        return [
            Keypoint(
                name,
                x,
                y,
                self._on_frame(x, y) and not left <= x < right and not covers(self.flower, flower, x, y),
            )
            for name, (x, y) in ((name, joints[name]) for name in _POINTS)
        ]

    def _on_frame(self, x: float, y: float) -> bool:
        return 0 <= x < self.width and 0 <= y < self.height

    def _hidden(self, i: int) -> tuple[int, int]:
        """The columns that the curtain covers, from the first to before the last."""
        if self.curtain is None:
            return 0, 0
        start = self._curtain_edge(i)
        return max(0, min(self.width, start)), max(0, min(self.width, start + self.curtain.shape[1]))

    def _curtain_edge(self, i: int) -> int:
        """Where the curtain begins: it comes from the side that the flower goes to."""
        assert self.curtain is not None
        own = self.curtain.shape[1]
        along = i / self.span if self.flip else 1 - i / self.span
        return round((self.width + own) * along) - own

    def _drift(self, i: int) -> tuple[float, float]:
        """The landscape's offset in pixels: it swings within its margin, however long the clip is."""
        t = i / 25
        return (
            self.margin[0] / 2 * (1 + math.sin(0.55 * t + self.phase)),
            self.margin[1] / 2 * (1 + math.sin(0.4 * t + 2 * self.phase)),
        )

    def _placed(self, i: int) -> list[tuple[int, Shape, Pose]]:
        """Every shape with the object it belongs to and its place, from back to front."""
        limbs, _ = self._dance(i)
        return [
            *((PUPPET + 1 + number, each.flower, each.pose(i)) for number, each in enumerate(self.small)),
            *((PUPPET, self.puppet[name], pose) for name, pose in limbs.items()),
            (FLOWER, self.flower, self._flower_pose(i)),
        ]

    def _flower_pose(self, i: int) -> Pose:
        p = i / self.span
        along = 1 - p if self.flip else p
        x = self.width * (0.15 + 0.73 * along)
        y = self.height * (0.36 + 0.22 * math.sin(math.pi * p))
        return Pose(x, y, 0.3 + 3.4 * p, self.unit * (0.86 + 0.34 * p))

    def _dance(self, i: int) -> tuple[dict[str, Pose], dict[str, tuple[float, float]]]:
        """The puppet's limbs, from back to front, and its joints in pixels.

        A limb's pose lies at its upper joint and points along it; angles are clockwise from the right.
        """
        t = i / 25
        beat = 2 * math.pi * 0.55 * t + self.phase
        scale = self.unit * (0.98 + 0.1 * math.sin(0.5 * beat + 0.6))
        lean = 0.13 * math.sin(beat)
        hip = (
            self.width * (0.53 - 0.06 * (1 if self.flip else 0)) + self.unit * 26 * math.sin(0.5 * beat),
            self.height * 0.595 - self.unit * 9 * math.cos(2 * beat),
        )
        up = lean - math.pi / 2
        neck = _step(hip, up, 104 * scale)
        joints = {"head": _step(neck, up + 0.12 * math.sin(beat + 1), 44 * scale)}
        limbs: dict[str, Pose] = {}
        for side, out in (("right", 1.0), ("left", -1.0)):
            shoulder = _step(_step(hip, up, 92 * scale), lean, out * 37 * scale)
            # Both angles from hanging down: how far the arm is raised, and how far the elbow bends it further.
            raised = 1.18 + 0.44 * math.sin(beat + 0.9) if out > 0 else 0.66 + 0.44 * math.sin(beat + 2.2)
            bend = 0.55 + 0.5 * math.sin(beat + (2.0 if out > 0 else 0.3))
            upper = lean + math.pi / 2 - out * raised
            lower = upper - out * bend
            elbow = _step(shoulder, upper, 60 * scale)
            hand = _step(elbow, lower, 62 * scale)
            thigh_root = _step(hip, lean, out * 19 * scale)
            spread = 0.2 + 0.13 * math.sin(beat + (0 if out > 0 else 1.7))
            kick = 0.22 + 0.22 * math.sin(beat + (1.2 if out > 0 else 2.9))
            thigh = lean * 0.4 + math.pi / 2 - out * spread
            shin = thigh + out * kick
            knee = _step(thigh_root, thigh, 64 * scale)
            foot = _step(knee, shin, 62 * scale)
            joints |= {
                f"{side}_shoulder": shoulder,
                f"{side}_elbow": elbow,
                f"{side}_hand": hand,
                f"{side}_knee": knee,
                f"{side}_foot": foot,
            }
            limbs |= {
                f"{side}_shin": Pose(*knee, shin, scale),
                f"{side}_shoe": Pose(*foot, shin - out * 1.2, scale),
                f"{side}_thigh": Pose(*thigh_root, thigh, scale),
                f"{side}_upper_arm": Pose(*shoulder, upper, scale),
                f"{side}_forearm": Pose(*elbow, lower, scale),
                f"{side}_palm": Pose(*hand, lower, scale),
            }
        limbs |= {"torso": Pose(*hip, up, scale), "head": Pose(*joints["head"], up + 0.12 * math.sin(beat + 1), scale)}
        return {name: limbs[name] for name in self.puppet}, joints


@dataclass(frozen=True)
class _Small:
    """A small flower that circles within a place of its own."""

    flower: Flower
    x: float
    y: float
    reach: float
    scale: float
    phase: float

    @classmethod
    def new(cls, seed: int, number: int, of: int, width: int, height: int) -> _Small:
        """The `number`th of so many, whose places share the frame."""
        rng = np.random.default_rng((seed, number))  # of its own: however many there are, the scene stays the same
        phase = float(rng.uniform(0, 2 * math.pi))  # first: textures of another size draw another count of numbers
        # A few places more than there are flowers, so that those behind the puppet stay empty.
        columns = math.ceil(math.sqrt(1.25 * of * width / height))
        rows = math.ceil(1.25 * of / columns)
        places = [
            (width * (column + 0.5) / columns, height * (row + 0.5) / rows)
            for row in range(rows)
            for column in range(columns)
        ]
        places.sort(key=lambda place: math.dist(place, (0.53 * width, 0.55 * height)), reverse=True)
        room = min(width / columns, height / rows)
        scale = 0.22 * room / 64  # a flower's radius is 64 units
        return cls(
            Flower.new(rng, scale, hue=0.13 + 0.618 * number, petals=4 + number % 5),
            *places[number],
            0.2 * room,
            scale,
            phase,
        )

    def pose(self, i: int) -> Pose:
        t = 1.3 * i / 25 + self.phase
        x, y = self.x + self.reach * math.cos(t), self.y + self.reach * math.sin(1.7 * t)
        return Pose(x, y, 0.6 * t, self.scale)


def _step(start: tuple[float, float], angle: float, length: float) -> tuple[float, float]:
    return start[0] + length * math.cos(angle), start[1] + length * math.sin(angle)
