from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.channels import Channel, ChannelSet
from model.confidence import expected_overlap
from model.decoding import decode
from model.evidence import NAMES
from model.geometry import Grid
from model.labels import Anchor, FrameResult, Keypoint, Label, LabelObject, Skeleton
from model.labels.raster import box as rasterised
from model.labels.raster import polygon

ObjectsOf = Callable[..., tuple[LabelObject, ...]]
WIDTH, HEIGHT = 43, 30
GRID = Grid.fit(WIDTH, HEIGHT, 480)  # 6 x 4 cells, padded on the right and below
SOMEWHERE = np.zeros((HEIGHT, WIDTH), bool)
SOMEWHERE[4:20, 4:20] = True


def _channels(objects: tuple[LabelObject, ...], keypoints: tuple[Keypoint, ...] = ()) -> ChannelSet:
    """All objects with a region on frame 0, the first with keypoints too."""
    labels = tuple(Label(o.id, SOMEWHERE, keypoints=keypoints if o is objects[0] else ()) for o in objects)
    return ChannelSet(objects, [Anchor(0, labels)], GRID)


def _decode(channels: ChannelSet, values: torch.Tensor, known: list[bool] | None = None, frame: int = 5) -> FrameResult:
    return decode(channels, frame, 40 * frame, values, np.array([True] * len(channels) if known is None else known))


