from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.metrics import dilate
from model.rendered import FLOWER, PUPPET, RenderedClip, render_clip, write_clip
from model.rendered_parts import Capsule, Pose, landscape, placed, puppet_shapes, shade


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(width=320, height=180)


def test_the_default_clip_is_48_frames_of_480p_at_25_a_second() -> None:
    clip = render_clip()
    assert (clip.width, clip.height, clip.frame_count, clip.fps) == (854, 480, 48, 25)
    assert clip.frame(0).shape == (480, 854, 3)
    assert clip.mask(0).shape == (480, 854)


@pytest.mark.parametrize(("width", "height"), [(128, 96), (97, 131), (33, 32), (400, 64)])
def test_any_size_has_both_objects_on_every_frame(width: int, height: int) -> None:
    clip = render_clip(width=width, height=height, frame_count=12)
    frames = list(clip.frames())
    assert len(frames) == 12
    for i, frame in enumerate(frames):
        assert (frame.shape, frame.dtype) == ((height, width, 3), np.uint8)
        assert frame.flags.c_contiguous
        index_map = clip.mask(i)
        assert (index_map.shape, index_map.dtype) == ((height, width), np.uint8)
        assert set(np.unique(index_map)) == {0, FLOWER, PUPPET}


def test_the_same_arguments_give_the_same_pixels_in_any_order(clip: RenderedClip) -> None:
    again = render_clip(width=320, height=180)
    backwards = [again.frame(i) for i in (30, 7, 0)][::-1]
    forwards = [frame for i, frame in enumerate(clip.frames()) if i in (0, 7, 30)]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert np.array_equal(again.mask(7), clip.mask(7))
    assert again.keypoints(7) == clip.keypoints(7)


def test_another_seed_is_another_clip(clip: RenderedClip) -> None:
    other = render_clip(width=320, height=180, seed=1)
    assert not np.array_equal(other.frame(0), clip.frame(0))
    assert not np.array_equal(other.mask(0), clip.mask(0))


def test_frames_are_made_one_at_a_time() -> None:
    frames = render_clip(width=64, height=48, frame_count=10**9).frames()
    assert next(frames).shape == (48, 64, 3)


def test_the_mask_is_where_the_object_was_painted() -> None:
    # White over black: every pixel of the mask is painted, and beyond it only the blended outline.
    shape = puppet_shapes(np.random.default_rng(0), 1.0)["left_shin"]
    flat = Capsule(shape.length, shape.start, shape.end, shape.texture.point(lambda _: 255), shape.density)
    pose = Pose(70.3, 61.8, 0.7, 1.13)
    picture = np.zeros((150, 150, 3), np.uint8)
    shade(picture, flat, pose)
    window, distance = placed(flat, pose, (150, 150))
    mask = np.zeros((150, 150), bool)
    mask[window] = distance < 0
    assert picture[mask].min() > 50
    assert not picture[~dilate(mask, 1)].any()
    assert mask.sum() > 1500


def test_the_mask_agrees_with_supersampling(clip: RenderedClip) -> None:
    # The same scene at four times the size, reduced: a pixel that is nearly all covered must be the object's.
    large = render_clip(width=1280, height=720)
    for i in (0, 24, 47):
        for value in (FLOWER, PUPPET):
            share = (large.mask(i) == value).reshape(180, 4, 320, 4).mean((1, 3))
            mask = clip.mask(i) == value
            assert mask[share == 1].mean() > 0.995
            assert mask[share == 0].mean() < 0.0005


def test_pixels_away_from_the_objects_are_the_landscape_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = render_clip(width=320, height=180)
    painted, objects = clip.frame(24), clip.mask(24) > 0
    monkeypatch.setattr(clip._scene, "_placed", lambda _: [])
    touched = (painted != clip.frame(24)).any(2)
    assert touched[objects].mean() > 0.99
    assert not touched[~dilate(objects, 6)].any()  # the outline's blending and the soft shadow around it


def test_visible_keypoints_lie_on_the_puppet_and_hidden_ones_do_not() -> None:
    for seed in range(4):
        clip = render_clip(width=427, height=240, seed=seed)
        hidden = 0
        for i in range(clip.frame_count):
            index_map, points = clip.mask(i), clip.keypoints(i)
            assert [point.name for point in points] == list(clip.skeleton.points)
            for point in points:
                inside = 0 <= point.x < 427 and 0 <= point.y < 240
                on_puppet = inside and index_map[math.floor(point.y), math.floor(point.x)] == PUPPET
                assert point.visible == on_puppet, (seed, i, point)
                hidden += not point.visible
        assert 5 < hidden < 0.4 * clip.frame_count * len(clip.skeleton.points)


