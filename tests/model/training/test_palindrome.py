from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.training.cells import centres
from model.training.palindrome import palindrome_loss

pytestmark = pytest.mark.usefixtures("one_thread")


def _features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _step(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    a, b = F.normalize(a.flatten(2).mT, dim=2), F.normalize(b.flatten(2).mT, dim=2)
    return torch.softmax(a @ b.mT / temperature, dim=2)


def test_two_cells_by_hand() -> None:
    # Both frames hold the unit vectors: at T = 1 each step stays with p = e / (e + 1) = 0.7310586.
    frame = torch.eye(2).view(1, 2, 1, 2)
    loss = palindrome_loss([frame, frame], temperature=1.0, dropout=0.0)
    assert loss.item() == pytest.approx(0.499596, abs=1e-5)  # -log(p p + (1 - p)(1 - p)) = -log 0.6067761


def test_longer_walks_and_every_length() -> None:
    a, b, c = (_features(2, 4, 3, 3, seed=i) for i in range(3))
    short = _step(a, b) @ _step(b, a)
    long = _step(a, b) @ _step(b, c) @ _step(c, b) @ _step(b, a)
    losses = [-torch.log(walk.diagonal(dim1=1, dim2=2)).mean() for walk in (short, long)]
    torch.testing.assert_close(palindrome_loss([a, b, c], dropout=0.0), torch.stack(losses).mean())
    torch.testing.assert_close(palindrome_loss([a, b, c], dropout=0.0, every_length=False), losses[1])


def test_an_end_that_is_the_start_changes_nothing() -> None:
    a, b, c = (_features(1, 4, 3, 3, seed=i) for i in range(3))
    torch.testing.assert_close(
        palindrome_loss([a, b, c], end=a, locations=centres((3, 3))[None], dropout=0.0),
        palindrome_loss([a, b, c], dropout=0.0),
    )


def test_walks_arrive_at_the_known_place_of_another_crop() -> None:
    # The other crop is the first frame moved a cell to the right; its first column is new.
    a = F.normalize(_features(1, 64, 4, 5), dim=1)
    end = torch.cat([_features(1, 64, 4, 1, seed=1), a[..., :-1]], dim=3)
    locations = (centres((4, 5)) + torch.tensor([1.0, 0.0]))[None]
    valid = locations[..., 0] <= 4
    right = palindrome_loss([a, a], end=end, locations=locations, valid=valid, temperature=0.02, dropout=0.0)
    assert right.item() == pytest.approx(0, abs=1e-3)
    # Features that know only the place in the frame fail.
    place = F.normalize(_features(1, 64, 4, 5, seed=2), dim=1)
    wrong = palindrome_loss([place, place], end=place, locations=locations, valid=valid, temperature=0.02, dropout=0.0)
    assert wrong > 5


@pytest.mark.parametrize("with_end", [False, True])
def test_some_starts_only_are_as_if_the_others_did_not_count(with_end: bool) -> None:
    a, b, c = (_features(2, 4, 3, 3, seed=i) for i in range(3))
    arrival = {"end": c, "locations": centres((3, 3)).expand(2, 9, 2) + 0.25} if with_end else {}
    valid = torch.tensor([[True, False, True, True, False, False, True, True, True]]).expand(2, 9)
    starts = torch.tensor([7, 1, 3])
    chosen = torch.zeros(9, dtype=torch.bool).index_fill(0, starts, True)
    torch.testing.assert_close(
        palindrome_loss([a, b, c], starts=starts, valid=valid, dropout=0.0, **arrival),
        palindrome_loss([a, b, c], valid=valid & chosen, dropout=0.0, **arrival),
    )


def test_frames_may_differ_in_size() -> None:
    a, b, end = _features(1, 4, 3, 3), _features(1, 4, 5, 6, seed=1), _features(1, 4, 2, 2, seed=2)
    locations = torch.rand(1, 9, 2, generator=torch.Generator().manual_seed(0))
    assert palindrome_loss([a, b], end=end, locations=locations).isfinite()


def test_dropout_is_drawn_from_the_generator_and_survives_cutting_everything() -> None:
    a, b = _features(1, 4, 3, 3).requires_grad_(), _features(1, 4, 3, 3, seed=1)
    first, again, other = (
        palindrome_loss([a, b], dropout=0.5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    cut = palindrome_loss([a, b], dropout=1.0)
    cut.backward()
    assert cut.item() == pytest.approx(2.197225, abs=1e-4)  # uniform: log 9
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_a_walk_without_hope_has_a_finite_loss_and_gradient_under_autocast() -> None:
    frame = torch.eye(32).view(1, 32, 1, 32).clone().requires_grad_()
    end = torch.eye(32).roll(7, dims=0).view(1, 32, 1, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = palindrome_loss([frame, frame], end=end, locations=centres((1, 32))[None], temperature=0.01)
    assert loss.dtype == torch.float32
    assert 20 < loss < 47
    loss.backward()
    assert frame.grad is not None
    assert frame.grad.isfinite().all()


def test_the_gradient_reaches_every_frame() -> None:
    frames = [_features(1, 4, 3, 3, seed=i).requires_grad_() for i in range(3)]
    end = _features(1, 4, 3, 3, seed=4).requires_grad_()
    palindrome_loss(frames, end=end, locations=centres((3, 3))[None] + 0.3).backward()
    for frame in [*frames, end]:
        assert frame.grad is not None
        assert frame.grad.abs().sum() > 0


def test_what_cannot_be_walked_is_refused() -> None:
    a = _features(1, 4, 3, 3)
    with pytest.raises(ValueError, match="two frames"):
        palindrome_loss([a])
    with pytest.raises(ValueError, match="locations"):
        palindrome_loss([a, a], end=a)
