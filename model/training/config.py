"""Everything that decides what a training run computes, in one typed place, and the named recipes.

`uvc` is the paper alone (Li et al. 2019, with the released code's weights); `full` is what `docs/training.md` measured
to be best on little data. A run's config is written beside its weights, and a resumed run uses that one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from model.errors import ModelError
from model.training.augment import Photometry

NO_PHOTOMETRY = Photometry(
    brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, drop_a=0.0, drop_b=0.0, drop_both=0.0
)


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts; one of weight 0 is not computed, nor is what only it needs.

    Attributes:
        two_crop: exact consistency between two crops of one frame (`consistency`).
        palindrome: the walk to a later frame and back (`palindrome`).
        reconstruction: colours transported to the target and decoded (`reconstruction`).
        energy: the same on the way back, as a share of `reconstruction` (the paper's 0.1).
        concentration: neighbours stay together (`concentration`).
        orthogonality: coordinates come back where they left (`orthogonality`).
    """

    two_crop: float = 0.0
    palindrome: float = 0.0
    reconstruction: float = 0.0
    energy: float = 0.1
    concentration: float = 0.0
    orthogonality: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. Lengths in pixels are of the crops as the network sees them; times are milliseconds.

    Attributes:
        recipe: the name it started from.
        clips: video samples in a batch: a frame, and one to `ahead` later frames of the same shot.
        photographs: further samples of one frame each, for `two_crop` alone.
        crop: side of a crop, a multiple of 8.
        whole: side of the square that a whole frame is fitted into for localisation, a multiple of 8.
        ahead: how many later frames a palindrome goes through.
        gap_ms: least and greatest time between one frame of a sample and its next.
        zoom: output pixels per source pixel of the first crop, drawn evenly in its logarithm.
        zoom_change: greatest factor between the zooms of the two crops of one frame, and of a frame and its next.
        rotation_degrees, shear, aspect: of every crop, see `crops.random_crops`.
        flip: probability that a whole sample is mirrored.
        layers: how many pieces of other samples move in front of one, on average (`layers`): 0.5 is one in front of
            every other sample, 2 is two in front of each.
        reach: how far from the first crop's centre the others lie, see `crops.random_crops`.
        input: "colour" is RGB, "lightness" the paper's L alone.
        photometry: of the first crop and of later frames.
        second_photometry: of the second crop of the same frame.
        temperature, normalise: of the affinity; the paper's raw product is 1 and False.
        safe_radius: cells nearer than this to the true match are no negatives in `two_crop`.
        others: whether cells of other videos are negatives.
        dropout: probability that an edge of a walk is cut.
        queries: cells of each crop that `two_crop` and `palindrome` start from; 0 is all.
        negatives: cells of each crop that serve other videos as negatives; 0 is all.
        losses: the weights.
        localise: whether the joint stage follows the matching warm-up.
        scale: the localised box: the paper's estimate, or the released code's fixed side.
        warm_up: share of the run that is the matching warm-up.
        outlier_from: share of the run after which reconstructions above the limit are dropped.
        autoencoder_share: share of the run that trains the colour auto-encoder, where one is needed and none given.
        optimiser: "adam" without decay, or "adamw".
        learning_rate, weight_decay: of it.
        schedule: "cosine" to zero or "poly", the paper's `(1 - progress)^0.9`, each after `rising` steps of rise.
        ema: decay of the averaged weights that are the result; 0 takes the last weights.
    """

    recipe: str = "full"
    clips: int = 12
    photographs: int = 4
    crop: int = 192
    whole: int = 256
    ahead: int = 1
    gap_ms: tuple[float, float] = (60.0, 1000.0)
    zoom: tuple[float, float] = (0.75, 1.5)
    zoom_change: float = 1.4
    rotation_degrees: float = 15.0
    shear: float = 0.1
    aspect: float = 1.2
    flip: float = 0.5
    layers: float = 1.0
    reach: float = 0.4
    input: Literal["colour", "lightness"] = "colour"
    photometry: Photometry = field(default_factory=Photometry)
    second_photometry: Photometry = field(default_factory=Photometry)
    temperature: float = 0.07
    normalise: bool = True
    safe_radius: float = 0.0
    others: bool = True
    dropout: float = 0.1
    queries: int = 0
    negatives: int = 64
    losses: LossWeights = field(default_factory=lambda: LossWeights(two_crop=1.0, palindrome=1.0))
    localise: bool = False
    scale: Literal["estimated", "fixed"] = "estimated"
    warm_up: float = 1 / 3
    outlier_from: float = 0.1
    autoencoder_share: float = 0.08
    optimiser: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "poly"] = "cosine"
    rising: int = 50
    ema: float = 0.998

    def __post_init__(self) -> None:
        """Refuses what cannot run.

        Raises:
            ModelError: slug `bad-config`.
        """
        for name, kind in get_type_hints(TrainingConfig).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise _bad(f"{name} is {getattr(self, name)!r}, and can be {' or '.join(get_args(kind))}.")
        for part in (self, self.losses, self.photometry, self.second_photometry):
            for name, value in vars(part).items():
                for number in value if isinstance(value, tuple) else (value,):
                    if isinstance(number, float) and not math.isfinite(number):
                        raise _bad(f"{name} must be finite.")
        if self.crop % 8 or self.whole % 8 or self.crop < 64 or self.whole < 64:
            raise _bad("crop and whole must be multiples of 8, at least 64.")
        if self.clips < 0 or self.photographs < 0 or self.clips + self.photographs < 1:
            raise _bad("A batch needs at least one clip or photograph.")
        if not 0 < self.gap_ms[0] <= self.gap_ms[1]:
            raise _bad("gap_ms must be two times above 0, the lesser first.")
        if self.ahead < 1 or self.temperature <= 0 or not 0 <= self.ema < 1 or not 0 <= self.warm_up <= 1:
            raise _bad("ahead is at least 1, temperature above 0, ema in [0, 1) and warm_up in [0, 1].")
        if not 0 < self.zoom[0] <= self.zoom[1] or min(self.zoom_change, self.aspect) < 1 or self.reach < 0:
            raise _bad("zoom is two factors above 0, the lesser first, zoom_change and aspect are at least 1, reach 0.")
        if not all(0 <= share <= 1 for share in (self.flip, self.dropout, self.outlier_from)):
            raise _bad("flip, dropout and outlier_from are in [0, 1].")
        if not 0 <= self.layers <= 4:
            raise _bad("layers is at least 0 and at most 4.")
        if min(self.queries, self.negatives, self.rising, self.weight_decay, self.safe_radius) < 0:
            raise _bad("queries, negatives, rising, weight_decay and safe_radius are at least 0.")
        if not self.learning_rate > 0 or not 0 <= self.autoencoder_share < 1:
            raise _bad("learning_rate is above 0 and autoencoder_share in [0, 1).")
        weights = dataclasses.asdict(self.losses)
        if min(weights.values()) < 0 or sum(v for k, v in weights.items() if k != "energy") <= 0:
            raise _bad("No loss may have a negative weight, and one at least needs a weight above 0.")
        if not self.clips and not self.losses.two_crop:
            raise _bad("Photographs alone train nothing but two_crop; give it a weight or add clips.")

    @property
    def needs_autoencoder(self) -> bool:
        return self.losses.reconstruction > 0

    @property
    def needs_two_crops(self) -> bool:
        """Whether each frame is cut twice. A palindrome then ends in the second crop."""
        return self.losses.two_crop > 0

    @property
    def needs_pairs(self) -> bool:
        """Whether anything looks at two frames of a video."""
        losses = self.losses
        return any((losses.palindrome, losses.reconstruction, losses.concentration, losses.orthogonality))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TrainingConfig:
        """The config that `to_dict` gave.

        Raises:
            ModelError: slug `bad-config`, for a field that does not exist.
        """
        values = dict(values)
        try:
            for name, kind in (
                ("photometry", Photometry),
                ("second_photometry", Photometry),
                ("losses", LossWeights),
            ):
                if name in values:
                    values[name] = kind(**_tuples(values[name]))
            return TrainingConfig(**_tuples(values))
        except (TypeError, AttributeError) as error:
            raise _bad(f"{error}. Remove or rename that field.") from None


_PAPER_LOSSES = LossWeights(reconstruction=1.0, energy=0.1, concentration=0.3, orthogonality=0.1)

RECIPES: dict[str, TrainingConfig] = {
    "full": TrainingConfig(),
    "uvc": TrainingConfig(
        recipe="uvc",
        photographs=0,
        crop=256,
        whole=320,
        gap_ms=(60.0, 2000.0),
        zoom=(1 / 1.2, 1.2),
        zoom_change=1.0,
        rotation_degrees=10.0,
        shear=0.0,
        aspect=1.0,
        layers=0.0,
        reach=1.0,
        input="lightness",
        photometry=NO_PHOTOMETRY,
        second_photometry=NO_PHOTOMETRY,
        temperature=1.0,
        normalise=False,
        losses=_PAPER_LOSSES,
        localise=True,
        optimiser="adam",
        learning_rate=1e-4,
        weight_decay=0.0,
        schedule="poly",
        ema=0.0,
    ),
}


def find_recipe(name: str) -> TrainingConfig:
    """The recipe of that name.

    Raises:
        ModelError: slug `unknown-recipe`, naming those that exist.
    """
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ModelError(f"There is no recipe {name!r}. Choose one of: {known}.", slug="unknown-recipe") from None


def adaptation(config: TrainingConfig) -> TrainingConfig:
    """The config made gentle: to go on from trained weights on a little footage of one kind without losing them."""
    return dataclasses.replace(config, learning_rate=1e-4, rising=20)


def change(config: TrainingConfig, assignments: Mapping[str, str]) -> TrainingConfig:
    """The config with some fields changed by text: `{"losses.two_crop": "0.5", "clips": "8"}`.

    Raises:
        ModelError: slug `bad-config`, for an unknown field or a value that it cannot take.
    """
    values = config.to_dict()
    for path, text in assignments.items():
        *folders, leaf = path.split(".")
        place = values
        for folder in folders:
            place = place.get(folder, {}) if isinstance(place.get(folder), dict) else {}
        if leaf not in place or isinstance(place[leaf], dict):
            raise _bad(f"There is no field {path!r}. Fields are: {', '.join(_fields(values))}.")
        try:
            place[leaf] = _parse(text, place[leaf])
        except ValueError:
            raise _bad(f"{path}={text} is not a value like {place[leaf]!r}.") from None
    return TrainingConfig.from_dict(values)


def _parse(text: str, like: Any) -> Any:
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if isinstance(like, (tuple, list)):
        parts = [float(part) for part in text.split(",")]
        if len(parts) != len(like):
            raise ValueError
        return tuple(parts)
    return type(like)(text)


def _fields(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        found += _fields(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _bad(detail: str) -> ModelError:
    return ModelError(f"The training config cannot be used: {detail}", slug="bad-config")
