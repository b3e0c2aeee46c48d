from __future__ import annotations

import pytest
import torch

from model.training.autoencoder import ColourAutoencoder, freeze
from model.training.reconstruction import drop_outliers, reconstruct
from model.training.transport import affinity, over_reference

pytestmark = pytest.mark.usefixtures("one_thread")


def _enlarged(features: torch.Tensor) -> torch.Tensor:
    return features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_both_directions_by_hand() -> None:
    # Two reference cells of Lab (0.2, 0, 0) and (0.6, 0.1, 0). The first target cell takes the first, the second half
    # of each: (0.2, 0, 0) and (0.4, 0.05, 0).
    weights = torch.tensor([[[1.0, 0.5], [0.0, 0.5]]])
    reference = torch.tensor([[[[0.2, 0.6]], [[0.0, 0.1]], [[0.0, 0.0]]]])
    target = torch.tensor([[[[0.2, 0.5]], [[0.0, 0.05]], [[0.0, 0.0]]]])
    result = reconstruct(weights, reference, target, _enlarged(reference), _enlarged(target), _enlarged)
    assert result.estimate[0, :, 0, 0::2].tolist() == [pytest.approx([0.2, 0.4]), pytest.approx([0, 0.05]), [0, 0]]
    assert result.forward.item() == pytest.approx(0.05)
    # Back, un-normalised: L (0.2 + 0.25, 0.25), a (0.025, 0.025): mean|dL| = 0.3, mean|da| = 0.05.
    assert result.loss.item() == pytest.approx(0.05 + 0.1 * (0.3 + 10 * 0.05))
    alone = reconstruct(weights, reference, target, _enlarged(reference), _enlarged(target), _enlarged, energy_weight=0)
    assert alone.loss.item() == pytest.approx(0.05)


def test_a_perfect_match_costs_nothing() -> None:
    colours = torch.rand(1, 3, 2, 2)
    weights = torch.eye(4)[None]
    assert reconstruct(weights, colours, colours, _enlarged(colours), _enlarged(colours), _enlarged).loss.item() == 0


def test_outliers_count_as_zero_and_train_nothing() -> None:
    losses = torch.tensor([1.0, 2.5, 2.6, 9.0], requires_grad=True)
    kept, which = drop_outliers(losses)
    assert kept.tolist() == [1.0, 2.5, 0, 0]
    assert which.tolist() == [True, True, False, False]
    kept.sum().backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [1, 1, 0, 0]
    assert drop_outliers(losses, None)[0] is losses
    # The limit is on the whole of a sample's loss, and the mean is over all samples.
    weights, truth = torch.eye(4).expand(2, 4, 4), torch.zeros(2, 3, 4, 4)
    colours = torch.zeros(2, 3, 2, 2)
    colours[0, 0], colours[1, 1] = 0.5, 0.4
    result = reconstruct(weights, colours, colours * 0, truth, truth, _enlarged)
    assert result.kept.tolist() == [True, False]
    assert result.loss.item() == pytest.approx(0.25)


def test_it_trains_the_features_and_not_the_frozen_colours() -> None:
    torch.manual_seed(0)
    autoencoder = freeze(ColourAutoencoder())
    reference, target = torch.rand(2, 3, 16, 16) - 0.5, torch.rand(2, 3, 16, 16) - 0.5
    features = [torch.randn(2, 8, 2, 2, requires_grad=True) for _ in range(2)]
    weights = over_reference(affinity(*features))
    colours = autoencoder.encode(reference), autoencoder.encode(target)
    result = reconstruct(weights, *colours, reference, target, autoencoder.decode, outlier_limit=None)
    result.loss.backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)
    assert all(p.grad is None for p in autoencoder.parameters())
    assert not result.estimate.requires_grad
    assert not result.forward.requires_grad
