"""On made-up features, so that it is known what matches what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.channels import ChannelSet
from model.evidence import NAMES, Witness, joined
from model.geometry import Grid
from model.labels import Anchor, Keypoint, Label, LabelObject

ObjectsOf = Callable[..., tuple[LabelObject, ...]]
GRID = Grid.fit(24 * 8, 16 * 8, 480)
ROWS, COLUMNS = GRID.rows, GRID.columns
FIRST = np.array([True, False])  # the region, and a keypoint that the anchor does not count for


def _world(seed: int = 0) -> Tensor:
    """(rows, columns, 32) features: every cell looks like nothing else."""
    return F.normalize(torch.randn(ROWS, COLUMNS, 32, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _square(top: int, left: int, side: int = 5) -> Tensor:
    """(cells, 2) soft labels: a square as the region."""
    picture = torch.zeros(ROWS, COLUMNS, 2)
    picture[top : top + side, left : left + side, 0] = 1
    return picture.flatten(0, 1)


def _moved(background: Tensor, top: int, left: int, side: int = 5) -> Tensor:
    """The background with an object's own features on a square."""
    found = background.clone()
    found[top : top + side, left : left + side] = _world(9)[:side, :side]
    return found


@pytest.fixture
def witness(objects_of: ObjectsOf) -> Witness:
    """It has seen the object on frame 0, at (5, 6)."""
    mask = np.zeros((GRID.height, GRID.width), bool)
    mask[40:80, 48:88] = True
    channels = ChannelSet(objects_of(1), [Anchor(0, (Label(1, mask, keypoints=(Keypoint("a", 60, 60),)),))], GRID)
    witness = Witness(channels, radius=8)
    witness.remember(0, _moved(_world(), 5, 6), _square(5, 6), FIRST)
    return witness


def _heard(witness: Witness, features: Tensor, values: Tensor) -> dict[str, float]:
    evidence = witness.hear(features, values, {0: FIRST}).numpy()
    assert evidence.shape == (2, len(NAMES))
    assert evidence.dtype == np.float32
    assert ((evidence >= 0) & (evidence <= 1)).all()
    assert not evidence[1].any(), "a keypoint has none"
    return dict(zip(NAMES, map(float, evidence[0]), strict=True))


def test_a_label_that_followed_its_object_has_everything_for_it(witness: Witness) -> None:
    heard = _heard(witness, _moved(_world(), 6, 8), _square(6, 8))
    assert heard == pytest.approx(dict.fromkeys(NAMES, 1.0), abs=1e-3)


def test_a_label_left_behind_on_the_background(witness: Witness) -> None:
    # The object went two cells on, the label stayed: what it covers now was background before.
    heard = _heard(witness, _moved(_world(), 5, 12), _square(5, 6))
    assert heard["kept"] < 0.2
    assert heard["own"] < 0.2
    assert heard["found"] < 0.2
    assert heard["likeness"] < 0.7
    assert heard["memory"] < 0.9
    assert heard["area"] == pytest.approx(1)


def test_a_label_on_an_occluder(witness: Witness) -> None:
    heard = _heard(witness, _world(3), _square(5, 6))
    assert heard["likeness"] < 0.8
    assert heard["own"] < 0.8


def test_a_label_that_leaked_has_too_large_an_area_and_is_not_own(witness: Witness) -> None:
    heard = _heard(witness, _moved(_world(), 5, 6), _square(4, 5, side=8))
    assert heard["area"] == pytest.approx(25 / 64, abs=0.01)
    assert heard["back"] < 0.6
    assert heard["own"] < 0.6
    assert heard["kept"] == pytest.approx(1)


def test_a_faint_map_is_less_decided_and_a_ragged_one_has_more_outline(witness: Witness) -> None:
    features, values = _moved(_world(), 5, 6), _square(5, 6)
    assert _heard(witness, features, values / 2)["mass"] == pytest.approx(0.5)
    ragged = values * (torch.arange(len(values)) % 2)[:, None]
    heard = _heard(witness, features, ragged)
    assert heard["outline"] < 0.7
    scattered = _square(5, 6) + _square(0, 20, side=3)
    assert _heard(witness, features, scattered)["spread"] < 0.7


