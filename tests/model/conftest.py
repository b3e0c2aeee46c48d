"""Small real clips and declared objects, for every test of what stands on the encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from model.labels import LabelObject
from model.rendered import RenderedClip, render_clip
from model.video import Frame


@pytest.fixture(scope="session")
def clip() -> RenderedClip:
    """Twelve frames of 64 x 48."""
    return render_clip(width=64, height=48, frame_count=12)


@pytest.fixture
def frames_of() -> Callable[[RenderedClip], list[Frame]]:
    """A clip's frames as a reader gives them."""
    return lambda clip: [Frame(i, 40 * i, image) for i, image in enumerate(clip.frames())]


@pytest.fixture
def objects_of() -> Callable[..., tuple[LabelObject, ...]]:
    """Declared objects with the given ids."""
    return lambda *ids: tuple(LabelObject(i, f"object-{i}", (i % 256, 0, 0)) for i in ids)
