from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from model.training.config import TrainingConfig
from model.training.footage import Footage
from model.training.heldout import LIMIT, HeldOut, measure

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = TrainingConfig(crop=64)


def _noise(images: Tensor) -> Tensor:
    """Features that know nothing."""
    generator = torch.Generator().manual_seed(int(images.sum() * 1000))
    return torch.randn(len(images), 16, images.shape[2] // 8, images.shape[3] // 8, generator=generator)


def _place_in_the_crop(images: Tensor) -> Tensor:
    """Features that know where in the crop they are and nothing else."""
    side = images.shape[2] // 8
    return torch.eye(side * side).view(1, side * side, side, side).expand(len(images), -1, -1, -1)


def test_right_features_err_by_no_more_than_the_cell_that_they_are_rounded_to(
    ramps: Footage, places: Callable[[Tensor], Tensor]
) -> None:
    found = measure(places.of_pixels, ramps, config=SMALL)  # type: ignore[attr-defined]
    # A place anywhere in a cell is 0.38 cells from its centre on average; the later crop may be of another scale.
    assert found.crop_error is not None
    assert 0.3 < found.crop_error < 0.5
    assert found.cycle_error is not None
    assert found.cycle_error < 1.0


def test_features_that_know_nothing_err_by_cells(ramps: Footage) -> None:
    found = measure(_noise, ramps, config=SMALL)
    assert found.crop_error is not None
    assert found.cycle_error is not None
    # Two random places of a grid of 8 by 8 are 4.1 cells apart on average.
    assert 3.5 < found.crop_error < 4.8
    # Forth and back by the same scores, even noise finds a cell's mutual best match now and then.
    assert 1.5 < found.cycle_error < 3


def test_the_place_in_the_crop_does_not_help_the_crop_error(ramps: Footage) -> None:
    found = measure(_place_in_the_crop, ramps, config=SMALL)
    assert found.crop_error is not None
    assert found.crop_error > 1.2
    assert found.cycle_error == 0  # which is why the two are looked at together


def test_distances_are_cut_off(ramps: Footage) -> None:
    found = measure(lambda x: torch.ones(len(x), 1, x.shape[2] // 8, x.shape[3] // 8), ramps)  # crops of 24 cells
    assert found.cycle_error is not None
    # All ties go to the first cell, from which the mean over 24 by 24 cells, cut at 8, is hardly below 8.
    assert 7.0 < found.cycle_error <= LIMIT


def test_the_same_footage_and_seed_give_the_same_numbers(
    rendered: Footage, ramps: Footage, places: Callable[[Tensor], Tensor]
) -> None:
    encode = places.of_pixels  # type: ignore[attr-defined]
    torch.manual_seed(5)
    first = measure(encode, rendered, config=SMALL, samples=16)
    torch.manual_seed(6)
    assert measure(encode, rendered, config=SMALL, samples=16) == first
    assert measure(encode, rendered, config=SMALL, samples=16, seed=1) != first
    # However it was trained: with layers, colours, one kind of loss.
    other = dataclasses.replace(SMALL, layers=0.0, flip=0.0, clips=1, zoom=(1.0, 1.0), recipe="mine")
    assert measure(encode, rendered, config=other, samples=16) == first


def test_photographs_have_no_cycle(footage_of: Callable[[Sequence[tuple[str, str, list[Tensor]]]], Footage]) -> None:
    picture = torch.randint(0, 256, (90, 120, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = measure(_noise, footage_of([("a.jpg", "x", [picture])]), config=SMALL, samples=8)
    assert found.crop_error is not None
    assert found.cycle_error is None


def test_no_footage_has_no_error(footage_of: Callable[[Sequence[tuple[str, str, list[Tensor]]]], Footage]) -> None:
    assert measure(_noise, footage_of([])) == HeldOut(None, None)


def test_measuring_takes_no_gradient(rendered: Footage, small_encoder: torch.nn.Module) -> None:
    seen = []

    def encode(images: Tensor) -> Tensor:
        features: Tensor = small_encoder(images)
        seen.append(features.requires_grad)
        return features

    measure(encode, rendered, config=SMALL, samples=8)
    assert seen == [False] * 3
