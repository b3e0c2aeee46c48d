"""What the measuring tools carry is what a job would give."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.features import FeatureExtractor
from model.presets import find_preset
from model.rendered import render_clip

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize("declares", [False, True])
def test_objects_are_declared_gone_where_the_preset_does_so(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch, declares: bool
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    sys.modules.pop("clips", None)
    import clips

    # Everything that arrives speaks against its object.
    monkeypatch.setattr("model.decoding.gone", lambda told: bool(told.any()))
    rendered = render_clip(width=96, height=64, frame_count=3)
    clip = clips.Measured("a", "curtain", rendered)
    preset = replace(find_preset("plain"), declares_gone=declares)
    results = [result for result, _, _ in clips.Carrier(extractor, preset, clip.frames()).run([clip.anchor(0)])]
    visible = [found.visible for result in results[1:] for found in result.objects]
    assert visible == ([False] * len(visible) if declares else visible)
    assert np.any(visible) != declares
