from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.channels import ChannelSet
from model.encoder import CHANNELS
from model.features import FeatureExtractor
from model.geometry import Grid
from model.labels import Anchor, FrameResult, Keypoint, Label, LabelObject
from model.presets import Preset, find_preset
from model.propagator import Propagator, SoftMaps
from model.rendered import PUPPET, RenderedClip, render_clip
from model.video import Frame

pytestmark = pytest.mark.usefixtures("one_thread")
FramesOf = Callable[[RenderedClip], list[Frame]]
ObjectsOf = Callable[..., tuple[LabelObject, ...]]
PLAIN = find_preset("plain")
FOLLOWING = replace(find_preset("balanced"), enlarge=False, radius=3, recent_frames=4, latest_frames=2, spacing=3)


def _propagate(
    extractor: FeatureExtractor,
    frames: list[Frame],
    objects: tuple[LabelObject, ...],
    anchors: list[Anchor],
    preset: Preset = PLAIN,
) -> list[FrameResult]:
    height, width = frames[0].image.shape[:2]
    propagator = Propagator.for_video(extractor, preset, objects, anchors, width=width, height=height)
    return list(propagator.run(frames))


def _soft(
    extractor: FeatureExtractor,
    frames: list[Frame],
    objects: tuple[LabelObject, ...],
    anchors: list[Anchor],
    preset: Preset = PLAIN,
) -> tuple[ChannelSet, list[SoftMaps]]:
    height, width = frames[0].image.shape[:2]
    channels = ChannelSet(objects, anchors, Grid.fit(width, height, preset.working_size))
    propagator = Propagator(extractor, channels, preset)
    return channels, [propagator.step(frame) for frame in frames]


