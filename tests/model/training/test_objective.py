from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.lab import rgb_to_lab
from model.training.augment import Photometry
from model.training.autoencoder import ColourAutoencoder
from model.training.batches import Batch, Sampler
from model.training.cells import centres
from model.training.config import NO_PHOTOMETRY, LossWeights, TrainingConfig
from model.training.consistency import consistency_loss
from model.training.crops import correspondence
from model.training.footage import Footage
from model.training.objective import MEAN, STD, Objective
from model.training.palindrome import palindrome_loss

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("two_crop", "palindrome", "reconstruction", "concentration", "orthogonality")
PLAIN = TrainingConfig(
    clips=3,
    photographs=1,
    crop=64,
    whole=96,
    layers=0.0,
    dropout=0.0,
    negatives=0,
    photometry=NO_PHOTOMETRY,
    second_photometry=NO_PHOTOMETRY,
    localise=True,
)


def _config(**changes: Any) -> TrainingConfig:
    return dataclasses.replace(PLAIN, **changes)


def _alone(name: str, **changes: Any) -> TrainingConfig:
    return _config(losses=LossWeights(**{name: 1.0}), **changes)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.mark.parametrize("whole", [False, True], ids=["matching", "joint"])
@pytest.mark.parametrize("name", NAMES)
def test_each_loss_alone_reaches_the_encoder_and_not_the_frozen_autoencoder(
    rendered: Footage, small_encoder: nn.Module, colours: ColourAutoencoder, name: str, whole: bool
) -> None:
    config = _alone(name)
    batch = Sampler(rendered, config).draw(_seeded(), whole=whole)
    losses = Objective(config, small_encoder, colours)(batch, _seeded(), drop_outliers=False)
    assert set(losses.parts) == {name}
    assert losses.total.item() == losses.parts[name].item() > 0
    assert not losses.parts[name].requires_grad
    losses.total.backward()
    for parameter in small_encoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert sum(float(p.grad.abs().sum()) for p in small_encoder.parameters() if p.grad is not None) > 1e-6
    assert all(parameter.grad is None for parameter in colours.parameters())


def test_the_total_is_the_weighed_sum(rendered: Footage, small_encoder: nn.Module, colours: ColourAutoencoder) -> None:
    weights = LossWeights(2.0, 0.5, 3.0, 0.1, 0.25, 4.0)
    config = _config(losses=weights)
    batch = Sampler(rendered, config).draw(_seeded())
    losses = Objective(config, small_encoder, colours)(batch, _seeded())
    assert set(losses.parts) == set(NAMES)
    expected = sum(getattr(weights, name) * losses.parts[name] for name in NAMES)
    torch.testing.assert_close(losses.total, expected)


def test_a_loss_of_weight_0_is_not_computed(rendered: Footage, small_encoder: nn.Module) -> None:
    config = _config(losses=LossWeights(palindrome=1.0, energy=0.0))
    batch = Sampler(rendered, config).draw(_seeded())
    assert set(Objective(config, small_encoder, None)(batch, _seeded()).parts) == {"palindrome"}


def test_reconstruction_needs_its_colours(small_encoder: nn.Module) -> None:
    with pytest.raises(ValueError, match="auto-encoder"):
        Objective(_alone("reconstruction"), small_encoder, None)


@pytest.mark.parametrize("others", [True, False])
def test_two_crop_is_the_consistency_of_both_crops(rendered: Footage, small_encoder: nn.Module, others: bool) -> None:
    config = _alone("two_crop", others=others, safe_radius=1.5, temperature=0.1)
    batch = Sampler(rendered, config).draw(_seeded())
    assert batch.second is not None
    assert batch.locations is not None
    assert batch.valid is not None
    expected = consistency_loss(
        small_encoder(_normalised(batch.first)),
        small_encoder(_normalised(batch.second)),
        batch.locations,
        batch.valid,
        temperature=0.1,
        safe_radius=1.5,
        videos=batch.videos,
        others=others,
    )
    losses = Objective(config, small_encoder, None)(batch, _seeded(4))
    torch.testing.assert_close(losses.total, expected, atol=1e-5, rtol=1e-5)


