from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.encoder import Encoder
from model.errors import MediaError, ModelError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.rendered import render_clip, write_clip
from model.training.augment import lightness
from model.training.autoencoder import ColourAutoencoder
from model.training.config import LossWeights, TrainingConfig, find_recipe
from model.training.footage import Footage
from model.training.sources import read_footage
from model.training.state import load_state, save_state
from model.training.trainer import Budget, Step, Trainer, encoder_function

pytestmark = pytest.mark.usefixtures("one_thread")

# As little as the network takes, and still two crops of a frame and a walk.
TINY = TrainingConfig(clips=2, photographs=0, crop=64, whole=64, rising=1)
PAPER = dataclasses.replace(find_recipe("uvc"), clips=1, crop=64, whole=64, rising=1, autoencoder_share=0.25)


def _trainer(footage: Footage, config: TrainingConfig = TINY, steps: int = 3, **options: Any) -> Trainer:
    return Trainer(config, footage, Budget(steps=steps), device="cpu", **options)


def _numbers(step: Step) -> tuple[int, str, float, float, dict[str, float]]:
    losses = {name: value.item() for name, value in step.losses.items()}
    return step.number, step.phase, step.learning_rate, step.total.item(), losses


def _copied(state: dict[str, Any], name: str) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in state[name].items()}


def test_a_run_of_some_steps(rendered: Footage) -> None:
    trainer = _trainer(rendered)
    steps = list(trainer.run())
    assert [step.number for step in steps] == [0, 1, 2]
    assert [step.progress for step in steps] == pytest.approx([1 / 3, 2 / 3, 1])
    assert {step.phase for step in steps} == {"matching"}
    assert {step.samples for step in steps} == {2}
    # A cosine over the run, on the progress before each step: 1, (1 + cos 60) / 2, (1 + cos 120) / 2.
    assert [step.learning_rate / TINY.learning_rate for step in steps] == pytest.approx([1, 0.75, 0.25])
    assert 0 < steps[0].seconds < steps[1].seconds < steps[2].seconds == trainer.seconds
    for step in steps:
        assert set(step.losses) == {"two_crop", "palindrome"}
        assert step.total.isfinite()
        assert not step.total.requires_grad
        assert step.example is not None
    assert trainer.autoencoder is None
    assert list(trainer.run()) == []


def test_photographs_train_too(rendered: Footage) -> None:
    config = dataclasses.replace(TINY, clips=0, photographs=2, losses=LossWeights(two_crop=1.0))
    (step,) = _trainer(rendered, config, steps=1).run()
    assert set(step.losses) == {"two_crop"}
    assert step.samples == 2


def test_the_seed_decides_the_run_and_nothing_global_does(rendered: Footage) -> None:
    runs = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        trainer = _trainer(rendered, steps=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        runs.append([step.total.item() for step in trainer.run()])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_every_step_draws_anew(rendered: Footage) -> None:
    """With weights that do not move, losses differ from step to step by what was drawn alone."""
    config = dataclasses.replace(TINY, learning_rate=1e-12, losses=LossWeights(palindrome=1.0))
    totals = [step.total.item() for step in _trainer(rendered, config).run()]
    assert len(set(totals)) == 3


def test_the_averaged_weights_are_the_result(rendered: Footage) -> None:
    trainer = _trainer(rendered, dataclasses.replace(TINY, ema=0.998), steps=2)
    first = _copied(trainer.state(), "encoder")
    run = trainer.run()
    next(run)
    now = _copied(trainer.state(), "encoder")
    # The first step's decay is a tenth, whatever the config's, so that random weights are soon forgotten.
    for name, value in trainer.encoder.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.1 * first[name] + 0.9 * now[name], msg=name)
    assert trainer.encoder.bn1.running_mean.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert not any(parameter.requires_grad for parameter in trainer.encoder.parameters())
    assert not trainer.encoder.training


def test_without_averaging_the_last_weights_are_the_result(rendered: Footage) -> None:
    trainer = _trainer(rendered, dataclasses.replace(TINY, ema=0.0), steps=2)
    list(trainer.run())
    state = trainer.state()
    for name, value in trainer.encoder.state_dict().items():
        assert torch.equal(value, state["encoder"][name])
    assert not trainer.encoder.training


def test_minutes_are_those_spent_in_steps(rendered: Footage) -> None:
    budget = Budget(minutes=0.02)
    trainer = Trainer(dataclasses.replace(TINY, clips=1), rendered, budget, device="cpu")
    began, idle, rates = time.monotonic(), 0.0, []
    for step in trainer.run():
        rates.append(step.learning_rate)
        if idle < 1.5:  # longer than the whole budget
            time.sleep(0.5)
            idle += 0.5
    assert step.progress == 1
    assert 1.2 <= trainer.seconds <= time.monotonic() - began - idle + 0.01
    assert len(rates) > 1
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "options",
    [{}, {"steps": 3, "minutes": 1.0}, {"steps": 0}, {"minutes": 0.0}, {"minutes": -1.0}, {"minutes": float("nan")}],
)
def test_a_budget_is_a_number_of_steps_or_of_minutes(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="--steps") as caught:
        Budget(**options)
    assert caught.value.slug == "bad-config"