def test_a_keypoint_that_leaves_the_frame_is_not_visible() -> None:
    clip = render_clip(width=128, height=96)
    clip._scene.unit *= 3  # the puppet is laid out to fit; this one is too large for its frame
    outside = 0
    for i in range(0, 48, 6):
        for point in clip.keypoints(i):
            if not (0 <= point.x < 128 and 0 <= point.y < 96):
                outside += 1
                assert not point.visible
        assert len(clip.anchor(i).labels[1].keypoints) < len(clip.skeleton.points)
    assert outside > 8


def test_the_flower_hides_a_part_of_the_puppet_in_the_middle_only() -> None:
    for seed in range(4):
        clip = render_clip(width=427, height=240, seed=seed)
        whole = (clip.mask(0) == PUPPET).sum()
        seen = [(clip.mask(i) == PUPPET).sum() / whole for i in (0, 24, 47)]
        assert 0.3 < seen[1] < 0.85
        touching = [bool((dilate(clip.mask(i) == FLOWER, 1) & (clip.mask(i) == PUPPET)).any()) for i in (0, 24, 47)]
        assert touching == [False, True, False]


def test_everything_moves_turns_and_grows_but_smoothly(clip: RenderedClip) -> None:
    masks = [clip.mask(i) for i in range(clip.frame_count)]
    area = [(mask == FLOWER).sum() for mask in masks]
    assert area[-1] > 1.5 * area[0]
    points = np.array([[(p.x, p.y) for p in clip.keypoints(i)] for i in range(clip.frame_count)])
    step = np.hypot(*np.moveaxis(np.diff(points, axis=0), -1, 0)) * 480 / 180
    assert step.max() < 24  # of 480p; a tracker's window reaches 96
    elbow = clip.skeleton.points.index("left_elbow")
    upper, lower = points[:, elbow] - points[:, elbow - 1], points[:, elbow + 1] - points[:, elbow]
    bend = np.arctan2(upper[:, 0] * lower[:, 1] - upper[:, 1] * lower[:, 0], (upper * lower).sum(1))
    assert np.ptp(bend) > math.radians(30)


def test_limbs_keep_their_proportions(clip: RenderedClip) -> None:
    def bones(i: int) -> np.ndarray:
        points = {p.name: np.array((p.x, p.y)) for p in clip.keypoints(i)}
        limbs = [("left_shoulder", "left_elbow"), ("left_elbow", "left_hand"), ("right_knee", "right_foot")]
        lengths = np.array([np.linalg.norm(points[a] - points[b]) for a, b in limbs])
        return lengths / lengths[0]

    assert all(np.allclose(bones(i), bones(0)) for i in range(clip.frame_count))


def test_the_landscape_drifts_slowly_and_stays_within_its_margin() -> None:
    clip = render_clip(width=160, height=120, frame_count=2000)
    first, second, far = (clip.frame(i)[:20].astype(int) for i in (0, 1, 1999))
    assert 0 < np.abs(first - second).mean() < 8
    assert (far.sum(2) > 0).all()  # beyond the canvas there would be black


def test_textures_have_detail_at_the_scale_of_a_cell() -> None:
    picture = np.asarray(landscape(np.random.default_rng(0), 854, 480)).astype(float).mean(2)
    ground = picture[300:476, :848].reshape(22, 8, 106, 8).std((1, 3))
    assert np.median(ground) > 3


def test_objects_and_anchor_are_ready_for_a_job(clip: RenderedClip) -> None:
    flower, puppet = clip.objects
    assert (flower.id, puppet.id) == (FLOWER, PUPPET)
    assert flower.skeleton is None
    assert puppet.skeleton == clip.skeleton
    anchor = clip.anchor(0)
    assert anchor.frame == 0
    assert [label.object for label in anchor.labels] == [FLOWER, PUPPET]
    assert np.array_equal(anchor.labels[1].mask, clip.mask(0) == PUPPET)
    assert [p.name for p in anchor.labels[1].keypoints] == list(clip.skeleton.points)


def test_more_objects_circle_behind_the_two_and_apart_from_each_other(clip: RenderedClip) -> None:
    many = render_clip(width=320, height=180, objects=9)
    assert [each.id for each in many.objects] == list(range(1, 10))
    assert len({each.colour for each in many.objects}) == len({each.name for each in many.objects}) == 9
    first, later = many.mask(0), many.mask(20)
    for i in (0, 20):
        assert np.array_equal(np.where(many.mask(i) <= PUPPET, many.mask(i), 0), clip.mask(i))
    for identity in range(PUPPET + 1, 10):
        assert (first == identity).sum() > 60
        assert ((first == identity) != (later == identity)).any()
    # Away from the small flowers nothing has changed, and each is another.
    same = (many.frame(0) == clip.frame(0)).all(axis=2)
    assert same[:, 150:170].mean() > 0.5
    assert not same[first > PUPPET].any()
    colours = [many.frame(0)[first == identity].mean(axis=0) for identity in range(PUPPET + 1, 10)]
    assert min(np.abs(a - b).max() for n, a in enumerate(colours) for b in colours[:n]) > 5
    assert [label.object for label in many.anchor(0).labels] == list(range(1, 10))