def test_fewer_negatives_are_easier_to_tell_apart(rendered: Footage, small_encoder: nn.Module) -> None:
    values = []
    for negatives in (1, 16, 0):
        config = _alone("two_crop", negatives=negatives)
        batch = Sampler(rendered, config).draw(_seeded())
        values.append(Objective(config, small_encoder, None)(batch, _seeded()).total.item())
    assert values[0] < values[1] < values[2]


def test_a_few_queries_stand_for_all(rendered: Footage, small_encoder: nn.Module) -> None:
    few, every = (_config(queries=queries) for queries in (24, 0))
    batch = Sampler(rendered, every).draw(_seeded())
    picked = [Objective(few, small_encoder, None)(batch, _seeded(seed)).parts for seed in range(40)]
    full = Objective(every, small_encoder, None)(batch, _seeded()).parts
    for name in ("two_crop", "palindrome"):
        values = torch.stack([parts[name] for parts in picked])
        assert values.std() > 1e-3
        assert values.mean().item() == pytest.approx(full[name].item(), rel=0.05)


def test_the_walk_ends_in_the_second_crop_where_there_is_one(rendered: Footage, small_encoder: nn.Module) -> None:
    config = _config(ahead=2)
    batch = Sampler(rendered, config).draw(_seeded())
    assert batch.second is not None
    assert batch.locations is not None
    assert batch.valid is not None
    first, second, *later = (small_encoder(_normalised(x[:3])) for x in (batch.first, batch.second, *batch.later))
    expected = palindrome_loss(
        [first, *later], end=second, locations=batch.locations[:3], valid=batch.valid[:3], dropout=0.0
    )
    losses = Objective(config, small_encoder, None)(batch, _seeded())
    torch.testing.assert_close(losses.parts["palindrome"], expected.detach(), atol=1e-5, rtol=1e-5)
    alone = _alone("palindrome", ahead=2)
    single = dataclasses.replace(batch, second=None, locations=None, valid=None, first=batch.first[:3])
    losses = Objective(alone, small_encoder, None)(single, _seeded())
    torch.testing.assert_close(losses.total, palindrome_loss([first, *later], dropout=0.0), atol=1e-5, rtol=1e-5)


def test_the_second_crop_has_its_own_photometry(rendered: Footage) -> None:
    seen: list[Tensor] = []

    def encode(images: Tensor) -> Tensor:
        seen.append(images)
        return nn.functional.avg_pool2d(images, 8)

    grey = dataclasses.replace(NO_PHOTOMETRY, grey=1.0)
    config = _config(second_photometry=grey)
    batch = Sampler(rendered, config).draw(_seeded())
    Objective(config, encode, None)(batch, _seeded())  # type: ignore[arg-type]
    first, second, later = seen[0].split([4, 4, 3])
    torch.testing.assert_close(first, _normalised(batch.first))
    torch.testing.assert_close(later, _normalised(batch.later[0]))
    colour = second * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(colour[:, 0], colour[:, 2], atol=1e-5, rtol=0)
    assert (colour - batch.second).abs().max() > 0.05  # type: ignore[operator]


