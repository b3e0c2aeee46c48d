"""A labelling configuration: the tags of video that we label for, and how they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from xml.etree import ElementTree

from app.formats.label_studio_frames import DEFAULT_RATE, rate_from_text
from app.formats.label_studio_video import Controls
from model.errors import InputError

MAX_CHARACTERS = 1_000_000
CONTROL_TAGS = ("VideoRectangle", "VideoVectorLabels", "VideoVector")
_LOWER = {tag.lower(): tag for tag in CONTROL_TAGS}
_DECLARATION = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True)
class VideoConfig:
    """The part of a configuration that matters to us.

    Attributes:
        tag: the control tag, one of `CONTROL_TAGS`.
        controls: the names of the tags, and the field of the data that is shown.
        framerate: as it stands there: a number, or `$field` of the data; None where it does not.
    """

    tag: str
    controls: Controls
    framerate: str | None

    def rate(self, task: Mapping[str, Any]) -> Fraction:
        """Frames a second of the page for a task; what the page cannot read is its default."""
        text = self.framerate
        if text is not None and text.startswith("$"):
            data = task.get("data")
            found = data.get(text[1:]) if isinstance(data, Mapping) else None
            text = None if found is None else str(found)
        return rate_from_text(text) or DEFAULT_RATE

    def media(self, task: Mapping[str, Any]) -> str:
        """The file that a task shows.

        Raises:
            InputError: `bad-annotations`: its data has no such field.
        """
        data = task.get("data")
        value = data.get(self.controls.data_key) if isinstance(data, Mapping) else None
        if isinstance(value, str) and value:
            return value
        raise InputError(
            f"Task {task.get('id')} has no text in `data.{self.controls.data_key}`, which its <Video> shows.",
            slug="bad-annotations",
        )


def video_config(label_config: str) -> VideoConfig:
    """Reads a configuration.

    Raises:
        InputError: `bad-label-config`.
    """
    if len(label_config) > MAX_CHARACTERS or _DECLARATION.search(label_config):
        raise _bad(
            "The labelling configuration is too long, or declares a document type or entities, which it needs not."
        )
    try:
        root = ElementTree.fromstring(label_config)
    except (ElementTree.ParseError, ValueError):
        raise _bad("The labelling configuration is not XML.") from None
    videos = {tag.get("name"): tag for tag in root.iter() if tag.tag.lower() == "video"}
    if not videos:
        raise _bad("The labelling configuration has no <Video> tag; Labelprop labels video.")
    # What a person draws boxes with goes before what takes vectors.
    controls = sorted(
        (tag for tag in root.iter() if tag.tag.lower() in _LOWER and tag.get("toName") in videos),
        key=lambda tag: list(_LOWER).index(tag.tag.lower()),
    )
    if not controls:
        raise _bad('The configuration has no <VideoRectangle name="box" toName="video"/> for its <Video>. Add one.')
    control = controls[0]
    video = videos[control.get("toName")]
    value = video.get("value") or "$video"
    names = Controls(
        from_name=control.get("name") or "box", to_name=control.get("toName") or "video", data_key=value.lstrip("$")
    )
    return VideoConfig(_LOWER[control.tag.lower()], names, video.get("framerate") or video.get("frameRate"))


def _bad(detail: str) -> InputError:
    return InputError(detail, slug="bad-label-config")
