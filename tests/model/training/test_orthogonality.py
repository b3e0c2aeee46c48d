from __future__ import annotations

import pytest
import torch

from model.training.orthogonality import colour_orthogonality, coordinate_orthogonality, cycle
from model.training.transport import affinity, over_reference

pytestmark = pytest.mark.usefixtures("one_thread")


def test_by_hand() -> None:
    # A has columns (1, 0) and (0.5, 0.5): A A^T = [[1.25, 0.25], [0.25, 0.25]], and (2, 4) comes back as (3.5, 1.5).
    weights = torch.tensor([[[1.0, 0.5], [0.0, 0.5]]])
    assert cycle(weights, torch.tensor([[[2.0, 4.0]]])).tolist() == [[[3.5, 1.5]]]
    assert colour_orthogonality(weights, torch.tensor([[[[2.0, 4.0]]]])).item() == 2.0
    # Of one row of two cells x is (-0.5, 0.5) and y is 0: x comes back as (-0.5, 0), so |0| + |0.5| over four numbers.
    assert coordinate_orthogonality(weights, (1, 2)).item() == 0.125


def test_a_one_to_one_match_costs_nothing_and_a_blurred_one_does() -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    one_to_one = torch.eye(12)[order][None]
    assert coordinate_orthogonality(one_to_one, (3, 4)).item() == pytest.approx(0, abs=1e-6)
    assert colour_orthogonality(one_to_one, torch.rand(1, 5, 3, 4)).item() == pytest.approx(0, abs=1e-6)
    assert coordinate_orthogonality(torch.full((1, 12, 12), 1 / 12), (3, 4)).item() > 0.3


def test_energy_counts_not_only_the_place() -> None:
    # Both target cells came from the first reference cell: it comes back twice as strong, the second not at all.
    weights = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert colour_orthogonality(weights, torch.ones(1, 1, 1, 2)).item() == 1.0


def test_the_gradient_reaches_both_frames_also_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 8, 3, 4, generator=generator, requires_grad=True) for _ in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = over_reference(affinity(*features))
        loss = coordinate_orthogonality(weights, (3, 4))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)
