from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.affinity import dense_matches
from model.training.transport import affinity, drop_edges, over_reference, over_target, transport, window

pytestmark = pytest.mark.usefixtures("one_thread")


def _features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_by_hand() -> None:
    # Reference cells (1, 0) and (0, 2); target cells (3, 4) and (0, 1).
    reference = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    target = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]]])
    torch.testing.assert_close(affinity(reference, target, 0.5), torch.tensor([[[1.2, 0.0], [1.6, 2.0]]]))
    raw = affinity(reference, target, 1.0, normalise=False)
    assert raw.tolist() == [[[3, 0], [8, 2]]]


@pytest.mark.parametrize("radius", [1, 2, 20])
def test_it_is_the_propagators_affinity(radius: int) -> None:
    size = (4, 5)
    reference, target = _features(1, 6, *size), _features(1, 6, *size, seed=1)
    matches = dense_matches(
        F.normalize(target, dim=1)[0].permute(1, 2, 0),
        F.normalize(reference, dim=1).permute(0, 2, 3, 1),
        radius=radius,
        top_k=20,
        temperature=0.07,
    )
    dense = torch.zeros(20, 20).scatter_(0, matches.sources.T, matches.weights.T)
    weights = over_reference(affinity(reference, target, candidates=window(size, radius)))
    torch.testing.assert_close(weights[0], dense, atol=1e-5, rtol=1e-4)


def test_each_softmax_adds_to_one_over_its_own_axis() -> None:
    scores = affinity(_features(2, 6, 3, 3), _features(2, 6, 4, 5, seed=1))
    assert scores.shape == (2, 9, 20)
    torch.testing.assert_close(over_reference(scores).sum(dim=1), torch.ones(2, 20))
    torch.testing.assert_close(over_target(scores).sum(dim=2), torch.ones(2, 9))


def test_transport_by_hand() -> None:
    weights = torch.tensor([[[1.0, 0.25, 0.0], [0.0, 0.75, 1.0]]])
    values = torch.tensor([[[[4.0, 8.0]]]])
    assert transport(weights, values).tolist() == [[[4, 7, 8]]]
    assert transport(weights, values, (3, 1)).shape == (1, 1, 3, 1)
    assert transport(weights.mT, torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [[[1.5, 4.5]]]


def test_a_permutation_is_found_and_carried() -> None:
    reference = F.normalize(_features(1, 64, 4, 4), dim=1)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    target = reference.flatten(2)[:, :, order].view(1, 64, 4, 4)
    values = torch.arange(16.0).view(1, 1, 4, 4)
    carried = transport(over_reference(affinity(reference, target, 0.01)), values)
    torch.testing.assert_close(carried[0, 0], order.float(), atol=1e-3, rtol=0)


def test_dropped_edges_get_no_weight_and_an_empty_row_stays_finite() -> None:
    scores = affinity(_features(1, 6, 8, 8), _features(1, 6, 8, 8, seed=1))
    dropped = drop_edges(scores, 0.25, torch.Generator().manual_seed(0))
    gone = dropped != scores
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (over_target(dropped)[gone] == 0).all()
    assert torch.equal(drop_edges(scores, 0.25, torch.Generator().manual_seed(0)), dropped)
    assert drop_edges(scores, 0.0) is scores
    torch.testing.assert_close(over_target(drop_edges(scores, 1.0)), torch.full_like(scores, 1 / 64))


def test_a_window_reaches_its_radius_inclusively() -> None:
    near = window((3, 4), 1)
    assert near[5].nonzero().flatten().tolist() == [1, 4, 5, 6, 9]
    assert torch.equal(near, near.T)


def test_gradients_reach_features_and_values() -> None:
    reference, target = _features(1, 6, 3, 3).requires_grad_(), _features(1, 6, 3, 3, seed=1).requires_grad_()
    values = _features(1, 2, 3, 3, seed=2).requires_grad_()
    transport(over_reference(affinity(reference, target)), values).square().sum().backward()
    for tensor in (reference, target, values):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_under_autocast_scores_are_float32_of_bfloat16_products() -> None:
    reference, target = _features(1, 32, 4, 4), _features(1, 32, 4, 4, seed=1)
    exact = affinity(reference, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = affinity(reference, target)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, exact)
    torch.testing.assert_close(scores, exact, atol=0.2, rtol=0)
