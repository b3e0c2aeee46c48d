from __future__ import annotations

import pytest
import torch

from model.lab import lab_l1
from model.training.autoencoder import CHANNELS, ColourAutoencoder, autoencoder_loss, freeze

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def autoencoder() -> ColourAutoencoder:
    torch.manual_seed(0)
    return ColourAutoencoder()


def test_shapes_range_and_size(autoencoder: ColourAutoencoder) -> None:
    lab = torch.rand(2, 3, 16, 32) * 2 - 1
    features = autoencoder.encode(lab)
    assert features.shape == (2, CHANNELS, 2, 4)
    assert (features >= 0).all()
    decoded = autoencoder.decode(features)
    assert decoded.shape == lab.shape
    assert decoded.abs().max() <= 1
    assert sum(p.numel() for p in autoencoder.parameters()) == 1_241_999


def test_padding_reflects(autoencoder: ColourAutoencoder) -> None:
    out = autoencoder(torch.full((1, 3, 32, 32), 0.3))
    torch.testing.assert_close(out, out[:, :, :1, :1].expand_as(out), atol=1e-5, rtol=0)


def test_the_loss_is_the_weighted_distance_to_the_input(autoencoder: ColourAutoencoder) -> None:
    lab = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(autoencoder_loss(autoencoder, lab), lab_l1(autoencoder(lab), lab).mean())


def test_it_trains_every_parameter_and_the_loss_falls(autoencoder: ColourAutoencoder) -> None:
    lab = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4) - 0.5, 32, mode="bilinear")
    optimiser = torch.optim.Adam(autoencoder.parameters(), 1e-3)
    losses = []
    for step in range(12):
        optimiser.zero_grad()
        loss = autoencoder_loss(autoencoder, lab)
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in autoencoder.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_frozen_it_passes_gradients_on_and_takes_none(autoencoder: ColourAutoencoder) -> None:
    frozen = freeze(autoencoder)
    assert frozen is autoencoder
    assert not frozen.training
    features = torch.rand(1, CHANNELS, 2, 2, requires_grad=True)
    frozen.decode(features).sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    assert all(p.grad is None for p in frozen.parameters())
