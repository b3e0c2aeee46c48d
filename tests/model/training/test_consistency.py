from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.training.cells import centres
from model.training.consistency import consistency_loss, subsample

pytestmark = pytest.mark.usefixtures("one_thread")


def _features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _itself(batch: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return centres(size).expand(batch, -1, -1), torch.ones(batch, size[0] * size[1], dtype=torch.bool)


def test_on_the_centres_it_is_cross_entropy() -> None:
    first, second = _features(1, 8, 3, 4), _features(1, 8, 3, 4, seed=1)
    scores = F.normalize(first.flatten(2)[0].T, dim=1) @ F.normalize(second.flatten(2)[0].T, dim=1).T / 0.07
    torch.testing.assert_close(
        consistency_loss(first, second, *_itself(1, (3, 4))), F.cross_entropy(scores, torch.arange(12))
    )


def test_between_two_cells_by_hand() -> None:
    # One query equal to the first of two orthogonal keys, its place a quarter of the way: scores (1, 0) at T = 1.
    first = torch.tensor([[[[1.0]], [[0.0]]]])
    second = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    place, valid = torch.tensor([[[0.25, 0.0]]]), torch.tensor([[True]])
    loss = consistency_loss(first.view(1, 2, 1), second, place, valid, temperature=1.0)
    # log q = (-0.3132617, -1.3132617); 0.75 (log 0.75 + 0.3132617) + 0.25 (log 0.25 + 1.3132617)
    assert loss.item() == pytest.approx(0.0009265, abs=1e-6)


def test_other_videos_are_negatives_and_the_same_video_is_not() -> None:
    first, second = _features(3, 8, 2, 3), _features(3, 8, 2, 3, seed=1)
    locations, valid = _itself(3, (2, 3))
    videos = torch.tensor([7, 4, 7])
    loss = consistency_loss(first, second, locations, valid, videos=videos)
    queries, keys = F.normalize(first.flatten(2).mT, dim=2), F.normalize(second.flatten(2).mT, dim=2)
    expected = []
    for item, seen in ((0, [0, 1]), (1, [1, 0, 2]), (2, [2, 1])):
        scores = queries[item] @ torch.cat([keys[i] for i in seen]).T / 0.07
        expected.append(F.cross_entropy(scores, torch.arange(6)))
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    alone = consistency_loss(first, second, locations, valid, videos=torch.zeros(3))
    torch.testing.assert_close(alone, consistency_loss(first, second, locations, valid, others=False))
    assert alone < loss < consistency_loss(first, second, locations, valid)


def test_negatives_can_be_picked() -> None:
    first, second = _features(2, 8, 2, 3), _features(2, 8, 2, 3, seed=1)
    args = _itself(2, (2, 3))
    every = consistency_loss(first, second, *args, negatives=torch.arange(6))
    torch.testing.assert_close(every, consistency_loss(first, second, *args))
    few = consistency_loss(first, second, *args, negatives=torch.tensor([1, 4]))
    assert consistency_loss(first, second, *args, others=False) < few < every


def test_within_the_safe_radius_only_cells_with_a_share_count() -> None:
    # A row of five equal keys. At place 2 with radius 1.5, cells 1 and 3 do not count: one match of three.
    second, first = torch.ones(1, 2, 1, 5), torch.ones(1, 2, 1)
    place, valid = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[True]])
    plain = consistency_loss(first, second, place, valid)
    safe = consistency_loss(first, second, place, valid, safe_radius=1.5)
    assert plain.item() == pytest.approx(1.609438)  # log 5
    assert safe.item() == pytest.approx(1.098612)  # log 3
    # At 2.5 both neighbours hold half; cells 1 and 4 are exactly 1.5 away and stay: log 5 less the shares' log 2.
    place = torch.tensor([[[2.5, 0.0]]])
    assert consistency_loss(first, second, place, valid, safe_radius=1.5).item() == pytest.approx(0.916291)


def test_only_valid_cells_count_and_none_is_no_trouble() -> None:
    first, second = _features(1, 8, 2, 3).requires_grad_(), _features(1, 8, 2, 3, seed=1)
    locations, valid = _itself(1, (2, 3))
    valid[0, 1:] = False
    consistency_loss(first, second, locations, valid).backward()
    assert first.grad is not None
    reached = first.grad.flatten(2).abs().sum(dim=(0, 1)) > 0
    assert reached.tolist() == [True] + [False] * 5
    nothing = consistency_loss(first, second, locations, torch.zeros_like(valid))
    nothing.backward()
    assert nothing.item() == 0
    assert first.grad.isfinite().all()


@pytest.mark.parametrize("videos", [None, torch.zeros(2)])
def test_gradients_reach_both_crops_or_only_the_one_not_detached(videos: torch.Tensor | None) -> None:
    first, second = _features(2, 8, 3, 4).requires_grad_(), _features(2, 8, 3, 4, seed=1).requires_grad_()
    locations, valid = _itself(2, (3, 4))
    consistency_loss(first, second, locations + 0.3, valid, videos=videos, safe_radius=2).backward()
    assert first.grad is not None
    assert second.grad is not None
    for grad in (first.grad, second.grad):
        assert grad.isfinite().all()
        assert grad.abs().sum() > 0
    first.grad = second.grad = None
    consistency_loss(first, second.detach(), locations, valid).backward()
    assert first.grad is not None
    assert second.grad is None


def test_subsampling_picks_valid_cells_of_all_three_alike() -> None:
    first = torch.arange(24.0).view(2, 1, 3, 4)
    locations = torch.stack([torch.arange(12.0), -torch.arange(12.0)], dim=1).expand(2, 12, 2)
    valid = torch.zeros(2, 12, dtype=torch.bool)
    valid[0, [2, 5, 9]] = True
    valid[1, :10] = True
    cells, places, kept = subsample(first, locations, valid, 5, torch.Generator().manual_seed(0))
    assert cells.shape == (2, 1, 5)
    assert set(cells[0, 0, :3].tolist()) == {2, 5, 9}
    assert kept.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    torch.testing.assert_close(cells[1, 0] - 12, places[1, :, 0])
    assert len(set(places[1, :, 0].tolist())) == 5
    whole = subsample(first, locations, valid, 100)
    assert whole[0].shape == (2, 1, 12)


def test_it_stays_float32_under_autocast() -> None:
    first, second = _features(2, 64, 4, 4).requires_grad_(), _features(2, 64, 4, 4, seed=1)
    args = _itself(2, (4, 4))
    exact = consistency_loss(first, second, *args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = consistency_loss(first, second, *args)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    loss.backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