def _twins() -> list[Frame]:
    """Twelve frames in which two things that look the same, 72 pixels apart, move 3 pixels a frame to the right."""
    generator = torch.Generator().manual_seed(0)

    def texture(height: int, width: int, coarse: int) -> np.ndarray:
        noise = torch.rand(1, 3, height // coarse, width // coarse, generator=generator)
        smooth = F.interpolate(noise, (height, width), mode="bicubic")[0].permute(1, 2, 0)
        return (smooth.clamp(0, 1) * 255).byte().numpy()

    ground, thing = texture(160, 240, 16), texture(48, 48, 8)
    frames = []
    for number in range(12):
        image = ground.copy()
        for left in (40 + 3 * number, 112 + 3 * number):
            image[56:104, left : left + 48] = thing
        frames.append(Frame(number, 40 * number, image))
    return frames


def _mask(height: int, width: int, y: slice, x: slice) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[y, x] = True
    return mask


def _iou(a: np.ndarray | None, b: np.ndarray) -> float:
    assert a is not None
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def _reference(features: list[np.ndarray], first: np.ndarray, width: int, height: int) -> Iterator[np.ndarray]:
    """`plain` once more, slowly, from the contract's words alone: index maps of all frames after the first.

    Args:
        features: per frame (rows, columns, C).
        first: (height, width) index map of frame 0.
    """
    rows, columns, channels = features[0].shape
    ids = list(range(1, int(first.max()) + 1))
    padded = np.pad(first, ((0, 8 * rows - height), (0, 8 * columns - width)), "edge")
    shares = np.stack([padded == identity for identity in ids]).astype(np.float64)
    labels = [np.round(shares.reshape(len(ids), rows, 8, columns, 8).mean(axis=(2, 4)) * 255) / 255]
    y, x = np.divmod(np.arange(rows * columns), columns)
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 <= 12**2
    for now in range(1, len(features)):
        memory = sorted({0, *range(max(0, now - 7), now)})
        query = features[now].reshape(-1, channels).astype(np.float64)
        scores = np.concatenate(
            [np.where(near, query @ features[m].reshape(-1, channels).T.astype(np.float64), -np.inf) for m in memory],
            axis=1,
        )
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        weights = np.exp(np.take_along_axis(scores, best, axis=1) / 0.07)
        weights /= weights.sum(axis=1, keepdims=True)
        known = np.concatenate([labels[m].reshape(len(ids), -1) for m in memory], axis=1)
        carried = (known[:, best] * weights).sum(axis=2).reshape(len(ids), rows, columns)
        labels.append(np.round(carried * 255) / 255)
        yield _upsampled_winner(labels[now], width, height)


def _upsampled_winner(labels: np.ndarray, width: int, height: int) -> np.ndarray:
    count, rows, columns = labels.shape
    y = np.clip((np.arange(height) + 0.5) / 8 - 0.5, 0, rows - 1)
    x = np.clip((np.arange(width) + 0.5) / 8 - 0.5, 0, columns - 1)
    top, left = np.minimum(y.astype(int), rows - 2), np.minimum(x.astype(int), columns - 2)
    down, right = (y - top)[:, None], x - left
    pixels = np.zeros((count, height, width))
    for (dy, wy), (dx, wx) in itertools.product(((0, 1 - down), (1, down)), ((0, 1 - right), (1, right))):
        pixels += wy * wx * labels[:, (top + dy)[:, None], left + dx]
    return np.concatenate([1 - pixels.sum(axis=0, keepdims=True), pixels]).argmax(axis=0)


class TestPlain:
    @pytest.mark.parametrize(("width", "height", "seed"), [(208, 72, 0), (125, 67, 3)])
    def test_equals_a_dense_reference_pixel_for_pixel(
        self, extractor: FeatureExtractor, frames_of: FramesOf, width: int, height: int, seed: int
    ) -> None:
        clip = render_clip(width=width, height=height, frame_count=13, seed=seed)
        frames = frames_of(clip)
        first = clip.anchor(0)
        grid = Grid.fit(width, height, 480)
        features = [extractor(frame.image, grid)[..., :CHANNELS].numpy() for frame in frames]
        found = _propagate(extractor, frames, clip.objects, [first])
        for result, expected in zip(found[1:], _reference(features, clip.mask(0), width, height), strict=True):
            for entry in result.objects:
                # A share between two steps of 1/255 may round either way in float32, and a pixel's winner with it.
                assert (entry.mask != (expected == entry.object)).sum() <= 2, (result.frame, entry.object)

    def test_follows_the_clip(self, extractor: FeatureExtractor, frames_of: FramesOf) -> None:
        clip = render_clip(width=320, height=240, frame_count=6)
        found = _propagate(extractor, frames_of(clip), clip.objects, [clip.anchor(0)])
        assert [(result.frame, result.time_ms) for result in found] == [(i, 40 * i) for i in range(6)]
        for entry in found[-1].objects:
            assert _iou(entry.mask, clip.mask(5) == entry.object) > 0.6
            assert 0.3 < entry.confidence <= 1
        truth = {point.name: point for point in clip.keypoints(5) if point.visible}
        seen = {point.name: point for point in found[-1].objects[1].keypoints if point.visible}
        off = [
            np.hypot(seen[name].x - point.x, seen[name].y - point.y) for name, point in truth.items() if name in seen
        ]
        assert len(off) >= 8
        assert np.median(off) < 6

    def test_bfloat16_stays_close(self, extractor: FeatureExtractor, frames_of: FramesOf) -> None:
        clip = render_clip(width=128, height=96, frame_count=8)
        half = FeatureExtractor(extractor.checkpoint, device="cpu", dtype=torch.bfloat16)
        exact = _propagate(extractor, frames_of(clip), clip.objects, [clip.anchor(0)])
        close = _propagate(half, frames_of(clip), clip.objects, [clip.anchor(0)])
        for a, b in zip(exact, close, strict=True):
            for mine, other in zip(a.objects, b.objects, strict=True):
                assert other.mask is not None
                assert _iou(mine.mask, other.mask) > 0.9

    def test_every_setting_of_the_preset_counts(self, extractor: FeatureExtractor, frames_of: FramesOf) -> None:
        clip = render_clip(width=96, height=72, frame_count=12)
        frames, anchors = frames_of(clip), [clip.anchor(0), clip.anchor(2)]

        def last(**changed: float) -> torch.Tensor:
            preset = Preset("other", **changed)  # type: ignore[arg-type]
            return _soft(extractor, frames, clip.objects, anchors, preset)[1][-1].values

        plain = last()
        for changed in ({"recent_frames": 2}, {"radius": 1}, {"top_k": 3}, {"temperature": 0.5}, {"anchor_frames": 1}):
            assert not torch.equal(last(**changed), plain), changed


class TestStreaming:
    def test_each_result_comes_before_the_next_frame_is_asked_for(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        asked: list[int] = []

        def camera() -> Iterator[Frame]:
            for frame in frames_of(clip):
                asked.append(frame.index)
                yield frame

        propagator = Propagator.for_video(extractor, PLAIN, clip.objects, [clip.anchor(0)], width=64, height=48)
        for result in propagator.run(camera()):
            assert asked[-1] == result.frame

    def test_frames_are_encoded_together_where_the_extractor_takes_several(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        together: list[int] = []

        class Noting(FeatureExtractor):
            def encode(self, images: Sequence[np.ndarray], grid: Grid) -> list[torch.Tensor]:
                together.append(len(images))
                return super().encode(images, grid)

        noting = Noting(extractor.checkpoint, device="cpu", dtype=torch.float32, batch=4)
        frames = frames_of(clip)[:10]
        found = _propagate(noting, frames, clip.objects, [clip.anchor(0)])
        assert together == [4, 4, 2]
        for ours, alone in zip(found, _propagate(extractor, frames, clip.objects, [clip.anchor(0)]), strict=True):
            assert ours.frame == alone.frame
            assert ours.time_ms == alone.time_ms
            for mine, theirs in zip(ours.objects, alone.objects, strict=True):
                assert np.array_equal(mine.mask, theirs.mask)

    def test_the_features_of_each_frame_are_computed_once(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        class Counting(FeatureExtractor):
            calls = 0

            def encode(self, images: Sequence[np.ndarray], grid: Grid) -> list[torch.Tensor]:
                self.calls += len(images)
                return super().encode(images, grid)

        counting = Counting(extractor.checkpoint, device="cpu", dtype=torch.float32)
        _propagate(counting, frames_of(clip), clip.objects, [clip.anchor(0), clip.anchor(5)])
        assert counting.calls == clip.frame_count

    def test_memory_is_bounded_whatever_the_number_of_anchors(
        self, extractor: FeatureExtractor, objects_of: ObjectsOf
    ) -> None:
        clip = render_clip(width=32, height=32, frame_count=30)
        anchors = [clip.anchor(i) for i in range(0, 30, 2)]
        propagator = Propagator.for_video(extractor, PLAIN, clip.objects, anchors, width=32, height=32)
        for i in range(30):
            propagator.step(Frame(i, 0, clip.frame(i)))
            held = propagator.state()["frames"].tolist()
            assert held == sorted(held)
            recent = [*range(max(0, i - 6), i + 1)]
            labelled = [frame for frame in range(0, i + 1, 2) if frame not in recent]
            assert held[-len(recent) :] == recent
            assert set(held[: -len(recent)]) <= set(labelled)
            assert 0 in held
            if i > 20:  # the first anchor and the nearest of the others, eight in all
                assert sum(frame % 2 == 0 for frame in held) >= 8
        assert held == [0, 16, 18, 20, 22, 23, 24, 25, 26, 27, 28, 29]


class TestAnchors:
    @pytest.fixture
    def clip(self) -> RenderedClip:
        """Large enough that objects are several cells wide, and are followed whatever the weights."""
        return render_clip(width=160, height=120, frame_count=12)

    def test_come_back_exactly_wherever_they_are(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        anchors = [clip.anchor(i) for i in (0, 4, 11)]
        found = _propagate(extractor, frames_of(clip), clip.objects, anchors)
        for anchor in anchors:
            for label, entry in zip(anchor.labels, found[anchor.frame].objects, strict=True):
                assert np.array_equal(entry.mask, label.mask)
                assert entry.source == "anchor"
                assert [(p.x, p.y, p.visible) for p in entry.keypoints] == [
                    (p.x, p.y, p.visible) for p in label.keypoints
                ]
        assert {entry.source for i in (1, 3, 5, 10) for entry in found[i].objects} == {"propagated"}

    def test_a_correction_replaces_what_was_propagated_before_it(
        self, extractor: FeatureExtractor, objects_of: ObjectsOf, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        frames = frames_of(clip)[:10]
        height, width = frames[0].image.shape[:2]
        left = _mask(height, width, slice(16, 48), slice(8, 32))
        right = _mask(height, width, slice(16, 48), slice(56, 80))
        anchors = [Anchor(0, (Label(1, left),)), Anchor(5, (Label(1, right),))]
        found = _propagate(extractor, frames, objects_of(1), anchors)
        assert _iou(found[4].objects[0].mask, left) > 0.5
        # From the second anchor on both anchors count, and nothing that was propagated before it: frames 0, 5, 6 ...
        alone = _propagate(extractor, [frames[0], *frames[5:]], objects_of(1), anchors)
        for whole, without in zip(found[5:], alone[1:], strict=True):
            assert _iou(whole.objects[0].mask, without.objects[0].mask) > 0.98
            assert whole.objects[0].confidence == pytest.approx(without.objects[0].confidence, abs=0.01)
        forgotten = _propagate(extractor, frames, objects_of(1), anchors[:1])
        assert _iou(forgotten[5].objects[0].mask, found[5].objects[0].mask) < 0.2

    def test_an_object_that_an_anchor_does_not_mention_goes_on(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        flower, puppet = clip.anchor(6).labels
        one = _propagate(extractor, frames_of(clip), clip.objects, [clip.anchor(0)])
        two = _propagate(extractor, frames_of(clip), clip.objects, [clip.anchor(0), Anchor(6, (flower,))])
        for i in range(12):
            assert two[i].objects[1].source == one[i].objects[1].source
            if i > 6:
                assert two[i].objects[1].visible
        assert puppet.object == 2

    def test_absent_ends_a_track(self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf) -> None:
        gone = Anchor(5, (Label(2, None, absent=True),))
        found = _propagate(extractor, frames_of(clip), clip.objects, [clip.anchor(0), gone])
        assert all(found[i].objects[1].visible for i in range(5))
        for i in range(5, 12):
            entry = found[i].objects[1]
            assert (entry.visible, entry.box, entry.keypoints) == (False, None, ())
            assert entry.mask is not None
            assert not entry.mask.any()
            assert found[i].objects[0].visible

    def test_an_object_may_come_back_after_it_was_gone(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        anchors = [clip.anchor(0), Anchor(3, (Label(1, None, absent=True),)), clip.anchor(7)]
        found = _propagate(extractor, frames_of(clip), clip.objects, anchors)
        assert [result.objects[0].visible for result in found] == [True] * 3 + [False] * 4 + [True] * 5
        # Neither the absence nor what was before it weighs on what comes after.
        fresh = _propagate(extractor, frames_of(clip)[7:], clip.objects[:1], [Anchor(7, clip.anchor(7).labels[:1])])
        later = _propagate(
            extractor,
            frames_of(clip)[2:],
            clip.objects[:1],
            [Anchor(3, (Label(1, None, absent=True),)), Anchor(7, clip.anchor(7).labels[:1])],
        )
        for a, b in zip(fresh[1:], later[6:], strict=True):
            assert a.frame == b.frame
            assert a.objects == b.objects

    def test_frames_before_the_first_anchor_know_nothing(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        found = _propagate(extractor, frames_of(clip), clip.objects, [clip.anchor(4)])
        for result in found[:4]:
            for entry in result.objects:
                assert (entry.visible, entry.confidence, entry.keypoints) == (False, 0.0, ())
        # And they do not weigh on what comes after.
        fresh = _propagate(extractor, frames_of(clip)[4:], clip.objects, [clip.anchor(4)])
        assert [result.objects for result in found[4:]] == [result.objects for result in fresh]

    def test_backwards_is_the_same_thing(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        frames = frames_of(clip)
        mirrored = [Frame(11 - frame.index, 0, frame.image) for frame in frames]
        backward = _propagate(extractor, frames[::-1], clip.objects, [clip.anchor(11)])
        forward = _propagate(extractor, mirrored[::-1], clip.objects, [Anchor(0, clip.anchor(11).labels)])
        assert [result.frame for result in backward] == list(range(11, -1, -1))
        assert [result.objects for result in backward] == [result.objects for result in forward]


class TestObjects:
    """Each as if it were alone, as far as masks do not compete."""

    LEFT = _mask(48, 96, slice(12, 36), slice(4, 28))
    RIGHT = _mask(48, 96, slice(10, 40), slice(64, 90))

    @pytest.fixture
    def frames(self) -> list[Frame]:
        clip = render_clip(width=96, height=48, seed=2)
        return [Frame(i, 40 * i, clip.frame(i)) for i in range(16)]

    def _alone(
        self, extractor: FeatureExtractor, frames: list[Frame], objects_of: ObjectsOf, anchors: list[Anchor]
    ) -> None:
        """Compares every object's soft maps with those of a run that has only its labels."""
        ids = sorted({label.object for anchor in anchors for label in anchor.labels})
        channels, together = _soft(extractor, frames, objects_of(*ids), anchors)
        for identity in ids:
            own = [
                Anchor(anchor.frame, tuple(label for label in anchor.labels if label.object == identity))
                for anchor in anchors
            ]
            _, alone = _soft(extractor, frames, objects_of(identity), [anchor for anchor in own if anchor.labels])
            mine = [n for n, channel in enumerate(channels.channels) if channel.object == identity]
            for a, b in zip(together, alone, strict=True):
                assert np.array_equal(a.known[mine], b.known)
                # The same sums in another order may round to the neighbouring 1/255, which goes on from there.
                assert torch.allclose(a.values[mine], b.values, atol=3 / 255), (identity, a.frame)
                assert float((a.values[mine] != b.values).float().mean()) < 0.02

    def test_one_that_comes_late_is_not_drowned(
        self, extractor: FeatureExtractor, frames: list[Frame], objects_of: ObjectsOf
    ) -> None:
        anchors = [Anchor(0, (Label(1, self.LEFT),)), Anchor(3, (Label(2, self.RIGHT),))]
        self._alone(extractor, frames, objects_of, anchors)
        found = _propagate(extractor, frames, objects_of(1, 2), anchors)
        assert [result.objects[1].visible for result in found] == [False] * 3 + [True] * 13

    def test_anchors_of_others_leave_an_object_alone(
        self, extractor: FeatureExtractor, frames: list[Frame], objects_of: ObjectsOf
    ) -> None:
        # Frame 4 stays in memory as object 2's anchor, long after object 1 would have forgotten it.
        point = (Keypoint("tip", 20.0, 30.0),)
        anchors = [
            Anchor(0, (Label(1, self.LEFT, keypoints=point),)),
            Anchor(4, (Label(2, self.RIGHT),)),
            Anchor(6, (Label(2, self.RIGHT), Label(3, None, keypoints=point))),
            Anchor(9, (Label(2, None, absent=True),)),
        ]
        self._alone(extractor, frames, objects_of, anchors)

    def test_overlapping_masks_share_and_both_come_back(
        self, extractor: FeatureExtractor, frames_of: FramesOf, objects_of: ObjectsOf
    ) -> None:
        clip = render_clip(width=192, height=96, frame_count=1)
        wide = _mask(96, 192, slice(16, 80), slice(16, 112))
        inner = _mask(96, 192, slice(32, 80), slice(48, 160))
        still = [Frame(i, 0, frames_of(clip)[0].image) for i in range(4)]
        found = _propagate(extractor, still, objects_of(1, 2), [Anchor(0, (Label(1, wide), Label(2, inner)))])
        for result in found[1:]:
            first, second = (entry.mask for entry in result.objects)
            assert not (first & second).any()
            # Where both were, the higher id is, as in an indexed PNG.
            assert _iou(second, inner) > 0.45
            assert _iou(first, wide & ~inner) > 0.45

    def test_keypoints_alone(self, extractor: FeatureExtractor, frames: list[Frame], objects_of: ObjectsOf) -> None:
        points = (Keypoint("a", 20.0, 20.0), Keypoint("b", 60.0, 28.0))
        found = _propagate(extractor, frames, objects_of(5), [Anchor(0, (Label(5, None, keypoints=points),))])
        for result in found:
            (entry,) = result.objects
            assert (entry.mask, entry.box) == (None, None)
            assert [point.name for point in entry.keypoints] == ["a", "b"]
            for given, point in zip(points, entry.keypoints, strict=True):
                assert abs(point.x - given.x) < 24
                assert abs(point.y - given.y) < 24

    def test_a_keypoint_stays_on_the_one_of_two_twins_that_it_was_on(
        self, extractor: FeatureExtractor, objects_of: ObjectsOf
    ) -> None:
        frames = _twins()
        anchor = Anchor(0, (Label(5, None, keypoints=(Keypoint("middle", 64.0, 80.0),)),))
        off = {}
        for step in (None, 2.5):
            preset = replace(FOLLOWING, radius=12, keypoint_step=step)
            found = _propagate(extractor, frames, objects_of(5), [anchor], preset)
            points = [result.objects[0].keypoints[0] for result in found]
            off[step] = max(float(np.hypot(p.x - 64 - 3 * n, p.y - 80)) for n, p in enumerate(points))
        assert off[2.5] < 5
        assert off[None] > 12  # drawn towards the other one: this is what the step is for

    def test_a_keypoint_stays_on_its_object(
        self, extractor: FeatureExtractor, objects_of: ObjectsOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        frames = _twins()
        label = Label(5, _mask(160, 240, slice(56, 104), slice(40, 88)), keypoints=(Keypoint("corner", 42.0, 58.0),))

        def beside() -> float:
            """How much of the keypoint's map lies where its object is not, on the last frame."""
            preset = replace(FOLLOWING, keypoint_step=2.5)
            carried = Propagator.for_video(
                extractor, preset, objects_of(5), [Anchor(0, (label,))], width=240, height=160
            )
            region, point = [carried.step(frame) for frame in frames][-1].values
            return float((point * (1 - region)).sum() / point.sum())

        held = beside()
        monkeypatch.setattr(ChannelSet, "homes", lambda channels: [(0, 0.0)])
        assert held < 0.7 * beside()

    def test_an_object_with_hidden_keypoints_alone(
        self, extractor: FeatureExtractor, frames: list[Frame], objects_of: ObjectsOf
    ) -> None:
        hidden = (Keypoint("a", 20.0, 20.0, visible=False),)
        found = _propagate(extractor, frames[:3], objects_of(5), [Anchor(0, (Label(5, None, keypoints=hidden),))])
        assert [(p.x, p.visible) for p in found[0].objects[0].keypoints] == [(20.0, False)]
        assert found[1].objects[0].keypoints == ()
        assert not found[1].objects[0].visible

    def test_254_in_one_pass(self, extractor: FeatureExtractor, objects_of: ObjectsOf) -> None:
        clip = render_clip(width=160, height=104, frame_count=5)  # 260 cells
        cells = list(itertools.product(range(0, 104, 8), range(0, 160, 8)))[:254]
        labels = tuple(
            Label(i, _mask(104, 160, slice(y, y + 8), slice(x, x + 8))) for i, (y, x) in enumerate(cells, start=1)
        )
        frames = [Frame(i, 0, clip.frame(i)) for i in range(5)]
        found = _propagate(extractor, frames, objects_of(*range(1, 255)), [Anchor(0, labels)])
        for entry, label in zip(found[0].objects, labels, strict=True):
            assert np.array_equal(entry.mask, label.mask)
        for result in found[1:]:
            assert [entry.object for entry in result.objects] == list(range(1, 255))
            together = np.sum([entry.mask for entry in result.objects], axis=0)
            assert together.max() == 1
            assert together.mean() > 0.85
        still = _propagate(
            extractor, [Frame(i, 0, clip.frame(0)) for i in range(2)], objects_of(*range(1, 255)), [Anchor(0, labels)]
        )
        assert (
            np.mean([_iou(entry.mask, label.mask) for entry, label in zip(still[1].objects, labels, strict=True)]) > 0.5
        )


class TestVoid:
    def test_is_not_learned_from(self, extractor: FeatureExtractor, objects_of: ObjectsOf) -> None:
        # A still picture, its left half labelled; the middle is void. What the mask says there must not matter.
        image = render_clip(width=96, height=64, frame_count=1, seed=1).frame(0)
        frames = [Frame(i, 0, image) for i in range(4)]
        left, void = _mask(64, 96, slice(None), slice(0, 40)), _mask(64, 96, slice(None), slice(32, 64))
        more = left | _mask(64, 96, slice(None), slice(40, 64))
        _, with_void = _soft(extractor, frames, objects_of(1), [Anchor(0, (Label(1, left),), void)])
        _, other = _soft(extractor, frames, objects_of(1), [Anchor(0, (Label(1, more),), void)])
        _, without = _soft(extractor, frames, objects_of(1), [Anchor(0, (Label(1, left),))])
        for a, b in zip(with_void, other, strict=True):
            assert torch.equal(a.values, b.values)
        assert not torch.equal(with_void[1].values, without[1].values)
        # Every cell of the next frame is labelled all the same, from outside of the void.
        known = with_void[1].values[0]
        assert float(known[:, :3].mean()) > 0.8
        assert float(known[:, 9:].mean()) < 0.2

    def test_is_not_background(self, extractor: FeatureExtractor, objects_of: ObjectsOf) -> None:
        # All that is not void is the object: what lay under the void can only be labelled as the object then.
        image = render_clip(width=96, height=64, frame_count=1, seed=1).frame(0)
        void = _mask(64, 96, slice(16, 48), slice(32, 64))
        found = _propagate(
            extractor, [Frame(i, 0, image) for i in range(3)], objects_of(1), [Anchor(0, (Label(1, ~void),), void)]
        )
        assert all(result.objects[0].mask is not None for result in found)
        assert all(bool(np.all(result.objects[0].mask)) for result in found[1:])

    def test_everywhere_leaves_nothing_to_learn(self, extractor: FeatureExtractor, objects_of: ObjectsOf) -> None:
        image = render_clip(width=32, height=32, frame_count=1).frame(0)
        frames = [Frame(i, 0, image) for i in range(3)]
        everything = np.ones((32, 32), bool)
        found = _propagate(extractor, frames, objects_of(1), [Anchor(0, (Label(1, everything),), everything)])
        assert np.array_equal(found[0].objects[0].mask, everything)
        assert not found[1].objects[0].visible


class TestSizes:
    @pytest.mark.parametrize(
        ("width", "height"), [(16, 16), (17, 9), (9, 17), (1, 1), (3, 40), (4, 4), (33, 65), (71, 50)]
    )
    def test_tiny_and_odd(self, extractor: FeatureExtractor, objects_of: ObjectsOf, width: int, height: int) -> None:
        clip = render_clip(width=80, height=72, frame_count=4)
        frames = [Frame(i, 0, clip.frame(i)[:height, :width].copy()) for i in range(4)]
        mask = _mask(height, width, slice(None), slice(width // 2, None))
        label = Label(1, mask, keypoints=(Keypoint("corner", float(width), float(height)),))
        found = _propagate(extractor, frames, objects_of(1), [Anchor(0, (label,))])
        assert np.array_equal(found[0].objects[0].mask, mask)
        for result in found:
            (entry,) = result.objects
            assert entry.mask is not None
            assert entry.mask.shape == (height, width)
            for point in entry.keypoints:
                assert 0 <= point.x <= width
                assert 0 <= point.y <= height

    @pytest.mark.parametrize("column", range(4))
    def test_labels_that_only_reach_padding(
        self, extractor: FeatureExtractor, objects_of: ObjectsOf, column: int
    ) -> None:
        # Of four pixels' two cells the second is padding throughout: no pixel is interpolated from it.
        mask = _mask(4, 4, slice(None), slice(column, column + 1))
        frames = [Frame(i, 0, np.full((4, 4, 3), 40 * i, np.uint8)) for i in range(4)]
        assert len(_propagate(extractor, frames, objects_of(1), [Anchor(0, (Label(1, mask),))])) == 4

    def test_one_frame(self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf) -> None:
        (result,) = _propagate(extractor, frames_of(clip)[:1], clip.objects, [clip.anchor(0)])
        assert np.array_equal(result.objects[0].mask, clip.mask(0) == 1)

    def test_no_frame(self, extractor: FeatureExtractor, clip: RenderedClip) -> None:
        propagator = Propagator.for_video(extractor, PLAIN, clip.objects, [clip.anchor(0)], width=64, height=48)
        assert list(propagator.run([])) == []

    @pytest.mark.parametrize("working_size", [64, 72, 100])
    def test_a_working_size_below_the_videos(
        self, extractor: FeatureExtractor, objects_of: ObjectsOf, working_size: int
    ) -> None:
        clip = render_clip(width=201, height=151, frame_count=1)
        frames = [Frame(i, 0, clip.frame(0)) for i in range(3)]
        mask = _mask(151, 201, slice(37, 113), slice(61, 149))
        found = _propagate(
            extractor, frames, objects_of(1), [Anchor(0, (Label(1, mask),))], Preset("small", working_size=working_size)
        )
        # A still square stays where it is: the way down and up does not shift it.
        for result in found[1:]:
            there = result.objects[0].mask
            assert there is not None
            assert there.shape == (151, 201)
            assert _iou(there, mask) > 0.7
            middle = [float(axis.mean()) for axis in np.nonzero(there)]
            assert middle == pytest.approx([74.5, 104.5], abs=4)


class TestFollowing:
    """Windows that move with the objects."""

    def _frames(self, places: list[int | None]) -> tuple[list[Frame], np.ndarray]:
        """A textured square that is at each of the columns, or nowhere, before a textured wall; and its mask."""
        random = np.random.default_rng(5)
        wall = random.integers(0, 90, (12, 60, 3)).repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
        thing = random.integers(120, 255, (8, 8, 3)).repeat(6, axis=0).repeat(6, axis=1).astype(np.uint8)
        frames = []
        for index, left in enumerate(places):
            image = wall.copy()
            if left is not None:
                image[24:72, left : left + 48] = thing
            frames.append(Frame(index, 40 * index, image))
        first = places[0]
        assert first is not None
        return frames, _mask(96, 480, slice(24, 72), slice(first, first + 48))

    def test_the_anchor_is_looked_at_where_the_object_was(self, extractor: FeatureExtractor) -> None:
        # The square travels far more than the window's radius of three cells; a memory of one recent frame drifts.
        frames, mask = self._frames([8 + 14 * index for index in range(24)])
        preset = replace(FOLLOWING, recent_frames=1, latest_frames=1)
        found = _propagate(
            extractor, frames, [LabelObject(1, "square", (255, 0, 0))], [Anchor(0, (Label(1, mask),))], preset
        )
        last = _mask(96, 480, slice(24, 72), slice(8 + 14 * 23, 8 + 14 * 23 + 48))
        assert _iou(found[-1].objects[0].mask, last) > 0.7

    def test_what_was_gone_is_found_again_somewhere_else(self, extractor: FeatureExtractor) -> None:
        frames, mask = self._frames([24, 26, 28, None, None, None, None, None, None, 320, 322, 324])
        objects, anchors = [LabelObject(1, "square", (255, 0, 0))], [Anchor(0, (Label(1, mask),))]
        found = _propagate(extractor, frames, objects, anchors, FOLLOWING)
        assert found[6].objects[0].mask.sum() < 0.2 * mask.sum()
        again = _mask(96, 480, slice(24, 72), slice(324, 372))
        assert _iou(found[-1].objects[0].mask, again) > 0.5
        # The still windows of `plain` never look there.
        lost = _propagate(extractor, frames, objects, anchors, replace(PLAIN, radius=3))
        assert _iou(lost[-1].objects[0].mask, again) < 0.1

    def test_memory_keeps_the_latest_frames_and_older_ones_at_a_distance(
        self, extractor: FeatureExtractor, frames_of: FramesOf
    ) -> None:
        clip = render_clip(width=64, height=48, frame_count=14)
        channels = ChannelSet(clip.objects, [clip.anchor(1)], Grid.fit(64, 48, 480))
        propagator = Propagator(extractor, channels, FOLLOWING)
        for frame in frames_of(clip):
            propagator.step(frame)
        # Two without a gap, two that are three steps apart, and the anchor.
        assert propagator.state()["frames"].tolist() == [1, 6, 9, 12, 13]


class TestDeterminism:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_the_number_of_threads_does_not_matter(
        self, extractor: FeatureExtractor, frames_of: FramesOf, dtype: torch.dtype
    ) -> None:
        clip = render_clip(width=160, height=96, frame_count=5)
        own = FeatureExtractor(extractor.checkpoint, device="cpu", dtype=dtype)
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            _, soft = _soft(own, frames_of(clip), clip.objects, [clip.anchor(0), clip.anchor(2)])
            told = [torch.from_numpy(maps.evidence) for maps in soft if maps.evidence is not None]
            found.append((torch.stack([maps.values for maps in soft]), torch.stack(told)))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])

    @pytest.mark.parametrize("preset", [PLAIN, FOLLOWING], ids=["plain", "following"])
    def test_a_state_goes_on_exactly_from_every_frame(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, preset: Preset
    ) -> None:
        void = _mask(48, 64, slice(0, 16), slice(0, 24))
        anchors = [
            Anchor(1, clip.anchor(1).labels, void),
            Anchor(4, clip.anchor(4).labels[:1]),
            Anchor(6, (Label(2, None, absent=True),)),
            clip.anchor(10),
        ]
        frames = frames_of(clip)
        channels = ChannelSet(clip.objects, anchors, Grid.fit(64, 48, 480))
        whole = Propagator(extractor, channels, preset)
        expected, states = [], []
        for frame in frames:
            expected.append(whole.step(frame))
            states.append(whole.state())
        for at, state in enumerate(states):
            read: list[int] = []

            def again(index: int, read: list[int] = read) -> Frame:
                read.append(index)
                return frames[index]

            resumed = Propagator(extractor, channels, preset)
            resumed.restore(state, again)
            assert read == state["frames"].tolist()
            for name, value in resumed.state().items():
                np.testing.assert_array_equal(state[name], value)
            for frame in frames[at + 1 : at + 4]:
                found = resumed.step(frame)
                assert torch.equal(found.values, expected[frame.index].values)
                assert np.array_equal(found.known, expected[frame.index].known)
                assert np.array_equal(found.evidence, expected[frame.index].evidence)

    def test_features_computed_ahead_are_the_same_features(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        channels = ChannelSet(clip.objects, [clip.anchor(0)], Grid.fit(64, 48, 480))
        ahead, alone = Propagator(extractor, channels, PLAIN), Propagator(extractor, channels, PLAIN)
        for frame in frames_of(clip):
            features = extractor(frame.image, channels.grid)
            assert torch.equal(ahead.step(frame, features).values, alone.step(frame).values)

    def test_soft_maps_are_held_in_eight_bits(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        _, soft = _soft(extractor, frames_of(clip), clip.objects, [clip.anchor(0)])
        for maps in soft:
            assert torch.equal((maps.values * 255).round() / 255, maps.values)
            assert 0 <= float(maps.values.min()) <= float(maps.values.max()) <= 1


class TestConfidence:
    def test_an_object_behind_a_curtain_is_gone_and_comes_back(self, extractor: FeatureExtractor) -> None:
        clip = render_clip(width=160, height=120, frame_count=40, curtained=0.45)
        frames = [Frame(i, 40 * i, clip.frame(i)) for i in range(40)]
        found = _propagate(extractor, frames, clip.objects, [clip.anchor(0)])
        there = [bool((clip.mask(i) == PUPPET).any()) for i in range(40)]
        hidden = there.index(False)
        assert all(result.objects[1].visible for result in found[: hidden - 3])
        gone = [result.objects[1] for result in found if not there[result.frame]]
        assert sum(not entry.visible for entry in gone) >= len(gone) - 1
        assert all(entry.box is None for entry in gone if not entry.visible)
        assert all(result.objects[1].visible for result in found[-3:])
        assert found[-1].objects[1].confidence > max(entry.confidence for entry in gone)

    def test_it_falls_as_labels_go_wrong(self, extractor: FeatureExtractor, frames_of: FramesOf) -> None:
        clip = render_clip(width=160, height=120, frame_count=24)
        frames = frames_of(clip)
        # The other clip's picture is shown from frame 8 on: nothing that is carried there is right.
        other = frames_of(render_clip(width=160, height=120, frame_count=24, seed=5))
        frames[8:] = other[8:]
        found = _propagate(extractor, frames, clip.objects, [clip.anchor(0)])
        before = [entry.confidence for result in found[1:8] for entry in result.objects]
        after = [entry.confidence for result in found[10:] for entry in result.objects]
        assert np.mean(after) < np.mean(before) - 0.2

    def test_an_anchors_own_objects_have_1_and_others_their_own(
        self, extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf
    ) -> None:
        first, second = clip.anchor(0), clip.anchor(6)
        again = Anchor(6, second.labels[:1])
        found = _propagate(extractor, frames_of(clip), clip.objects, [first, again])
        assert [entry.confidence for entry in found[0].objects] == [1, 1]
        assert found[6].objects[0].confidence == 1
        assert 0 < found[6].objects[1].confidence < 1
