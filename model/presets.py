"""Presets: named, complete settings of the propagation, so that numbers stay comparable.

`plain` is frozen: a test holds every value. Other presets may change anything of it and say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.errors import ModelError


@dataclass(frozen=True)
class Preset:
    """Everything that decides what propagation computes, apart from the weights.

    Attributes:
        name: the preset's name.
        working_size: the short side of the frame as the encoder sees it, in pixels.
        enlarge: whether smaller videos are enlarged to it.
        centred: whether a frame's features lose their mean before they are compared. Features of one frame have much in
            common, which says nothing about where a cell comes from.
        colour: how much of two cells' similarity is that of their colours (`cell_colours`), 0..1.
        follow: whether windows move with the objects (`localisation`, `following`).
        recent_frames: how many frames the memory holds beside the anchors.
        latest_frames: how many of these are the most recent ones without a gap; the others are `spacing` frames apart.
            None: all of them.
        spacing: see there.
        anchor_frames: how many anchors the memory holds at most: the first and the nearest others.
        radius: Euclidean radius of the local window, in cells of the feature grid.
        top_k: how many matches over all memory frames together share the weight of one cell.
        temperature: the softmax's divisor for cosine similarities.
        anchor_favour: added to the similarity of an anchor's cells, where memory follows objects: what a person gave is
            worth more than what came of it, and keeps labels from drifting onto what passes by.
        keypoint_step: how far a keypoint is taken to move from one frame to the next, in cells: the standard deviation
            along either axis; and that it stays on its object (`steadying`). None: it goes where matches say.
        box_sides: whether an object that is given as boxes alone is localised as a box (`box_votes`) and not carried as
            a filled rectangle whose tight box is taken.
        declares_gone: whether an object that the evidence speaks against is left empty and `visible: false`
            (`model.confidence.gone`), and not only one of which nothing arrived.
    """

    name: str
    working_size: int = 480
    enlarge: bool = False
    centred: bool = False
    colour: float = 0.0
    follow: bool = False
    recent_frames: int = 7
    latest_frames: int | None = None
    spacing: int = 1
    anchor_frames: int = 8
    radius: int = 12
    top_k: int = 10
    temperature: float = 0.07
    anchor_favour: float = 0.0
    keypoint_step: float | None = None
    box_sides: bool = False
    declares_gone: bool = False


_BALANCED = Preset(
    name="balanced",
    enlarge=True,
    centred=True,
    colour=0.3,
    follow=True,
    recent_frames=9,
    latest_frames=4,
    spacing=5,
    top_k=20,
    anchor_favour=0.08,
    keypoint_step=2.5,
    box_sides=True,
    declares_gone=True,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(name="plain"),
        replace(_BALANCED, name="fast", working_size=352, recent_frames=6, latest_frames=3, radius=6),
        _BALANCED,
        # Its cells are three quarters as wide, so that a keypoint's step is as many more of them.
        replace(_BALANCED, name="accurate", working_size=640, recent_frames=14, keypoint_step=3.3),
    )
}


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