def test_lightness_hides_colour(rendered: Footage) -> None:
    seen: list[Tensor] = []

    def encode(images: Tensor) -> Tensor:
        seen.append(images)
        return nn.functional.avg_pool2d(images, 8)

    config = _config(input="lightness")
    batch = Sampler(rendered, config).draw(_seeded())
    Objective(config, encode, None)(batch, _seeded())  # type: ignore[arg-type]
    light = seen[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(light[:, 0], light[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(light[:, 0], light[:, 2], atol=1e-5, rtol=0)
    torch.testing.assert_close(light[:4, 0], (rgb_to_lab(batch.first)[:, 0] + 1) / 2, atol=1e-5, rtol=0)


def test_the_generator_decides_what_is_drawn(rendered: Footage, small_encoder: nn.Module) -> None:
    config = _config(photometry=Photometry(), second_photometry=Photometry(), dropout=0.2, queries=16, negatives=8)
    batch = Sampler(rendered, config).draw(_seeded())
    objective = Objective(config, small_encoder, None)
    first, again, other = (objective(batch, _seeded(seed)).total for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def _patch_in_frame(ramps: Footage, places: nn.Module, middles: list[tuple[float, float]]) -> tuple[Batch, Tensor]:
    """Patches of 64 x 64 pixels of the first ramp about given pixels, and the frame whole in a square of 96."""
    frames = torch.zeros(len(middles), dtype=torch.int64)
    theta = torch.tensor([[[32.0, 0.0, x], [0.0, 32.0, y]] for x, y in middles])
    patch, whole = ramps.cut(frames, theta, 64), ramps.whole(frames, 96)
    # The frame is 200 x 160, so the square shows it at 0.48 with 20 pixels of reflection above and below.
    middle = torch.tensor([[x * 0.48 / 8 - 0.5, (y + 20) * 0.48 / 8 - 0.5] for x, y in middles])
    return Batch(patch, None, None, None, (), whole, frames), middle


@pytest.mark.parametrize("scale", ["estimated", "fixed"])
def test_a_patch_is_found_where_it_was_cut(
    ramps: Footage, places: nn.Module, colours: ColourAutoencoder, scale: str
) -> None:
    batch, middle = _patch_in_frame(ramps, places, [(60.0, 60.0), (100.0, 80.0), (140.0, 90.0)])
    config = _alone("reconstruction", scale=scale, temperature=2e-4)
    losses = Objective(config, places, colours)(batch, _seeded())
    boxes = losses.example.boxes
    assert boxes is not None
    if scale == "fixed":  # its 8 cells must lie within the frame's 12
        middle = middle.clamp(3.5, 7.5)
    torch.testing.assert_close((boxes[:, :2] + boxes[:, 2:]) / 2, middle, atol=0.15, rtol=0)
    # 64 pixels at 0.48 are 3.84 cells; the released code looks at as many cells as the patch has.
    side = 3.84 if scale == "estimated" else 8.0
    torch.testing.assert_close(boxes[:, 2:] - boxes[:, :2], torch.full((3, 2), side), atol=0.3, rtol=0)


def test_the_target_of_the_joint_stage_is_what_lies_in_the_box(
    ramps: Footage, places: nn.Module, colours: ColourAutoencoder
) -> None:
    batch, _ = _patch_in_frame(ramps, places, [(60.0, 60.0), (140.0, 90.0)])
    losses = Objective(_alone("reconstruction", temperature=2e-4), places, colours)(batch, _seeded())
    example, patch = losses.example, rgb_to_lab(batch.first)
    assert example.truth is not None
    assert example.estimate is not None
    # Found at its own place and scale, the target is the patch again, and so is what is rebuilt of it.
    assert (example.truth - patch).abs().mean() < 0.03
    assert (example.estimate - patch).abs().mean() < 0.08
    assert (example.truth[0] - patch[1]).abs().mean() > 0.2
    assert example.frame is batch.whole
    assert torch.equal(example.patch, batch.first)


def test_while_matching_crops_the_target_is_the_last_later_crop(
    rendered: Footage, small_encoder: nn.Module, colours: ColourAutoencoder
) -> None:
    config = _alone("reconstruction", ahead=2)
    batch = Sampler(rendered, config).draw(_seeded())
    example = Objective(config, small_encoder, colours)(batch, _seeded()).example
    assert example.truth is not None
    assert torch.equal(example.truth, rgb_to_lab(batch.later[-1]))
    assert example.frame is None
    assert example.boxes is None


def test_the_way_back_counts_by_its_share(
    rendered: Footage, small_encoder: nn.Module, colours: ColourAutoencoder
) -> None:
    totals = []
    for energy in (0.0, 0.1, 0.3):
        config = _config(losses=LossWeights(reconstruction=1.0, energy=energy))
        batch = Sampler(rendered, config).draw(_seeded())
        totals.append(Objective(config, small_encoder, colours)(batch, _seeded(), drop_outliers=False).total.item())
    assert totals[1] > totals[0] + 0.01
    assert totals[2] - totals[0] == pytest.approx(3 * (totals[1] - totals[0]), rel=1e-3)


def test_right_features_rebuild_the_target_and_noise_does_not(
    ramps: Footage, places: nn.Module, colours: ColourAutoencoder
) -> None:
    config = _alone("reconstruction", temperature=2e-4, reach=0.1, zoom_change=1.1)
    batch = Sampler(ramps, config).draw(_seeded())
    right = Objective(config, places, colours)(batch, _seeded(), drop_outliers=False).total
    noise = lambda x: torch.randn(len(x), 16, 8, 8, generator=_seeded())  # noqa: E731
    wrong = Objective(config, noise, colours)(batch, _seeded(), drop_outliers=False).total  # type: ignore[arg-type]
    assert right < 0.5 * wrong


def test_outliers_are_dropped_where_told(rendered: Footage, colours: ColourAutoencoder) -> None:
    config = _alone("reconstruction")
    batch = Sampler(rendered, config).draw(_seeded())
    # Black and white frames without any likeness: each sample is above the limit.
    foreign = dataclasses.replace(batch, later=(torch.rand(3, 3, 64, 64, generator=_seeded()).round(),))
    encode = lambda x: nn.functional.avg_pool2d(x, 8)  # noqa: E731
    objective = Objective(config, encode, colours)  # type: ignore[arg-type]
    assert objective(foreign, _seeded(), drop_outliers=False).total > 2.5
    assert objective(foreign, _seeded(), drop_outliers=True).total == 0


@pytest.mark.parametrize("whole", [False, True], ids=["matching", "joint"])
@pytest.mark.parametrize("name", NAMES)
def test_each_loss_alone_lowers_itself(
    rendered: Footage, small_encoder: nn.Module, colours: ColourAutoencoder, name: str, whole: bool
) -> None:
    config = _alone(name, temperature=0.1)
    batch = Sampler(rendered, config).draw(_seeded(2), whole=whole)
    objective = Objective(config, small_encoder, colours)
    optimiser = torch.optim.Adam(small_encoder.parameters(), lr=3e-3)
    values = []
    for _ in range(30):
        total = objective(batch, _seeded(), drop_outliers=False).total
        values.append(total.item())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert values[-1] < 0.93 * values[0]


def test_the_right_features_are_near_the_least_two_crop_loss(ramps: Footage, places: nn.Module) -> None:
    config = _alone("two_crop", temperature=1e-4, others=False)
    batch = Sampler(ramps, config).draw(_seeded())
    right = Objective(config, places, None)(batch, _seeded()).total
    shifted = dataclasses.replace(batch, locations=batch.locations + 1.0)  # type: ignore[operator]
    assert right < 2
    assert Objective(config, places, None)(shifted, _seeded()).total > right + 1


def test_mirrored_samples_match_as_well(ramps: Footage, places: Callable[[Tensor], Tensor]) -> None:
    """The sampler's own correspondence, against a mirror image computed by hand."""
    theta = torch.tensor([[[32.0, 0.0, 100.0], [0.0, 32.0, 80.0]]])
    flipped = torch.tensor([[[-32.0, 0.0, 100.0], [0.0, 32.0, 80.0]]])
    locations, valid = correspondence(theta, flipped, 64)
    expected = centres((8, 8))
    expected[:, 0] = 7 - expected[:, 0]
    torch.testing.assert_close(locations[0], expected, atol=1e-4, rtol=0)
    assert valid.all()
    patch, mirrored = (ramps.cut(torch.tensor([0]), t, 64) for t in (theta, flipped))
    torch.testing.assert_close(places(_normalised(patch)).flip(3), places(_normalised(mirrored)), atol=1e-4, rtol=0)
