from __future__ import annotations

import dataclasses
import json

import pytest

from model.errors import ModelError
from model.training.augment import Photometry
from model.training.config import NO_PHOTOMETRY, RECIPES, LossWeights, TrainingConfig, change, find_recipe

ALONE = ("two_crop", "palindrome", "reconstruction", "concentration", "orthogonality")


def _alone(name: str) -> TrainingConfig:
    return TrainingConfig(losses=LossWeights(**{name: 1.0}))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_carry_their_name_and_survive_json(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.recipe == name
    assert TrainingConfig.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_papers_recipe_is_the_papers() -> None:
    uvc = find_recipe("uvc")
    assert uvc.losses == LossWeights(reconstruction=1.0, energy=0.1, concentration=0.3, orthogonality=0.1)
    assert (uvc.optimiser, uvc.learning_rate, uvc.weight_decay, uvc.schedule) == ("adam", 1e-4, 0.0, "poly")
    assert (uvc.temperature, uvc.normalise, uvc.input, uvc.localise) == (1.0, False, "lightness", True)
    assert uvc.photometry == NO_PHOTOMETRY
    assert uvc.ema == 0


def test_an_unknown_recipe_names_those_that_exist() -> None:
    with pytest.raises(ModelError, match="full, uvc") as caught:
        find_recipe("best")
    assert caught.value.slug == "unknown-recipe"


@pytest.mark.parametrize(
    ("name", "pairs", "two_crops", "autoencoder"),
    [
        ("two_crop", False, True, False),
        ("palindrome", True, False, False),
        ("reconstruction", True, False, True),
        ("concentration", True, False, False),
        ("orthogonality", True, False, False),
    ],
)
def test_what_each_loss_needs(name: str, pairs: bool, two_crops: bool, autoencoder: bool) -> None:
    config = _alone(name)
    assert (config.needs_pairs, config.needs_two_crops, config.needs_autoencoder) == (pairs, two_crops, autoencoder)


def test_fields_are_changed_by_text() -> None:
    config = change(
        TrainingConfig(),
        {
            "clips": "3",
            "losses.two_crop": "0.5",
            "gap_ms": "40,800",
            "normalise": "False",
            "schedule": "poly",
            "second_photometry.hue": "0.2",
            "photometry.blur_sigma": "0.5,2",
        },
    )
    assert config == TrainingConfig(
        clips=3,
        losses=LossWeights(two_crop=0.5, palindrome=1.0),
        gap_ms=(40.0, 800.0),
        normalise=False,
        schedule="poly",
        second_photometry=Photometry(hue=0.2),
        photometry=Photometry(blur_sigma=(0.5, 2.0)),
    )


@pytest.mark.parametrize("path", ["clip", "losses", "losses.none", "crop.size", "losses.two_crop.x", ""])
def test_a_field_that_does_not_exist_is_named_with_those_that_do(path: str) -> None:
    with pytest.raises(ModelError, match=r"losses\.two_crop, losses\.palindrome") as caught:
        change(TrainingConfig(), {path: "1"})
    assert caught.value.slug == "bad-config"
    assert repr(path) in caught.value.detail


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("clips", "8.5"),
        ("clips", ""),
        ("learning_rate", "fast"),
        ("normalise", "1"),
        ("gap_ms", "60"),
        ("gap_ms", "60,x"),
        ("losses.two_crop", "high"),
    ],
)
def test_a_value_of_another_kind_is_refused(path: str, text: str) -> None:
    with pytest.raises(ModelError, match=rf"{path}={text} is not a value like") as caught:
        change(TrainingConfig(), {path: text})
    assert caught.value.slug == "bad-config"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("crop", "100"),
        ("crop", "56"),
        ("whole", "0"),
        ("clips", "-1"),
        ("photographs", "-4"),
        ("gap_ms", "0,100"),
        ("gap_ms", "200,100"),
        ("ahead", "0"),
        ("zoom", "0,1"),
        ("zoom", "2,1"),
        ("zoom_change", "0.5"),
        ("aspect", "0.9"),
        ("reach", "-0.1"),
        ("flip", "1.5"),
        ("layers", "-0.5"),
        ("dropout", "2"),
        ("outlier_from", "-1"),
        ("input", "gray"),
        ("scale", "guessed"),
        ("optimiser", "sgd"),
        ("schedule", "linear"),
        ("temperature", "0"),
        ("queries", "-1"),
        ("negatives", "-1"),
        ("safe_radius", "-1"),
        ("rising", "-1"),
        ("warm_up", "1.5"),
        ("autoencoder_share", "1"),
        ("learning_rate", "0"),
        ("learning_rate", "nan"),
        ("weight_decay", "-1"),
        ("weight_decay", "inf"),
        ("ema", "1"),
        ("losses.two_crop", "-1"),
        ("losses.palindrome", "nan"),
        ("photometry.hue", "nan"),
        ("zoom", "nan,1"),
    ],
)
def test_what_cannot_run_is_refused(path: str, text: str) -> None:
    with pytest.raises(ModelError, match="cannot be used") as caught:
        change(TrainingConfig(), {path: text})
    assert caught.value.slug == "bad-config"


def test_a_word_out_of_a_few_is_answered_with_them() -> None:
    with pytest.raises(ModelError, match="schedule is 'linear', and can be cosine or poly"):
        change(TrainingConfig(), {"schedule": "linear"})


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ModelError, match="one at least needs a weight"):
        TrainingConfig(losses=LossWeights())
    with pytest.raises(ModelError, match="one at least needs a weight"):
        TrainingConfig(losses=LossWeights(energy=5.0))
    with pytest.raises(ModelError, match="at least one clip or photograph"):
        TrainingConfig(clips=0, photographs=0)


@pytest.mark.parametrize("name", [name for name in ALONE if name != "two_crop"])
def test_photographs_alone_need_two_crop(name: str) -> None:
    with pytest.raises(ModelError, match="Photographs alone"):
        dataclasses.replace(_alone(name), clips=0)
    assert dataclasses.replace(_alone("two_crop"), clips=0).photographs == 4


@pytest.mark.parametrize(
    "values", [{"crops": 3}, {"losses": {"three_crop": 1.0}}, {"photometry": {"glare": 1.0}}, {"losses": "all"}]
)
def test_a_file_with_an_unknown_field_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="cannot be used") as caught:
        TrainingConfig.from_dict(values)
    assert caught.value.slug == "bad-config"
