"""Presets: named, complete settings of the propagation, so that numbers stay comparable.

`plain` is frozen: a test holds every value. Other presets may change anything of it and say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.errors import ModelError


@dataclass(frozen=True)
class Preset:
    """Everything that decides what propagation computes, apart from the weights.

    Attributes:
        name: the preset's name.
        working_size: the short side of the frame as the encoder sees it, in pixels; smaller videos are not enlarged.
        recent_frames: how many of the most recent frames the memory holds beside the anchors.
        anchor_frames: how many anchors the memory holds at most: the first and the nearest others.
        radius: Euclidean radius of the local window, in cells of the feature grid.
        top_k: how many matches over all memory frames together share the weight of one cell.
        temperature: the softmax's divisor for cosine similarities.
        pixels: whether a step looks at the frame's image and not at its features alone; only where it does not are
            frames left undecoded whose features are kept.
    """

    name: str
    working_size: int = 480
    recent_frames: int = 7
    anchor_frames: int = 8
    radius: int = 12
    top_k: int = 10
    temperature: float = 0.07
    pixels: bool = False


PRESETS: dict[str, Preset] = {"plain": Preset(name="plain")}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ModelError: slug `unknown-preset`, naming those that exist.
    """
    try:
        return PRESETS[name]
    except KeyError:
        known = ", ".join(sorted(PRESETS))
        raise ModelError(f"There is no preset {name!r}. Choose one of: {known}.", slug="unknown-preset") from None
