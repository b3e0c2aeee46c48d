from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.errors import MediaError
from model.training.batches import Batch, Sampler
from model.training.cells import centres, normalised
from model.training.config import LossWeights, TrainingConfig
from model.training.footage import Footage

pytestmark = pytest.mark.usefixtures("one_thread")

Build = Callable[[Sequence[tuple[str, str, Sequence[Tensor]]]], Footage]
FRAME_MS = 125.0
BOTH = LossWeights(two_crop=1.0, palindrome=1.0)
PLAIN = TrainingConfig(clips=4, photographs=2, crop=64, whole=64, layers=0.0, losses=BOTH)


def _config(**changes: Any) -> TrainingConfig:
    return dataclasses.replace(PLAIN, **changes)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tensors(batch: Batch) -> list[Tensor]:
    values = (getattr(batch, field.name) for field in dataclasses.fields(batch))
    return [t for value in values if value is not None for t in (value if isinstance(value, tuple) else (value,))]


@pytest.fixture
def plain_frames(footage_of: Build) -> Callable[..., Footage]:
    """Footage of frames of one colour each, which tells its run (red) and its number in it (green)."""

    def build(*runs: tuple[str, str, int]) -> Footage:
        shots = []
        for at, (name, source, count) in enumerate(runs):
            frames = [torch.tensor([at, k, 0]).byte().expand(8, 8, 3) for k in range(count)]
            shots.append((name, source, frames))
        return footage_of(shots)

    return build


def _seen(images: Tensor) -> list[tuple[int, int]]:
    """The run and the number of the frame that each crop was cut from."""
    return [(int(red), int(green)) for red, green, _ in (images.mean(dim=(2, 3)) * 255).round().tolist()]


def test_the_shapes_of_a_batch(rendered: Footage) -> None:
    batch = Sampler(rendered, _config(ahead=2, layers=0.5)).draw(_seeded())
    assert batch.clips == 4
    assert batch.first.shape == (6, 3, 64, 64)
    assert batch.second is not None
    assert batch.second.shape == (6, 3, 64, 64)
    assert [later.shape for later in batch.later] == [(4, 3, 64, 64)] * 2
    assert batch.whole is None
    assert batch.locations is not None
    assert batch.locations.shape == (6, 64, 2)
    assert batch.valid is not None
    assert batch.valid.shape == (6, 64)
    assert batch.valid.dtype == torch.bool
    assert batch.videos.shape == (6,)
    for images in (batch.first, batch.second, *batch.later):
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert 0.5 < images.max() <= 1 + 1e-5


def test_one_crop_only_where_nothing_needs_two(rendered: Footage) -> None:
    batch = Sampler(rendered, _config(losses=LossWeights(concentration=1.0))).draw(_seeded())
    assert batch.second is None
    assert batch.locations is None
    assert batch.valid is None
    assert len(batch.first) == batch.clips == 4  # and no photographs, which would serve nothing


def test_no_later_frame_where_nothing_needs_it(rendered: Footage) -> None:
    alone = Sampler(rendered, _config(losses=LossWeights(two_crop=1.0)))
    for batch in (alone.draw(_seeded()), alone.draw(_seeded(), whole=True)):
        assert batch.later == ()
        assert batch.whole is None
        assert batch.clips == 0
        assert len(batch.first) == 6
    assert Sampler(rendered, PLAIN).draw(_seeded(), crops_later=False).later == ()


@pytest.mark.parametrize("whole", [False, True])
def test_the_generator_decides_everything(rendered: Footage, whole: bool) -> None:
    sampler = Sampler(rendered, _config(layers=0.5))
    first, again, other = (_tensors(sampler.draw(_seeded(seed), whole=whole)) for seed in (3, 3, 4))
    assert len(first) == len(again) > 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    # And nothing global does: a sampler keeps no state from one draw to the next.
    torch.manual_seed(11)
    assert torch.equal(_tensors(sampler.draw(_seeded(3), whole=whole))[0], first[0])


