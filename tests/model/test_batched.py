"""The memory and the steps of a GPU, run on the CPU: the same results, and nothing that the host would wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.affinity import dense_matches
from model.batched import BatchedMemory
from model.channels import ChannelSet
from model.errors import InputError
from model.features import FeatureExtractor
from model.following import FollowingMemory
from model.geometry import Grid
from model.labels import Anchor, Label
from model.presets import Preset, find_preset
from model.propagator import Propagator, SoftMaps
from model.rendered import RenderedClip, render_clip
from model.video import Frame
from model.window_memory import WindowMemory

from ..matching import CHANNELS, affinity, assert_same, features

pytestmark = pytest.mark.usefixtures("one_thread")
FramesOf = Callable[[RenderedClip], list[Frame]]
SETTINGS: dict[str, Any] = {"radius": 3, "top_k": 4, "temperature": 0.07}


def _filled(kind: type[Any], memory: torch.Tensor, valid: torch.Tensor | None = None, **more: Any) -> Any:
    slots, rows, columns, _ = memory.shape
    made = kind(rows, columns, CHANNELS, slots, tile=4, **SETTINGS, **more)
    for slot in range(slots):
        made.write(slot, memory[slot], None if valid is None else valid[slot])
    return made


@pytest.mark.parametrize("scores", [1, 30_000, 1 << 24])
@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (7, 13), (5, 5)])
def test_windows_that_do_not_move_are_the_dense_reference(rows: int, columns: int, scores: int) -> None:
    memory, query = features(3, rows, columns), features(rows, columns, seed=1)
    valid = torch.rand(3, rows, columns, generator=torch.Generator().manual_seed(2)) < 0.8
    (found,) = _filled(BatchedMemory, memory, valid, scores=scores).matches(query, [[0, 1, 2]])
    expected = dense_matches(query, memory, valid=valid, **SETTINGS)
    count = rows * columns
    assert_same(affinity(found, count, 3 * count), affinity([expected], count, 3 * count))


def test_each_subset_of_the_slots_as_the_memory_of_a_processor_finds_it() -> None:
    rows, columns, subsets = 9, 14, [[0, 1, 2], [2], [0, 2]]
    memory, query = features(3, rows, columns), features(rows, columns, seed=1)
    found = _filled(BatchedMemory, memory).matches(query, subsets)
    expected = _filled(WindowMemory, memory).matches(query, subsets, [None] * 3)
    count = rows * columns
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(affinity(ours, count, 3 * count), affinity(theirs, count, 3 * count))


def test_windows_that_follow_and_a_favoured_slot() -> None:
    rows, columns = 9, 14
    memory, query = features(2, rows, columns), features(rows, columns, seed=1)
    theirs = _filled(FollowingMemory, memory)
    moved = np.random.default_rng(0).integers(-9, 10, (2, theirs.tile_rows, theirs.tile_columns, 2))
    everything = torch.ones(2, rows, columns, dtype=torch.bool)
    (expected,) = theirs.matches(query, [[0, 1]], [everything], moved, {1: 0.2})
    (found,) = _filled(BatchedMemory, memory).matches(query, [[0, 1]], torch.from_numpy(moved), {1: 0.2})
    count = rows * columns
    assert_same(affinity(found, count, 2 * count), affinity(expected, count, 2 * count))


def test_a_slot_that_was_never_written_is_not_matched() -> None:
    memory = BatchedMemory(4, 4, CHANNELS, 3, tile=4, **SETTINGS)
    memory.write(1, features(4, 4))
    (found,) = memory.matches(features(4, 4, seed=1), [[1]])
    assert affinity(found, 16, 48)[:, :16].sum() == 0
    assert affinity(found, 16, 48)[:, 32:].sum() == 0
    torch.testing.assert_close(memory.read(1), features(4, 4))


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="positive sizes"):
        BatchedMemory(4, 4, CHANNELS, 0, **SETTINGS)


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(width=160, height=112, frame_count=24)


def _propagator(
    extractor: FeatureExtractor, clip: RenderedClip, preset: Preset, *, batched: bool, anchors: int = 3
) -> Propagator:
    given = [
        clip.anchor(0),
        Anchor(4, clip.anchor(4).labels[:1]),
        Anchor(7, (Label(2, None, absent=True),)),
    ]
    channels = ChannelSet(clip.objects, given[:anchors], Grid.fit(clip.width, clip.height, preset.working_size))
    return Propagator(extractor, channels, preset, batched=batched)


@pytest.mark.parametrize("name", ["plain", "balanced"])
def test_the_same_results_within_the_stated_tolerance(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, name: str
) -> None:
    frames, preset = frames_of(clip)[:14], replace(find_preset(name), enlarge=False)
    found: list[list[SoftMaps]] = []
    for batched in (False, True):
        propagator = _propagator(extractor, clip, preset, batched=batched)
        found.append(list(propagator.steps((frame, None) for frame in frames)))
    for theirs, ours in zip(*found, strict=True):
        assert ours.frame == theirs.frame
        assert (ours.known == theirs.known).all()
        assert ours.evidence is not None
        assert theirs.evidence is not None
        # Labels have steps of 1/255; one more or less is a rounding the other way.
        torch.testing.assert_close(ours.values, theirs.values, atol=1.01 / 255, rtol=0)
        np.testing.assert_allclose(ours.evidence, theirs.evidence, atol=0.02)


class _NothingToWaitFor(TorchDispatchMode):
    """Raises at whatever would make the host wait for a GPU, and counts the operations that are sent there."""

    # The last is a tensor made from Python numbers: sending it waits for what was sent before.
    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            parts = func.decompose(*args, **kwargs)  # what it is made of counts, not what it is called
        if parts is not NotImplemented:
            return parts
        name = func.name().removeprefix("aten::").split(".")[0]
        views = all(alias.alias_info is not None and not alias.alias_info.is_write for alias in func._schema.returns)
        self.operations += not views
        assert name not in self.WAITING, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            for index in args[1]:
                assert index is None or index.dtype != torch.bool, "indexing by a mask waits for its length"
        found = func(*args, **kwargs)
        # Single numbers may be tensors of the host: they go along with the operation.
        tensors = [t for t in tree_leaves((args, kwargs, found)) if isinstance(t, torch.Tensor) and t.dim()]
        assert len({t.device for t in tensors}) <= 1, f"{name} moves something between host and device"
        return found


@pytest.mark.parametrize(("name", "anchors"), [("plain", 1), ("balanced", 1), ("balanced", 3)])
def test_no_step_waits_for_the_device_once_memory_is_full(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, name: str, anchors: int
) -> None:
    frames, preset = frames_of(clip), replace(find_preset(name), enlarge=False)
    propagator = _propagator(extractor, clip, preset, batched=True, anchors=anchors)
    with torch.inference_mode():
        features = [extractor(frame.image, propagator._grid) for frame in frames]
    for frame, each in zip(frames[:22], features, strict=False):
        propagator.step(frame, each)
    for frame, each in zip(frames[22:], features[22:], strict=True):
        with _NothingToWaitFor():
            propagator.advance(frame, each)


def _on_no_device(preset: Preset, anchors: Sequence[Anchor], clip: RenderedClip) -> Propagator:
    """One whose tensors have shapes and no numbers (torch's meta device): what is read back from them fails, and what
    mixes them with tensors of the host fails as on a GPU."""
    extractor = SimpleNamespace(device=torch.device("meta"), dtype=torch.bfloat16, channels=256)
    grid = Grid.of(preset, clip.width, clip.height)
    channels = ChannelSet(clip.objects, anchors, grid, box_sides=preset.box_sides)
    return Propagator(cast("FeatureExtractor", extractor), channels, preset)


def _step_on_no_device(propagator: Propagator, index: int) -> None:
    grid = propagator._grid
    features = torch.empty(grid.rows, grid.columns, 256 + 3, dtype=torch.bfloat16, device="meta")
    propagator.advance(Frame(index, 40 * index, np.zeros((1, 1, 3), np.uint8)), features)


@pytest.fixture(scope="module")
def large() -> RenderedClip:
    return render_clip(width=854, height=480, frame_count=8, objects=4)


@pytest.mark.parametrize(
    ("name", "objects", "most"), [("plain", 1, 360), ("fast", 4, 515), ("balanced", 4, 580), ("accurate", 4, 645)]
)
def test_a_step_at_480p_sends_few_operations_and_nothing_between_host_and_device(
    large: RenderedClip, name: str, objects: int, most: int
) -> None:
    labels = large.anchor(0).labels[:objects]
    # A region, keypoints, and objects that are given as boxes.
    labels = tuple(replace(label, box=(10.0, 10.0, 40.0, 30.0)) if label.object > 2 else label for label in labels)
    preset = find_preset(name)
    propagator = _on_no_device(preset, [Anchor(0, labels)], large)
    full = preset.recent_frames * preset.spacing + 2  # the first step with full memory says once which slots there are
    for index in range(full):
        _step_on_no_device(propagator, index)
    for index in range(full, full + 2):
        with _NothingToWaitFor() as watched:
            _step_on_no_device(propagator, index)
        assert watched.operations <= most


@pytest.mark.parametrize("name", ["plain", "balanced"])
def test_nothing_is_read_back_on_the_frames_of_anchors_either(large: RenderedClip, name: str) -> None:
    void = np.zeros((large.height, large.width), bool)
    void[:, :200] = True
    anchors = [
        replace(large.anchor(0), void=void),
        Anchor(2, large.anchor(2).labels[1:]),
        Anchor(5, (Label(2, None, absent=True),)),
    ]
    propagator = _on_no_device(find_preset(name), anchors, large)
    for index in range(8):
        _step_on_no_device(propagator, index)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["plain", "balanced"])
def test_a_gpu_gives_what_the_cpu_gives(
    extractor: FeatureExtractor, clip: RenderedClip, frames_of: FramesOf, name: str
) -> None:
    frames, preset = frames_of(clip)[:14], replace(find_preset(name), enlarge=False)
    found = []
    for device in ("cpu", "cuda"):
        own = FeatureExtractor(extractor.checkpoint, device=device, dtype=torch.float32)
        propagator = _propagator(own, clip, preset, batched=device == "cuda")
        found.append(list(propagator.steps((frame, None) for frame in frames)))
    for theirs, ours in zip(*found, strict=True):
        # Features are rounded to half precision, so a cosine may differ in its third digit.
        assert float((ours.values - theirs.values).abs().mean()) < 0.002