def test_memory_falls_frame_by_frame_and_an_anchor_restores_it(witness: Witness) -> None:
    remembered = []
    for slot in range(1, 5):
        features = _world(20 + slot)
        remembered.append(_heard(witness, features, _square(5, 6))["memory"])
        witness.remember(slot, features, _square(5, 6), np.zeros(2, bool))
    assert remembered[0] < 0.5
    assert max(remembered[1:]) < remembered[0]
    features = _moved(_world(), 5, 6)
    witness.remember(5, features, _square(5, 6), FIRST)
    assert witness.memory[0] == 1
    assert witness.hear(features, _square(5, 6), {0: FIRST, 5: FIRST})[0] == pytest.approx(1, abs=1e-3)


def test_the_latest_anchor_that_speaks_of_the_object_counts(witness: Witness) -> None:
    other = _world(4)
    witness.remember(1, other, _square(5, 6), FIRST)
    silent = np.zeros(2, bool)
    row = NAMES.index("likeness")
    assert witness.hear(other, _square(5, 6), {0: FIRST, 1: FIRST})[0, row] == pytest.approx(1, abs=1e-3)
    assert witness.hear(other, _square(5, 6), {0: FIRST, 1: silent})[0, row] < 0.8
    alone = witness.hear(other, _square(5, 6), {1: silent})[0]
    assert alone[row] == 0.5
    assert alone[NAMES.index("back")] == pytest.approx(1)


def test_a_slot_that_is_used_again_forgets_its_portrait(witness: Witness) -> None:
    witness.remember(0, _world(4), _square(5, 6), np.zeros(2, bool))
    assert witness.hear(_world(4), _square(5, 6), {0: FIRST})[0, NAMES.index("own")] == 0.5


def test_nothing_arrived_and_nothing_before_give_no_evidence(objects_of: ObjectsOf, witness: Witness) -> None:
    assert not witness.hear(_world(), torch.zeros(ROWS * COLUMNS, 2), {0: FIRST}).any()
    channels = ChannelSet(objects_of(1), [Anchor(0, (Label(1, np.ones((GRID.height, GRID.width), bool)),))], GRID)
    alone = np.ones(1, bool)
    fresh = Witness(channels, radius=8)
    assert not fresh.hear(_world(), torch.ones(ROWS * COLUMNS, 1), {0: alone}).any()
    # An object that fills the frame has nothing around it, and is judged all the same.
    fresh.remember(0, _world(), torch.ones(ROWS * COLUMNS, 1), alone)
    heard = fresh.hear(_world(), torch.ones(ROWS * COLUMNS, 1), {0: alone})
    assert heard[0, NAMES.index("back")] == pytest.approx(1)


def test_it_continues_from_what_it_remembered(witness: Witness, objects_of: ObjectsOf) -> None:
    features = _world(5)
    witness.hear(features, _square(5, 6), {0: FIRST})
    witness.remember(1, features, _square(5, 6), np.zeros(2, bool))
    again = Witness(
        ChannelSet(
            objects_of(1),
            [Anchor(0, (Label(1, np.ones((GRID.height, GRID.width), bool), keypoints=(Keypoint("a", 1, 1),)),))],
            GRID,
        ),
        radius=8,
    )
    again.remember(0, _moved(_world(), 5, 6), _square(5, 6), FIRST)
    again.remember(1, features, _square(5, 6), np.zeros(2, bool))
    again.restore(witness.memory)
    following = (_moved(_world(), 6, 6), _square(6, 6), {0: FIRST})
    assert torch.equal(again.hear(*following), witness.hear(*following))


def test_both_directions_evidence_is_weighted_as_their_maps_are() -> None:
    forward, backward = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    found = joined(forward, backward, [0, 0.25, 1])
    assert found.dtype == np.float32
    assert found[:, 0] == pytest.approx([0, 0.25, 1])