def test_progress_of_a_budget() -> None:
    assert Budget(steps=4).progress(1, 1e9) == 0.25
    assert Budget(minutes=2.0).progress(10**9, 30.0) == 0.25
    assert Budget(minutes=2.0).progress(0, 500.0) == 1


# Of the paper's: while its auto-encoder is trained, and in its joint stage.
@pytest.mark.parametrize(("config", "at"), [(TINY, 2), (PAPER, 1), (PAPER, 3)], ids=["full", "uvc at 1", "uvc at 3"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    rendered: Footage, tmp_path: Path, config: TrainingConfig, at: int
) -> None:
    whole = _trainer(rendered, config, steps=5)
    expected = [_numbers(step) for step in whole.run()]
    begun = _trainer(rendered, config, steps=5)
    run = begun.run()
    seen = [_numbers(next(run)) for _ in range(at)]
    save_state(tmp_path / "state.pt", begun.state())
    next(run)  # what came after the state was saved is lost, and done again
    resumed = _trainer(rendered, config, steps=5)
    resumed.restore(load_state(tmp_path / "state.pt"))
    assert resumed.seconds > 0
    seen += [_numbers(step) for step in resumed.run()]
    assert seen == expected
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(value, resumed.encoder.state_dict()[name]), name


def test_a_longer_budget_goes_on_from_a_finished_run(rendered: Footage) -> None:
    short = _trainer(rendered, steps=1)
    list(short.run())
    longer = _trainer(rendered, steps=3)
    longer.restore(short.state())
    assert [step.number for step in longer.run()] == [1, 2]


@pytest.mark.parametrize(
    ("other", "seed"),
    [
        (dataclasses.replace(TINY, optimiser="adam"), 0),
        (dataclasses.replace(TINY, zoom=(1.0, 2.0)), 0),
        (TINY, 1),
    ],
)
def test_the_state_of_another_run_is_refused(rendered: Footage, other: TrainingConfig, seed: int) -> None:
    state = _trainer(rendered, other, seed=seed).state()
    with pytest.raises(ModelError, match="another kind") as caught:
        _trainer(rendered).restore(state)
    assert caught.value.slug == "bad-state"


def test_a_state_that_lacks_something_is_refused(rendered: Footage) -> None:
    state = _trainer(rendered).state()
    del state["optimiser"]
    with pytest.raises(ModelError, match="optimiser"):
        _trainer(rendered).restore(state)


def test_the_papers_run_has_its_three_phases(rendered: Footage) -> None:
    trainer = _trainer(rendered, PAPER, steps=8)
    assert trainer.autoencoder is None
    steps = []
    for step in trainer.run():
        steps.append(step)
        if step.phase == "matching":
            assert trainer.autoencoder is not None
    assert [step.phase for step in steps] == ["autoencoder"] * 2 + ["matching"] * 2 + ["joint"] * 4
    assert [set(step.losses) for step in steps[:2]] == [{"autoencoder"}] * 2
    for step in steps[2:]:
        assert set(step.losses) == {"reconstruction", "concentration", "orthogonality"}
        assert step.example is not None
        assert (step.example.boxes is not None) == (step.phase == "joint")
    # The encoder's own part is six steps: its decay starts at 1, and again where the joint stage begins.
    factors = [step.learning_rate / PAPER.learning_rate for step in steps[2:]]
    assert factors == pytest.approx([(1 - k / 6) ** 0.9 for k in (0, 1, 0, 1, 2, 3)])


def test_the_autoencoder_learns_and_is_then_left_alone(rendered: Footage) -> None:
    trainer = _trainer(rendered, dataclasses.replace(PAPER, autoencoder_share=0.9), steps=10)
    run = trainer.run()
    losses = [next(run).total.item() for _ in range(9)]
    assert losses[-1] < losses[0]
    frozen = _copied(trainer.state(), "autoencoder")
    encoder = _copied(trainer.state(), "encoder")
    assert next(run).phase == "matching"
    state = trainer.state()
    assert all(torch.equal(value, frozen[name]) for name, value in state["autoencoder"].items())
    assert not torch.equal(state["encoder"]["conv1.weight"], encoder["conv1.weight"])


def test_a_given_autoencoder_is_not_trained_again(rendered: Footage) -> None:
    given = ColourAutoencoder()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    trainer = _trainer(rendered, PAPER, steps=2, autoencoder=given)
    assert [step.phase for step in trainer.run()] == ["matching", "joint"]
    assert trainer.autoencoder is not None
    for name, value in trainer.autoencoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_run_goes_on_from_its_base(rendered: Footage, checkpoint: Checkpoint) -> None:
    before = {name: value.clone() for name, value in checkpoint.encoder.state_dict().items()}
    trainer = _trainer(rendered, dataclasses.replace(TINY, learning_rate=1e-4), steps=1, base=checkpoint)
    for name, value in trainer.encoder.state_dict().items():
        assert torch.equal(value, before[name])
    list(trainer.run())
    assert not torch.equal(trainer.encoder.conv1.weight, before["conv1.weight"])
    for name, value in checkpoint.encoder.state_dict().items():  # which is as it was
        assert torch.equal(value, before[name])


def test_what_cannot_be_trained_is_refused(rendered: Footage) -> None:
    with pytest.raises(ModelError, match="device") as caught:
        Trainer(TINY, rendered, Budget(steps=1), device="abacus")
    assert caught.value.slug == "bad-device"
    stills = dataclasses.replace(rendered, runs=tuple(run for run in rendered.runs if run.count == 1))
    with pytest.raises(MediaError, match="moves"):
        _trainer(stills)


def test_sources_of_weight_0_are_not_seen(rendered: Footage) -> None:
    with pytest.raises(MediaError, match="moves"):
        _trainer(rendered, weights={"street": 0.0, "garden": 0.0})
    _trainer(rendered, weights={"street": 0.0})


def test_features_while_measuring_are_those_of_inference(checkpoint: Checkpoint) -> None:
    image = render_clip(width=128, height=96, frame_count=1).frame(0)
    extractor = FeatureExtractor(checkpoint, device="cpu", dtype=torch.float32)
    expected = extractor(image, Grid.fit(128, 96, 480))[..., :256].permute(2, 0, 1)
    encode = encoder_function(checkpoint.encoder, torch.device("cpu"))
    with torch.no_grad():
        features = encode(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]
    cosine = (F.normalize(features, dim=0) * expected).sum(dim=0)
    assert cosine.min() > 0.999


def test_a_run_on_lightness_is_measured_on_lightness() -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    encoder, cpu = Encoder(), torch.device("cpu")
    with torch.no_grad():
        seen = encoder_function(encoder, cpu, lightness_only=True)(images)
        expected = encoder_function(encoder, cpu)(lightness(images))
        assert torch.equal(seen, expected)
        assert not torch.equal(seen, encoder_function(encoder, cpu)(images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("config", [dataclasses.replace(TINY, layers=1.0), PAPER], ids=["full", "uvc"])
def test_a_run_on_cuda_sees_the_same_batches(rendered: Footage, config: TrainingConfig) -> None:
    first, again = (list(Trainer(config, rendered, Budget(steps=8), device=name).run()) for name in ("cpu", "cuda"))
    for step, other in zip(first, again, strict=True):
        assert other.total.isfinite()
        assert step.phase == other.phase
        if step.example is not None and other.example is not None:
            torch.testing.assert_close(other.example.patch.cpu(), step.example.patch, atol=1e-3, rtol=0)
    # The first step's numbers differ by rounding alone.
    assert again[0].total.item() == pytest.approx(first[0].total.item(), rel=0.1)


def test_training_lowers_the_errors_on_a_held_out_clip(tmp_path: Path) -> None:
    """From random weights, in a minute, on real decoded clips; the fifth is not trained on."""
    for seed in range(5):
        folder = tmp_path / ("held" if seed == 4 else "seen")
        folder.mkdir(exist_ok=True)
        write_clip(render_clip(width=128, height=96, frame_count=24, seed=seed), folder / f"{seed}.mp4")
    (seen, skipped), (held, _) = (read_footage([tmp_path / name], threads=1) for name in ("seen", "held"))
    assert not skipped
    config = TrainingConfig(clips=3, photographs=1, crop=64, rising=5, ema=0.9, learning_rate=2e-3)
    trainer = _trainer(seen, config, steps=40)
    before = trainer.held_out(held, samples=32)
    losses = [step.total.item() for step in trainer.run()]
    after = trainer.held_out(held, samples=32)
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert None not in (before.crop_error, before.cycle_error, after.crop_error, after.cycle_error)
    assert after.crop_error < 0.9 * before.crop_error  # type: ignore[operator]
    assert after.cycle_error < 0.8 * before.cycle_error  # type: ignore[operator]
    save_checkpoint(tmp_path / "mine.safetensors", trainer.encoder, name="mine", trained="in a test")
    loaded = load_checkpoint(tmp_path / "mine.safetensors").encoder.state_dict()
    torch.testing.assert_close(loaded["conv1.weight"], trainer.encoder.conv1.weight, atol=1e-3, rtol=1e-2)