def test_a_sample_stays_within_one_run_and_photographs_come_last(plain_frames: Callable[..., Footage]) -> None:
    footage = plain_frames(("a.mp4", "x", 6), ("b.mp4", "x", 4), ("c.jpg", "x", 1), ("a.mp4#2", "x", 9))
    sampler = Sampler(footage, _config(ahead=2, clips=5, photographs=3))
    runs = set()
    for seed in range(25):
        batch = sampler.draw(_seeded(seed))
        assert batch.second is not None
        first, second = _seen(batch.first), _seen(batch.second)
        assert first == second  # two crops of the very same frame
        runs.update(run for run, _ in first[5:])
        walks = list(zip(first[:5], *map(_seen, batch.later), strict=True))
        for walk in walks:
            assert len({run for run, _ in walk}) == 1
            numbers = [number for _, number in walk]
            assert numbers in (sorted(set(numbers)), sorted(set(numbers), reverse=True))
            assert walk[0][0] != 2  # the photograph is no clip
        # The shots of a file are one video.
        files = torch.tensor([run % 3 for run, _ in first])
        assert torch.equal(batch.videos[:, None] == batch.videos, files[:, None] == files)
    assert runs == {0, 1, 2, 3}


@pytest.mark.parametrize("ahead", [1, 3])
def test_gaps_keep_to_their_bounds_to_half_a_frame(plain_frames: Callable[..., Footage], ahead: int) -> None:
    footage = plain_frames(("a.mp4", "x", 60))
    sampler = Sampler(footage, _config(ahead=ahead, gap_ms=(250.0, 750.0), clips=16, photographs=0))
    gaps, starts = [], []
    for seed in range(20):
        batch = sampler.draw(_seeded(seed))
        walks = torch.tensor([[number for _, number in _seen(images[:16])] for images in (batch.first, *batch.later)])
        gaps.append(walks.diff(dim=0) * FRAME_MS)
        starts.append(walks[0])
    steps = torch.cat(gaps, dim=1)
    assert steps.abs().min() >= 250 - FRAME_MS / 2
    assert steps.abs().max() <= 750 + FRAME_MS / 2
    assert set(steps.abs().flatten().tolist()) >= {250.0, 375.0, 500.0, 625.0, 750.0}
    assert 0.35 < (steps[0] > 0).float().mean() < 0.65  # forwards and backwards in time
    assert (steps.sign() == steps[:1].sign()).all()
    # Every frame is a start of some walk, the first and the last too.
    assert torch.cat(starts).min() <= 1
    assert torch.cat(starts).max() >= 58


@pytest.mark.parametrize(("count", "ahead", "walk"), [(2, 1, [0, 1]), (3, 2, [0, 1, 2]), (4, 3, [0, 1, 2, 3])])
@pytest.mark.parametrize("gap_ms", [(1.0, 2.0), (5000.0, 9000.0)], ids=["closer than frames are", "longer than it is"])
def test_in_a_run_as_short_as_the_walk_every_frame_is_another(
    plain_frames: Callable[..., Footage], count: int, ahead: int, walk: list[int], gap_ms: tuple[float, float]
) -> None:
    sampler = Sampler(plain_frames(("a.mp4", "x", count)), _config(ahead=ahead, clips=12, photographs=0, gap_ms=gap_ms))
    batch = sampler.draw(_seeded())
    walks = zip(*([number for _, number in _seen(images[:12])] for images in (batch.first, *batch.later)), strict=True)
    assert {tuple(walk) for walk in walks} == {tuple(walk), tuple(reversed(walk))}


def test_a_run_shorter_than_the_walk_repeats_a_frame(plain_frames: Callable[..., Footage]) -> None:
    batch = Sampler(plain_frames(("a.mp4", "x", 2)), _config(ahead=3, clips=12)).draw(_seeded())
    assert {number for images in batch.later for _, number in _seen(images)} == {0, 1}