class TestEvidence:
    """A region's confidence comes from the evidence, and a region that is no longer its object is left empty."""

    def test_an_object_that_the_evidence_speaks_against_is_gone_and_comes_back(self, objects_of: ObjectsOf) -> None:
        channels = _channels(objects_of(1, 2))
        values = channels.maps(0).values
        values[0] *= 2
        values[1] = 0
        values[1, 0, 0] = 1
        known, nothing = np.ones(2, bool), np.zeros(len(NAMES), np.float32)
        everything = nothing + 1
        for told, visible in (([everything] * 2, True), ([nothing, everything], False), ([everything] * 2, True)):
            first, second = decode(channels, 5, 200, values, known, np.stack(told)).objects
            assert first.mask is not None
            assert (first.visible, bool(first.mask.any()), first.box is not None) == (visible, visible, visible)
            assert first.confidence == round(expected_overlap(told[0]), 3)
            assert second.visible

    def test_a_preset_may_leave_that_to_the_maps_alone(self, objects_of: ObjectsOf) -> None:
        channels = _channels(objects_of(1))
        values, nothing = channels.maps(0).values * 2, np.zeros((1, len(NAMES)), np.float32)
        (entry,) = decode(channels, 5, 200, values, np.ones(1, bool), nothing, declare_gone=False).objects
        assert entry.visible
        assert entry.confidence == round(expected_overlap(nothing[0]), 3)

    def test_what_an_anchor_gives_stays_whatever_the_evidence_says(self, objects_of: ObjectsOf) -> None:
        channels = _channels(objects_of(1))
        nothing = np.zeros((1, len(NAMES)), np.float32)
        (entry,) = decode(channels, 0, 0, channels.maps(0).values, np.ones(1, bool), nothing).objects
        assert (entry.visible, entry.confidence, entry.source) == (True, 1.0, "anchor")
        assert np.array_equal(entry.mask, SOMEWHERE)

    def test_where_nothing_arrived_evidence_does_not_help(self, objects_of: ObjectsOf) -> None:
        channels = _channels(objects_of(1))
        values = torch.zeros(1, GRID.rows, GRID.columns)
        (entry,) = decode(channels, 5, 200, values, np.ones(1, bool), np.ones((1, len(NAMES)), np.float32)).objects
        assert (entry.visible, entry.confidence) == (False, 0.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_masks_are_the_largest_share_after_interpolation(objects_of: ObjectsOf, seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, GRID.rows, GRID.columns, generator=generator)
    values[:, torch.rand(GRID.rows, GRID.columns, generator=generator) < 0.4] = 0
    values /= values.sum(dim=0).clamp(min=1)
    channels = _channels(objects_of(*range(1, count + 1)))
    result = _decode(channels, values)
    shares = torch.stack([GRID.pixels(value) for value in values])
    winner = torch.cat([(1 - shares.sum(dim=0))[None], shares]).argmax(dim=0).numpy()
    for entry in result.objects:
        assert entry.mask is not None
        assert np.array_equal(entry.mask, winner == entry.object)
        assert entry.visible == bool(entry.mask.any())
        assert entry.source == "propagated"


def test_the_order_of_declaration_does_not_matter(objects_of: ObjectsOf) -> None:
    values = torch.rand(3, GRID.rows, GRID.columns, generator=torch.Generator().manual_seed(1)) / 2
    up, down = objects_of(1, 2, 3), objects_of(3, 2, 1)
    first, second = _decode(_channels(up), values), _decode(_channels(down), values.flip(0))
    assert [entry.object for entry in second.objects] == [3, 2, 1]
    for entry in first.objects:
        assert entry == next(other for other in second.objects if other.object == entry.object)


def test_of_equal_shares_the_higher_id_wins_and_the_background_keeps_half(objects_of: ObjectsOf) -> None:
    values = torch.zeros(2, GRID.rows, GRID.columns)
    values[:, :, :3] = 0.5
    masks = [entry.mask for entry in _decode(_channels(objects_of(4, 2)), values).objects]
    assert masks[0] is not None
    assert masks[1] is not None
    assert masks[0][:, :20].all()
    assert not masks[1].any()
    values[1] = 0
    assert not any(entry.visible for entry in _decode(_channels(objects_of(4, 2)), values).objects)


def test_a_box_is_tight_and_an_invisible_object_has_none(objects_of: ObjectsOf) -> None:
    values = torch.zeros(2, GRID.rows, GRID.columns)
    values[0, 1:3, 2] = 1
    first, second = _decode(_channels(objects_of(1, 2)), values).objects
    assert first.mask is not None
    rows, columns = np.nonzero(first.mask)
    assert first.box == (
        columns.min(),
        rows.min(),
        columns.max() - columns.min() + 1,
        rows.max() - rows.min() + 1,
    )
    assert (second.visible, second.box, second.confidence) == (False, None, 0.0)
    assert second.mask is not None
    assert second.mask.shape == (HEIGHT, WIDTH)


def test_an_unknown_object_is_not_there_yet(objects_of: ObjectsOf) -> None:
    values = torch.ones(1, GRID.rows, GRID.columns)
    (entry,) = _decode(_channels(objects_of(1)), values, known=[False]).objects
    assert (entry.visible, entry.confidence, entry.box, entry.source) == (False, 0.0, None, "propagated")
    assert entry.mask is not None
    assert not entry.mask.any()


def test_confidence_falls_where_matches_disagree(objects_of: ObjectsOf) -> None:
    sure = torch.zeros(1, GRID.rows, GRID.columns)
    sure[0, 1:3, 1:3] = 1
    found = [
        _decode(_channels(objects_of(1)), values).objects[0].confidence for values in (sure, sure * 0.8, sure * 0.6)
    ]
    assert found == [1.0, 0.8, 0.6]


@pytest.mark.parametrize(("x", "y"), [(20.0, 12.0), (17.3, 14.9), (24.0, 16.0), (11.25, 8.5)])
def test_a_keypoint_is_found_below_the_cell(objects_of: ObjectsOf, x: float, y: float) -> None:
    channels = _channels(objects_of(1), (Keypoint("nose", x, y),))
    values = channels.maps(0).values
    (point,) = _decode(channels, values).objects[0].keypoints
    assert point.name == "nose"
    assert point.visible
    assert point.confidence > 0.75
    assert abs(point.x - x) < 2  # a quarter of a cell
    assert abs(point.y - y) < 2
    assert (point.x, point.y) == (round(point.x, 2), round(point.y, 2))


def test_a_keypoint_in_the_middle_of_a_cell_is_exact(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of(1), (Keypoint("nose", 20.0, 12.0),))
    (point,) = _decode(channels, channels.maps(0).values).objects[0].keypoints
    assert (point.x, point.y) == (20.0, 12.0)


def test_a_faint_keypoint_is_hidden_and_a_vanished_one_is_not_named(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of(1), (Keypoint("nose", 20, 12),))
    values = channels.maps(0).values
    (faint,) = _decode(channels, values * 0.05).objects[0].keypoints
    assert not faint.visible
    assert 0 < faint.confidence < 0.1
    assert _decode(channels, values * 0).objects[0].keypoints == ()
    assert _decode(channels, values, known=[True, False]).objects[0].keypoints == ()


def test_a_keypoint_in_the_padding_is_pulled_back_onto_the_frame(objects_of: ObjectsOf) -> None:
    channels = _channels(objects_of(1), (Keypoint("nose", 43, 30),))
    values = torch.zeros(2, GRID.rows, GRID.columns)
    values[1, -1, -1] = 1
    (point,) = _decode(channels, values).objects[0].keypoints
    assert (point.x, point.y) == (WIDTH, 28.0)


def test_keypoints_stand_in_the_skeletons_order(objects_of: ObjectsOf) -> None:
    (plain,) = objects_of(1)
    declared = LabelObject(1, plain.name, plain.colour, Skeleton(("head", "hand", "foot")))
    points = (Keypoint("foot", 20, 12), Keypoint("tail", 12, 12), Keypoint("head", 4, 4))
    channels = _channels((declared,), points)
    found = _decode(channels, channels.maps(0).values).objects[0].keypoints
    assert [point.name for point in found] == ["head", "foot", "tail"]


def test_an_object_of_keypoints_alone_has_no_mask(objects_of: ObjectsOf) -> None:
    label = Label(1, None, keypoints=(Keypoint("a", 12, 12), Keypoint("b", 28, 20)))
    channels = ChannelSet(objects_of(1), [Anchor(0, (label,))], GRID)
    values = channels.maps(0).values
    (entry,) = _decode(channels, values).objects
    assert (entry.mask, entry.box, entry.visible) == (None, None, True)
    assert entry.confidence == pytest.approx(np.mean([point.confidence for point in entry.keypoints]))
    (gone,) = _decode(channels, values * 0).objects
    assert (gone.visible, gone.confidence, gone.keypoints) == (False, 0.0, ())


class TestAnchorsComeBackExactly:
    """Whatever the soft maps say on that frame."""

    NOISE = torch.rand(8, GRID.rows, GRID.columns, generator=torch.Generator().manual_seed(0)) / 8

    def _back(self, objects: tuple[LabelObject, ...], *labels: Label) -> FrameResult:
        # Another frame shows everything, so that every channel exists.
        other = tuple(Label(o.id, SOMEWHERE, keypoints=(Keypoint("head", 3, 3),)) for o in objects)
        channels = ChannelSet(objects, [Anchor(0, labels), Anchor(9, other)], GRID)
        return _decode(channels, self.NOISE[: len(channels)], frame=0)

    def test_masks_even_where_they_overlap(self, objects_of: ObjectsOf) -> None:
        generator = np.random.default_rng(0)
        masks = [generator.random((HEIGHT, WIDTH)) < 0.5 for _ in range(2)]
        result = self._back(objects_of(1, 2), Label(1, masks[0]), Label(2, masks[1]))
        for entry, mask in zip(result.objects, masks, strict=True):
            assert np.array_equal(entry.mask, mask)
            assert (entry.source, entry.confidence, entry.visible) == ("anchor", 1.0, True)

    def test_polygons(self, objects_of: ObjectsOf) -> None:
        mask = polygon([[3.2, 4.1, 30.7, 8.8, 12.0, 27.9]], HEIGHT, WIDTH)
        (entry,) = self._back(objects_of(1), Label(1, mask)).objects
        assert np.array_equal(entry.mask, mask)

    def test_boxes_with_their_floats(self, objects_of: ObjectsOf) -> None:
        given = (3.141592653589793, 4.1, 17.0000001, 9.87654321)
        (entry,) = self._back(objects_of(1), Label(1, rasterised(*given, HEIGHT, WIDTH), box=given)).objects
        assert entry.box == given
        assert np.array_equal(entry.mask, rasterised(*given, HEIGHT, WIDTH))

    def test_keypoints_with_their_floats_hidden_ones_too(self, objects_of: ObjectsOf) -> None:
        given = (Keypoint("head", 3.14159265, 42.9999999 / 2), Keypoint("hand", 0.0, 0.125, visible=False))
        (entry,) = self._back(objects_of(1), Label(1, SOMEWHERE, keypoints=given)).objects
        assert [(p.name, p.x, p.y, p.visible) for p in entry.keypoints] == [
            (p.name, p.x, p.y, p.visible) for p in given
        ]
        assert {point.confidence for point in entry.keypoints} == {1.0}

    def test_absence(self, objects_of: ObjectsOf) -> None:
        (entry,) = self._back(objects_of(1), Label(1, None, absent=True)).objects
        assert (entry.visible, entry.source, entry.box, entry.keypoints) == (False, "anchor", None, ())
        assert entry.mask is not None
        assert not entry.mask.any()

    def test_a_region_that_it_did_not_give_keeps_its_own_confidence(self, objects_of: ObjectsOf) -> None:
        points = (Keypoint("head", 3.14159265, 7.5),)
        (entry,) = self._back(objects_of(1), Label(1, None, keypoints=points)).objects
        assert [(point.name, point.x, point.y, point.confidence) for point in entry.keypoints] == [
            ("head", 3.14159265, 7.5, 1.0)
        ]
        assert (entry.source, entry.visible) == ("anchor", True)
        # The noise is too faint for a mask; a clear map gives one, as sure as it is.
        assert entry.mask is not None
        assert not entry.mask.any()
        assert entry.confidence == 0.0
        other = Anchor(9, (Label(1, SOMEWHERE),))
        channels = ChannelSet(objects_of(1), [Anchor(0, (Label(1, None, keypoints=points),)), other], GRID)
        values = torch.zeros(len(channels), GRID.rows, GRID.columns)
        values[channels.index[Channel(1)], 1:3, 1:3] = 0.8
        at_anchor, after = (_decode(channels, values, frame=frame).objects[0] for frame in (0, 5))
        assert at_anchor.confidence == after.confidence == 0.8
        assert np.array_equal(at_anchor.mask, after.mask)
        assert at_anchor.box == after.box
        assert (at_anchor.source, after.source) == ("anchor", "propagated")

    def test_keypoints_alone_are_wholly_given(self, objects_of: ObjectsOf) -> None:
        label = Label(1, None, keypoints=(Keypoint("head", 3, 3),))
        channels = ChannelSet(objects_of(1), [Anchor(0, (label,))], GRID)
        (entry,) = _decode(channels, channels.maps(0).values, frame=0).objects
        assert (entry.mask, entry.confidence, entry.source) == (None, 1.0, "anchor")

    def test_what_the_anchor_does_not_mention_is_propagated(self, objects_of: ObjectsOf) -> None:
        result = self._back(objects_of(1, 2), Label(1, SOMEWHERE))
        assert [entry.source for entry in result.objects] == ["anchor", "propagated"]
