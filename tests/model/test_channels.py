from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.channels import KEYPOINT_SIGMA, Channel, ChannelSet
from model.geometry import Grid
from model.labels import Anchor, Keypoint, Label, LabelObject

ObjectsOf = Callable[..., tuple[LabelObject, ...]]
GRID = Grid.fit(32, 24, 480)  # 4 x 3 cells


def _region(*cells: tuple[int, int], height: int = 24, width: int = 32) -> np.ndarray:
    """A mask of whole cells, given as (row, column)."""
    mask = np.zeros((height, width), bool)
    for row, column in cells:
        mask[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = True
    return mask


def test_channels_stand_in_the_order_of_the_objects_region_first(objects_of: ObjectsOf) -> None:
    points = (Keypoint("hand", 4, 4), Keypoint("head", 9, 9))
    anchors = [
        Anchor(3, (Label(7, _region((0, 0)), keypoints=points), Label(2, None, keypoints=points[:1]))),
        Anchor(5, (Label(2, None, keypoints=points[1:]), Label(7, None, keypoints=(Keypoint("foot", 1, 1),)))),
    ]
    channels = ChannelSet(objects_of(7, 2), anchors, GRID)
    assert channels.channels == (
        Channel(7),
        Channel(7, "hand"),
        Channel(7, "head"),
        Channel(7, "foot"),
        Channel(2, "hand"),
        Channel(2, "head"),
    )
    assert [channels.index[channel] for channel in channels.channels] == list(range(6)) == list(range(len(channels)))


def test_a_region_becomes_the_share_of_each_cell(objects_of: ObjectsOf) -> None:
    mask = _region((0, 1))
    mask[8:12, 0:8] = True  # half a cell
    mask[23, 31] = True  # one pixel of another
    maps = ChannelSet(objects_of(1), [Anchor(0, (Label(1, mask),))], GRID).maps(0)
    expected = torch.zeros(3, 4)
    expected[0, 1], expected[1, 0], expected[2, 3] = 1, 0.5, 1 / 64
    assert torch.allclose(maps.values, expected[None])
    assert maps.given.tolist() == maps.present.tolist() == [True]
    assert maps.known is None


def test_where_masks_overlap_each_takes_an_equal_share(objects_of: ObjectsOf) -> None:
    labels = (
        Label(1, _region((0, 0), (1, 1))),
        Label(2, _region((0, 0), (1, 1), (2, 2))),
        Label(9, _region((1, 1))),
    )
    values = ChannelSet(objects_of(1, 2, 9), [Anchor(0, labels)], GRID).maps(0).values
    assert values[:, 0, 0].tolist() == [0.5, 0.5, 0]
    assert values[:, 1, 1].tolist() == pytest.approx([1 / 3] * 3)
    assert values[:, 2, 2].tolist() == [0, 1, 0]
    assert float(values.sum(dim=0).max()) == pytest.approx(1)


def test_void_pixels_are_not_learned_from(objects_of: ObjectsOf) -> None:
    mask, void = _region((0, 0), (0, 1)), np.zeros((24, 32), bool)
    void[0:8, 0:8] = True  # the first cell is void through and through, though the mask says otherwise
    void[0:4, 8:16] = True  # of the second only the lower half counts
    mask[4:8, 8:12] = False  # and half of that is the object's
    maps = ChannelSet(objects_of(1), [Anchor(0, (Label(1, mask),), void)], GRID).maps(0)
    assert maps.known is not None
    assert maps.known.tolist() == [[False, True, True, True], [True] * 4, [True] * 4]
    assert maps.values[0, 0].tolist() == pytest.approx([0, 0.5, 0, 0])


@pytest.mark.parametrize("void_pixels", [0, 1])
def test_void_that_fills_no_cell_leaves_every_cell_known(objects_of: ObjectsOf, void_pixels: int) -> None:
    void = np.zeros((24, 32), bool)
    void[0, :void_pixels] = True
    maps = ChannelSet(objects_of(1), [Anchor(0, (Label(1, _region((1, 1))),), void)], GRID).maps(0)
    assert maps.known is None
    assert maps.values[0, 1, 1] == 1


def test_a_keypoint_becomes_a_gaussian_around_its_place_between_cells(objects_of: ObjectsOf) -> None:
    label = Label(1, None, keypoints=(Keypoint("nose", 15.0, 10.0),))
    values = ChannelSet(objects_of(1), [Anchor(0, (label,))], GRID).maps(0).values
    for row, column in ((0, 0), (1, 1), (1, 2), (2, 3)):
        apart = ((column * 8 + 4 - 15) / 8) ** 2 + ((row * 8 + 4 - 10) / 8) ** 2
        assert float(values[0, row, column]) == pytest.approx(math.exp(-apart / (2 * KEYPOINT_SIGMA**2)), abs=1e-6)


def test_a_hidden_keypoint_teaches_nothing(objects_of: ObjectsOf) -> None:
    hidden, seen = Keypoint("hand", 4, 4, visible=False), Keypoint("hand", 20, 20)
    only_hidden = ChannelSet(objects_of(1), [Anchor(0, (Label(1, None, keypoints=(hidden,)),))], GRID)
    assert len(only_hidden) == 0
    later = ChannelSet(
        objects_of(1),
        [Anchor(0, (Label(1, None, keypoints=(hidden,)),)), Anchor(4, (Label(1, None, keypoints=(seen,)),))],
        GRID,
    )
    assert later.channels == (Channel(1, "hand"),)
    assert later.given(0)[0].tolist() == [False]
    assert later.given(4)[0].tolist() == [True]
    assert not later.maps(0).values.any()


def test_keypoints_know_the_region_that_they_lie_in(objects_of: ObjectsOf) -> None:
    inside, beside, away = Keypoint("in", 12, 4), Keypoint("beside", 21, 4), Keypoint("away", 28, 20)
    hidden = Keypoint("in", 28, 20, visible=False)
    labels = (Label(7, _region((0, 1)), keypoints=(inside, beside, away)), Label(2, None, keypoints=(inside,)))
    anchors = [
        Anchor(0, labels),
        Anchor(1, (Label(7, _region((2, 3)), keypoints=(beside, hidden)),)),
        Anchor(2, (Label(7, None, keypoints=(inside,)),)),  # without a region it says nothing of where that is
    ]
    channels = ChannelSet(objects_of(3, 7, 2), anchors, GRID)
    region = channels.index[Channel(7)]
    homes = dict(zip((c for c in channels.channels if c.keypoint), channels.homes(), strict=True))
    assert homes[Channel(7, "in")] == (region, 1)
    assert homes[Channel(7, "beside")] == (region, 0.5)
    assert homes[Channel(7, "away")] == (region, 0)
    assert homes[Channel(2, "in")][1] == 0


def test_absent_speaks_of_all_of_the_objects_channels_and_of_no_other(objects_of: ObjectsOf) -> None:
    point = (Keypoint("head", 4, 4),)
    anchors = [
        Anchor(0, (Label(1, _region((0, 0)), keypoints=point), Label(2, _region((1, 1))))),
        Anchor(8, (Label(1, None, absent=True),)),
    ]
    channels = ChannelSet(objects_of(1, 2), anchors, GRID)
    given, present = channels.given(8)
    assert (given.tolist(), present.tolist()) == ([True, True, False], [False, False, False])
    given, present = channels.given(0)
    assert (given.tolist(), present.tolist()) == ([True, True, True], [True, True, True])
    assert not channels.maps(8).values.any()


def test_a_label_speaks_only_of_what_it_gives(objects_of: ObjectsOf) -> None:
    anchors = [
        Anchor(0, (Label(1, _region((0, 0)), keypoints=(Keypoint("a", 1, 1), Keypoint("b", 9, 9))),)),
        Anchor(6, (Label(1, None, keypoints=(Keypoint("b", 9, 9),)),)),
        Anchor(7, (Label(1, _region((0, 0))),)),
    ]
    channels = ChannelSet(objects_of(1), anchors, GRID)
    assert channels.given(6)[0].tolist() == [False, False, True]
    assert channels.given(7)[0].tolist() == [True, False, False]


def test_labels_of_a_reduced_video_land_on_the_same_cells(objects_of: ObjectsOf) -> None:
    grid = Grid.fit(128, 128, 64)  # a cell is 16 pixels
    mask = np.zeros((128, 128), bool)
    mask[32:48, 64:80] = True
    label = Label(1, mask, keypoints=(Keypoint("middle", 72, 40),))
    values = ChannelSet(objects_of(1), [Anchor(0, (label,))], grid).maps(0).values
    expected = torch.zeros(8, 8)
    expected[2, 4] = 1
    assert torch.equal(values[0], expected)
    assert values[1].argmax() == 2 * 8 + 4
    assert values[1, 2, 4] == 1