def test_a_loop_plays_forth_and_back_and_paints_each_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    short = render_clip(width=64, height=48, frame_count=4)
    loop = render_clip(width=64, height=48, frame_count=9, loop=4)
    order = [0, 1, 2, 3, 2, 1, 0, 1, 2]
    for i, place in enumerate(order):
        assert np.array_equal(loop.frame(i), short.frame(place))
        assert np.array_equal(loop.mask(i), short.mask(place))
        assert loop.keypoints(i) == short.keypoints(place)
    painted: list[int] = []
    paint = type(loop._scene).paint
    monkeypatch.setattr(type(loop._scene), "paint", lambda scene, i: painted.append(i) or paint(scene, i))
    for frame, place in zip(loop.frames(), order, strict=True):
        assert np.array_equal(frame, short._scene.paint(place))
        painted.pop()
    assert sorted(painted) == [0, 1, 2, 3]
    still = render_clip(width=64, height=48, frame_count=3, loop=1)
    assert np.array_equal(still.frame(0), still.frame(2))


@pytest.mark.parametrize("bad", [{"width": 31}, {"height": 0}, {"frame_count": 0}, {"loop": 0}])
def test_impossible_clips_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        render_clip(**bad)


@pytest.mark.parametrize("objects", [1, 255])
def test_impossible_numbers_of_objects_are_refused(objects: int) -> None:
    with pytest.raises(ValueError, match="2 to 254 objects"):
        render_clip(objects=objects)


@pytest.mark.parametrize("i", [-1, 48])
def test_a_frame_that_does_not_exist_is_refused(clip: RenderedClip, i: int) -> None:
    for method in (clip.frame, clip.mask, clip.keypoints, clip.anchor):
        with pytest.raises(IndexError):
            method(i)


def test_a_written_clip_reads_back_as_the_same_frames(tmp_path: Path) -> None:
    import av

    clip = render_clip(width=128, height=96, frame_count=8)
    write_clip(clip, tmp_path / "clip.mp4")
    with av.open(tmp_path / "clip.mp4") as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 25
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 8
    for i, frame in enumerate(decoded):
        errors = [np.abs(frame.astype(int) - clip.frame(j)).mean() for j in range(8)]
        assert int(np.argmin(errors)) == i
        assert errors[i] < 12


class TestCurtain:
    def test_it_hides_both_for_a_while_and_shows_them_again(self) -> None:
        for seed in range(3):
            clip = render_clip(width=160, height=120, frame_count=40, seed=seed, curtained=0.6)
            areas = np.array([[(clip.mask(i) == identity).sum() for identity in (FLOWER, PUPPET)] for i in range(40)])
            assert (areas[0] > 0).all()
            assert (areas[-1] > 0).all()
            assert ((areas == 0).sum(axis=0) >= 3).all()
            gone = np.flatnonzero(areas[:, 0] == 0)
            assert len(gone) == gone[-1] - gone[0] + 1, "the flower is hidden once"

    def test_behind_it_nothing_is_labelled_or_visible_and_elsewhere_all_is_as_without(self) -> None:
        bare = render_clip(width=160, height=120, frame_count=40)
        clip = render_clip(width=160, height=120, frame_count=40, curtained=0.5)
        covered = 0
        for i in (0, 15, 20, 25):
            changed = (clip.frame(i) != bare.frame(i)).any(axis=(0, 2))
            assert not clip.mask(i)[:, changed].any()
            assert np.array_equal(clip.mask(i)[:, ~changed], bare.mask(i)[:, ~changed])
            for point, free in zip(clip.keypoints(i), bare.keypoints(i), strict=True):
                hidden = 0 <= point.x < 160 and changed[int(point.x)]
                assert point.visible == (free.visible and not hidden)
                covered += bool(free.visible and hidden)
        assert covered
        assert np.array_equal(clip.frame(0), bare.frame(0)), "it begins beside the frame"

    def test_it_is_no_wider_than_the_frame(self) -> None:
        with pytest.raises(ValueError, match="curtain"):
            render_clip(width=64, height=64, curtained=1.5)