def test_neighbours_are_found_by_time_and_not_by_number(footage_of: Build) -> None:
    frames = [torch.tensor([0, k, 0]).byte().expand(8, 8, 3) for k in range(6)]
    footage = footage_of([("a.mp4", "x", frames)])
    footage = dataclasses.replace(footage, times_ms=torch.tensor([0.0, 10.0, 20.0, 1000.0, 1010.0, 2000.0]))
    sampler = Sampler(footage, _config(clips=12, photographs=0, gap_ms=(980.0, 1000.0)))
    pairs = set()
    for seed in range(20):
        batch = sampler.draw(_seeded(seed))
        numbers = [[number for _, number in _seen(images)] for images in (batch.first, batch.later[0])]
        pairs.update(tuple(sorted(pair)) for pair in zip(*numbers, strict=True))
    assert pairs <= {(0, 3), (1, 3), (2, 3), (2, 4), (3, 5), (1, 4), (4, 5)}
    assert {(0, 3), (3, 5)} <= pairs


def _drawn(footage: Footage, weights: dict[str, float] | None, **changes: Any) -> tuple[Tensor, Tensor]:
    """How often each run was drawn, as a clip and as a photograph; shares."""
    sampler = Sampler(footage, _config(clips=40, photographs=40, **changes), weights)
    runs = [run for seed in range(8) for run, _ in _seen(sampler.draw(_seeded(seed)).first)]
    drawn = torch.tensor(runs).view(8, 2, 40)
    count = len(footage.runs)
    return tuple(drawn[:, k].flatten().bincount(minlength=count) / 320 for k in (0, 1))  # type: ignore[return-value]


def test_sources_are_drawn_by_their_weights(plain_frames: Callable[..., Footage]) -> None:
    footage = plain_frames(("a", "one", 2), ("b", "one", 6), ("c", "two", 20), ("d", "stills", 1))
    clips, photographs = _drawn(footage, {"one": 3.0, "two": 1.0, "stills": 4.0})
    # Within a source by frames: 2 and 6 of 8.
    torch.testing.assert_close(clips, torch.tensor([3 / 16, 9 / 16, 4 / 16, 0]), atol=0.08, rtol=0)
    torch.testing.assert_close(photographs, torch.tensor([3 / 32, 9 / 32, 4 / 32, 16 / 32]), atol=0.08, rtol=0)


