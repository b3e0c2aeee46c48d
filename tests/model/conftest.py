"""The real encoder and small real clips, for every test of what stands on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from model.labels import LabelObject
from model.rendered import RenderedClip, render_clip
from model.video import Frame

# torch comes in with the fixtures that need it: the tests of the torch-free parts start without waiting for it.
if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.features import FeatureExtractor


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors on one thread: faster, and kinder to whatever else runs on this machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """The packaged checkpoint."""
    from model.catalogue import find_model
    from model.checkpoint import load_checkpoint

    return load_checkpoint(find_model("uvc-r18").path)


@pytest.fixture(scope="session")
def extractor(checkpoint: Checkpoint) -> FeatureExtractor:
    """It, on the CPU in float32, so that results are the same on every machine."""
    import torch

    from model.features import FeatureExtractor

    return FeatureExtractor(checkpoint, device="cpu", dtype=torch.float32)


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
