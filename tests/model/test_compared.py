from __future__ import annotations

import pytest
import torch

from model.compared import Compared
from model.encoder import CHANNELS
from model.features import FeatureExtractor
from model.geometry import Grid
from model.presets import find_preset
from model.rendered import RenderedClip

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("name", "width"), [("plain", 256), ("balanced", 256 + 32)])
def test_what_is_compared_is_of_length_one_and_colours_count_where_the_preset_says_so(
    extractor: FeatureExtractor, clip: RenderedClip, name: str, width: int
) -> None:
    preset = find_preset(name)
    grid = Grid.of(preset, clip.width, clip.height)
    compared = Compared(extractor, preset)
    described = extractor(clip.frame(0), grid)
    seen = compared(described)
    assert seen.shape == (grid.rows, grid.columns, width) == (*described.shape[:2], compared.width)
    assert seen.is_contiguous()
    assert torch.allclose(seen.float().norm(dim=-1), torch.ones(grid.rows, grid.columns), atol=0.01)
    recoloured = described.clone()
    recoloured[0, 0, CHANNELS:] += 0.5
    changed = (compared(recoloured) != seen).any(dim=-1)
    assert bool(changed[0, 0]) == (width > CHANNELS)
    assert int(changed.sum()) == int(changed[0, 0])
