from __future__ import annotations

import numpy as np
import pytest
import torch

from model.cell_colours import ColourFeatures, cell_colours
from model.lab import UNITS

CPU = torch.device("cpu")


def test_a_cell_s_colour_is_the_mean_of_its_pixels_in_lab() -> None:
    picture = torch.zeros(2, 3, 16, 24)
    picture[0, :, :8, :8] = 255.0
    picture[1, 0, 8:, 16:] = 255.0
    picture[1, 0, 8, 16] = 191.0  # one of 64: 1 less on average
    found = cell_colours(picture)
    assert found.shape == (2, 2, 3, 3)
    lab = [(float(value) + shift) * unit for value, shift, unit in zip(found[0, 0, 0], (1, 0, 0), UNITS, strict=True)]
    assert lab == pytest.approx([100, 0, 0], abs=0.05)
    red = [(float(value) + shift) * unit for value, shift, unit in zip(found[1, 1, 2], (1, 0, 0), UNITS, strict=True)]
    assert red == pytest.approx([53.0, 79.9, 66.9], abs=0.3)


def test_features_are_of_length_one_and_alike_as_a_gaussian_of_the_distance_says() -> None:
    features = ColourFeatures(CPU)
    units = torch.tensor(UNITS)
    here = torch.tensor([0.1, 0.2, -0.1])
    rng = np.random.default_rng(0)
    apart = torch.from_numpy(rng.normal(size=(500, 3)).astype(np.float32))
    apart *= torch.from_numpy(rng.uniform(0, 30, (500, 1)).astype(np.float32)) / apart.norm(dim=1, keepdim=True)
    found = features(here + apart / units)
    assert found.shape == (500, features.channels)
    assert torch.allclose(found.norm(dim=1), torch.ones(500), atol=1e-5)
    alike = found @ features(here)
    expected = torch.exp(-(apart**2).sum(dim=1) / (2 * 8.0**2))
    assert float((alike - expected).square().mean().sqrt()) < 0.15
    assert float(features(here) @ features(here)) == pytest.approx(1, abs=1e-5)
    close = expected > 0.5
    assert float((alike - expected)[close].abs().max()) < 0.15, "where it matters it is better than far away"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_beside_features_the_share_says_whose_similarity_counts(dtype: torch.dtype) -> None:
    features = torch.nn.functional.normalize(torch.rand(2, 2, 8), dim=-1).to(dtype)
    colours = torch.zeros(2, 2, 3)
    colours[0, 0, 0] = 1.0  # 50 units lighter than the others
    found = ColourFeatures(CPU).beside(features.float(), colours, 0.25, dtype)
    assert found.dtype == dtype
    assert found.is_contiguous()
    flat, alone = found.flatten(0, 1).float(), features.flatten(0, 1).float()
    assert torch.allclose(flat.norm(dim=1), torch.ones(4), atol=0.01)
    expected = 0.75 * (alone @ alone.T)
    assert torch.allclose((flat @ flat.T)[1:, 1:], expected[1:, 1:] + 0.25, atol=0.01)
    assert float((flat @ flat.T - expected)[0, 1:].max()) < 0.15
