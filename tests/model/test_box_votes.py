from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.box_votes import located_box, voted_box
from model.channels import Channel, ChannelSet
from model.decoding import decode
from model.evaluation.boxes import overlap
from model.features import FeatureExtractor
from model.geometry import Grid
from model.labels import Anchor, Label, LabelObject, raster
from model.labels.raster import tight_box
from model.labels.types import Box
from model.presets import find_preset
from model.propagator import Propagator
from model.rendered import RenderedClip, render_clip
from model.video import Frame

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH, HEIGHT = 240, 160
GRID = Grid.fit(WIDTH, HEIGHT, 480)
GIVEN: Box = (52.0, 36.0, 70.0, 60.0)
ObjectsOf = Callable[..., tuple[LabelObject, ...]]


def _label(identity: int, box: Box, width: int = WIDTH, height: int = HEIGHT) -> Label:
    return Label(identity, raster.box(*box, height, width), box)


@pytest.fixture
def channels(objects_of: ObjectsOf) -> ChannelSet:
    return ChannelSet(objects_of(1), [Anchor(0, (_label(1, GIVEN),))], GRID, box_sides=True)


def _shifted(maps: Tensor, down: int, right: int) -> Tensor:
    return torch.roll(maps, (down, right), dims=(1, 2))


def test_the_cells_of_a_box_vote_for_the_box(channels: ChannelSet) -> None:
    maps = channels.maps(0).values
    assert len(maps) == 5
    assert voted_box(channels, 1, maps) == pytest.approx(GIVEN, abs=0.01)
    assert voted_box(channels, 1, _shifted(maps, 3, 4)) == pytest.approx((84, 60, 70, 60), abs=0.01)


def test_a_part_that_is_hidden_or_left_behind_does_not_move_it(channels: ChannelSet) -> None:
    maps = _shifted(channels.maps(0).values, 2, 6)
    hidden = maps.clone()
    hidden[:, :, 17:] = 0  # the right 24 pixels
    assert voted_box(channels, 1, hidden) == pytest.approx((100, 52, 70, 60), abs=0.01)
    behind = channels.maps(0).values
    behind[:, :, 8:] = 0  # background of the box, where it was
    assert voted_box(channels, 1, torch.maximum(maps, behind)) == pytest.approx((100, 52, 70, 60), abs=0.01)


def test_faint_maps_vote_as_well_and_empty_ones_do_not(channels: ChannelSet) -> None:
    maps = channels.maps(0).values
    assert voted_box(channels, 1, maps / 4) == pytest.approx(GIVEN, abs=0.01)
    assert voted_box(channels, 1, maps / 20) is None


def test_a_box_ends_where_the_frame_does(channels: ChannelSet) -> None:
    maps = channels.maps(0).values
    out = torch.zeros_like(maps)
    out[:, :, 25:] = maps[:, :, 6:11]  # its left five columns, at the right edge
    x, y, width, height = voted_box(channels, 1, out) or (0, 0, 0, 0)
    assert (x, y, x + width, height) == pytest.approx((52 + 19 * 8, 36, WIDTH, 60), abs=0.01)


def test_boxes_of_several_anchors_are_of_their_own_sizes(objects_of: ObjectsOf) -> None:
    small: Box = (16.0, 24.0, 33.0, 41.0)
    channels = ChannelSet(
        objects_of(1), [Anchor(0, (_label(1, GIVEN),)), Anchor(9, (_label(1, small),))], GRID, box_sides=True
    )
    assert channels.extents == {1: (70, 60)}
    assert voted_box(channels, 1, channels.maps(9).values) == pytest.approx(small, abs=0.01)


def test_only_objects_that_are_given_as_boxes_alone_carry_sides(objects_of: ObjectsOf) -> None:
    mixed = [Anchor(0, (_label(1, GIVEN), _label(2, GIVEN))), Anchor(5, (Label(2, raster.box(*GIVEN, HEIGHT, WIDTH)),))]
    channels = ChannelSet(objects_of(1, 2), mixed, GRID, box_sides=True)
    assert set(channels.extents) == {1}
    assert [c for c in channels.channels if c.object == 2] == [Channel(2)]
    assert len(ChannelSet(objects_of(1, 2), mixed, GRID)) == 2
    gone = ChannelSet(
        objects_of(1), [Anchor(0, (_label(1, GIVEN),)), Anchor(5, (Label(1, None, absent=True),))], GRID, box_sides=True
    )
    assert gone.given(5)[0].all()


def test_the_result_is_a_rectangle_and_regions_before_it_stay_whole(objects_of: ObjectsOf) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[40:72, 64:96] = True
    channels = ChannelSet(objects_of(1, 2), [Anchor(0, (_label(1, GIVEN), Label(2, mask)))], GRID, box_sides=True)
    maps = channels.maps(0).values
    found = decode(channels, 1, 40, maps, np.ones(len(channels), bool))
    rectangle, region = found.objects
    assert rectangle.mask is not None
    assert region.mask is not None
    assert not (rectangle.mask & region.mask).any()
    assert rectangle.box == pytest.approx(GIVEN, abs=1)
    assert (rectangle.mask | region.mask)[37:95, 53:121].all()
    assert region.mask.sum() > mask.sum() / 2  # its border is the box's as much as its own


def test_a_box_within_another_is_there_all_the_same(objects_of: ObjectsOf) -> None:
    inner, outer = (80.0, 56.0, 24.0, 24.0), (32.0, 24.0, 120.0, 96.0)
    anchor = Anchor(0, (_label(1, inner), _label(2, outer)))
    channels = ChannelSet(objects_of(1, 2), [anchor], GRID, box_sides=True)
    found = decode(channels, 1, 40, channels.maps(0).values, np.ones(len(channels), bool)).objects[0]
    assert found.visible
    assert found.box == pytest.approx(inner, abs=1)


def test_it_is_the_mean_of_the_votes_and_of_what_is_around_the_region(channels: ChannelSet) -> None:
    maps = channels.maps(0).values
    assert located_box(channels, 1, maps, (60, 40, 90, 80)) == pytest.approx((56, 38, 80, 70), abs=0.01)
    assert located_box(channels, 1, maps, None) == pytest.approx(GIVEN, abs=0.01)
    assert located_box(channels, 1, maps / 20, GIVEN) == GIVEN
    assert located_box(channels, 1, maps / 20, None) is None


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(width=WIDTH, height=HEIGHT, frame_count=16)


def test_a_box_stays_on_its_object(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: Callable[[RenderedClip], list[Frame]]
) -> None:
    truth = [{i: tight_box(clip.mask(n) == i) for i in (1, 2)} for n in range(clip.frame_count)]
    labels = tuple(_label(i, box) for i, box in truth[0].items() if box is not None)
    means = {}
    for sides in (False, True):
        preset = replace(find_preset("balanced"), enlarge=False, box_sides=sides)
        objects = [each for each in clip.objects if each.id in truth[0]]
        propagator = Propagator.for_video(extractor, preset, objects, [Anchor(0, labels)], width=WIDTH, height=HEIGHT)
        overlaps = []
        for result in propagator.run(frames_of(clip)):
            for found in result.objects:
                expected = truth[result.frame][found.object]
                if expected is not None:
                    overlaps.append(overlap(found.box, expected))
        means[sides] = float(np.mean(overlaps))
    assert means[True] > 0.7
    assert means[True] > means[False]
