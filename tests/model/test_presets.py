from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import pytest

from model.errors import ModelError
from model.presets import PRESETS, find_preset


def test_plain_is_frozen_value_by_value() -> None:
    # The contract: numbers that were measured with `plain` must stay comparable. Change another preset instead.
    assert asdict(find_preset("plain")) == {
        "name": "plain",
        "working_size": 480,
        "enlarge": False,
        "centred": False,
        "colour": 0.0,
        "follow": False,
        "recent_frames": 7,
        "latest_frames": None,
        "spacing": 1,
        "anchor_frames": 8,
        "radius": 12,
        "top_k": 10,
        "temperature": 0.07,
        "anchor_favour": 0.0,
        "keypoint_step": None,
        "box_sides": False,
        "declares_gone": False,
    }


def test_a_preset_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        find_preset("plain").radius = 3  # type: ignore[misc]


def test_presets_are_found_by_their_own_names() -> None:
    assert all(find_preset(name).name == name for name in PRESETS)


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ModelError, match=r"'fancy'.*plain") as caught:
        find_preset("fancy")
    assert caught.value.slug == "unknown-preset"