def test_sources_without_a_weight_count_by_the_root_of_their_size(plain_frames: Callable[..., Footage]) -> None:
    footage = plain_frames(("a", "small", 4), ("b", "large", 36))
    clips, photographs = _drawn(footage, None)
    for drawn in (clips, photographs):
        torch.testing.assert_close(drawn, torch.tensor([0.25, 0.75]), atol=0.08, rtol=0)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_source_of_weight_0_is_never_drawn(plain_frames: Callable[..., Footage], at: int) -> None:
    sources = ["first", "second", "third"]
    footage = plain_frames(*((f"{source}.mp4", source, 3) for source in sources))
    clips, photographs = _drawn(footage, {sources[at]: 0.0})
    assert clips[at] == photographs[at] == 0
    assert (clips > 0).sum() == (photographs > 0).sum() == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"lost": 1.0}, "no source lost.*Sources are: x, y"),
        ({"x": -1.0}, "0 or more"),
        ({"x": float("nan")}, "0 or more"),
        ({"x": float("inf")}, "0 or more"),
        ({"x": 0.0, "y": 0.0}, "above 0"),
    ],
)
def test_weights_that_cannot_be_used(
    plain_frames: Callable[..., Footage], weights: dict[str, float], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        Sampler(plain_frames(("a.mp4", "x", 3), ("b.mp4", "y", 3)), PLAIN, weights)


def test_a_source_that_is_to_be_left_out_may_be_missing(plain_frames: Callable[..., Footage]) -> None:
    clips, _ = _drawn(plain_frames(("a.mp4", "x", 3)), {"lost": 0.0})
    assert clips.tolist() == [1.0]


def test_clips_want_footage_that_moves(plain_frames: Callable[..., Footage]) -> None:
    stills = plain_frames(("a.jpg", "x", 1), ("b.jpg", "x", 1))
    with pytest.raises(MediaError, match="clips=0") as caught:
        Sampler(stills, PLAIN)
    assert caught.value.slug == "no-footage"
    with pytest.raises(MediaError, match="moves"):
        Sampler(plain_frames(("a.mp4", "x", 3), ("b.jpg", "y", 1)), PLAIN, {"x": 0.0})
    alone = Sampler(stills, _config(clips=0, losses=LossWeights(two_crop=1.0))).draw(_seeded())
    assert len(alone.first) == 2


def test_footage_without_a_frame_is_refused(footage_of: Build) -> None:
    with pytest.raises(MediaError, match="no frame"):
        Sampler(footage_of([]), PLAIN)


@pytest.mark.parametrize("flip", [0.0, 1.0, 0.5])
def test_matching_cells_show_the_same_place_flipped_or_not(ramps: Footage, flip: float) -> None:
    batch = Sampler(ramps, _config(clips=6, photographs=6, flip=flip)).draw(_seeded(1))
    assert batch.second is not None
    assert batch.locations is not None
    assert batch.valid is not None
    grid = normalised(batch.locations, (8, 8)).view(-1, 8, 8, 2)
    cells = [F.avg_pool2d(images, 8)[:, :2] for images in (batch.first, batch.second)]
    found = F.grid_sample(cells[1], grid, align_corners=False, padding_mode="border").flatten(2).mT
    # By the frame's edge a cell sees reflections, whose colours mean nothing.
    inner = batch.valid & ((cells[0].flatten(2).mT - 0.5).abs() < 0.4).all(dim=2) & ((found - 0.5).abs() < 0.4).all(2)
    assert inner.sum() > 200
    torch.testing.assert_close(found[inner], cells[0].flatten(2).mT[inner], atol=6e-3, rtol=0)
    # A sample is mirrored whole, its later frames too: red grows to the right unless it is.
    mirrored = [(images[:6, 0, :, 40] < images[:6, 0, :, 24]).all(dim=1) for images in (batch.first, *batch.later)]
    assert torch.equal(mirrored[0], mirrored[1])
    assert mirrored[0].float().mean() == flip or flip == 0.5


@pytest.mark.parametrize("count", [1.0, 2.0])
def test_layers_put_other_samples_in_front_and_keep_matches_exact(ramps: Footage, count: float) -> None:
    plain, layered = (
        Sampler(ramps, _config(clips=8, photographs=8, flip=0.0, layers=layers)).draw(_seeded(2))
        for layers in (0.0, count)
    )
    assert plain.locations is not None
    assert layered.locations is not None
    assert layered.valid is not None
    assert layered.second is not None
    # The crops are the same but for the pieces.
    changed = (plain.first - layered.first).abs().amax(dim=1) > 0.02
    assert 0.03 < changed.float().mean() < 0.6
    moved = (plain.locations - layered.locations).norm(dim=2) > 0.01
    assert moved.sum() > 50
    assert (plain.later[0] - layered.later[0]).abs().max() > 0.05
    # Matches are exact in the pieces as behind them, but for cells at an edge, which show both.
    cells = [F.avg_pool2d(images[:, :2, 3:, 3:], 2, stride=8) for images in (layered.first, layered.second)]
    grid = (normalised(layered.locations, (8, 8))).view(-1, 8, 8, 2)
    found = F.grid_sample(layered.second[:, :2], grid, align_corners=False).flatten(2).mT
    error = (found - cells[0].flatten(2).mT).abs().amax(dim=2)
    for part in (layered.valid & moved, layered.valid & ~moved):
        assert part.sum() > 20
        assert (error[part] < 0.02).float().mean() > 0.85


def test_a_piece_shows_the_next_samples_first_frame(plain_frames: Callable[..., Footage]) -> None:
    footage = plain_frames(("a.mp4", "x", 250), ("b.mp4", "x", 250))
    config = _config(clips=8, photographs=8)
    plain, layered = (
        Sampler(footage, dataclasses.replace(config, layers=layers)).draw(_seeded(4)) for layers in (0.0, 1.0)
    )
    front = plain.first.roll(-1, dims=0)  # of one colour each
    for before, after in ((plain.first, layered.first), (plain.later[0], layered.later[0])):
        shown = front[: len(before)]
        own, other = ((after - picture).abs().amax(dim=1) for picture in (before, shown))
        assert (own > 0.02).any(dim=2).any(dim=1).float().mean() > 0.7
        assert (other < 1e-4).float().mean() > 0.05
        # Nothing but the two, and mixtures of them over the pixel at the edge.
        assert ((own < 1e-4) | (other < 1e-4)).float().mean() > 0.93
        least, most = torch.minimum(before, shown) - 1e-4, torch.maximum(before, shown) + 1e-4
        assert ((after >= least) & (after <= most)).all()


def test_whole_frames_are_the_last_ones_unlayered_and_mirrored_with_their_sample(ramps: Footage) -> None:
    config = _config(clips=6, photographs=2, ahead=2, layers=1.0, whole=128)
    batch = Sampler(ramps, config).draw(_seeded(3), whole=True)
    assert batch.whole is not None
    assert batch.whole.shape == (6, 3, 128, 128)
    assert batch.clips == 6
    assert len(batch.later) == 1  # of the last frame no crop is cut
    plain = Sampler(ramps, dataclasses.replace(config, layers=0.0)).draw(_seeded(3), whole=True)
    assert torch.equal(batch.first[:6], plain.first[:6])
    assert torch.equal(batch.later[0], plain.later[0])
    assert not torch.equal(batch.first[6:], plain.first[6:])  # pieces are left to the photographs
    expected = {}
    for run in ramps.runs:
        whole = ramps.whole(torch.tensor([run.first]), 128)[0]
        expected[run.name, False], expected[run.name, True] = whole, whole.flip(2)
    for picture, crop in zip(batch.whole, batch.first[:6], strict=True):
        nearest = min(expected, key=lambda key: float((expected[key] - picture).abs().mean()))
        torch.testing.assert_close(picture, expected[nearest], atol=1e-3, rtol=0)
        assert bool((crop[0, :, 40] < crop[0, :, 24]).all()) == nearest[1]
    assert set(expected) == {(run.name, flag) for run in ramps.runs for flag in (False, True)}


def test_whole_frames_show_the_frame_that_the_walk_ends_in(plain_frames: Callable[..., Footage]) -> None:
    footage = plain_frames(("a.mp4", "x", 30), ("b.mp4", "x", 30))
    sampler = Sampler(footage, _config(clips=8, ahead=2, losses=LossWeights(palindrome=1.0)))
    with_crops, with_whole = sampler.draw(_seeded(5)), sampler.draw(_seeded(5), whole=True)
    assert with_whole.whole is not None
    assert _seen(with_whole.whole) == _seen(with_crops.later[1])
    assert _seen(with_whole.later[0]) == _seen(with_crops.later[0])


def test_a_sampler_on_frames_smaller_than_a_crop_still_works(footage_of: Build) -> None:
    noise = torch.randint(0, 256, (3, 20, 31, 3), generator=_seeded(), dtype=torch.uint8)
    batch = Sampler(footage_of([("a.mp4", "x", list(noise))]), _config(layers=0.5)).draw(_seeded())
    assert all(images.isfinite().all() for images in _tensors(batch)[:4])


def test_centres_are_where_a_still_pair_of_crops_says(ramps: Footage) -> None:
    """With no difference between the two crops every cell lies where it is."""
    config = _config(zoom_change=1.0, rotation_degrees=0.0, shear=0.0, aspect=1.0, reach=0.0)
    batch = Sampler(ramps, config).draw(_seeded())
    assert batch.locations is not None
    assert batch.valid is not None
    torch.testing.assert_close(batch.locations, centres((8, 8)).expand(6, 64, 2), atol=1e-3, rtol=0)
    assert batch.valid.all()
