from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model import features
from model.cell_colours import cell_colours
from model.checkpoint import Checkpoint
from model.encoder import CHANNELS
from model.errors import ModelError
from model.features import FeatureExtractor, choose_device, native_dtype
from model.geometry import Grid
from model.rendered import RenderedClip, render_clip
from model.training.augment import lightness

pytestmark = pytest.mark.usefixtures("one_thread")


def _by_hand(checkpoint: Checkpoint, image: np.ndarray) -> torch.Tensor:
    """The plain way: scale to 0..1, normalise, pad, run the encoder as it was trained, divide by the length."""
    height, width = image.shape[:2]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    x = (x - torch.tensor(checkpoint.mean)[:, None, None]) / torch.tensor(checkpoint.std)[:, None, None]
    right, bottom = max(16, -(-width // 8) * 8) - width, max(16, -(-height // 8) * 8) - height
    x = F.pad(x, (0, right, 0, bottom), mode="replicate")
    with torch.inference_mode():
        y = checkpoint.encoder(x)[0].permute(1, 2, 0)
    return y / y.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 33), (17, 9), (16, 16), (5, 3)])
def test_features_equal_the_plain_way(
    extractor: FeatureExtractor, checkpoint: Checkpoint, width: int, height: int
) -> None:
    image = render_clip(width=80, height=64, frame_count=1).frame(0)[:height, :width].copy()
    grid = Grid.fit(width, height, 480)
    described = extractor(image, grid)
    expected = _by_hand(checkpoint, image)
    assert described.shape == (*expected.shape[:2], extractor.width)
    assert described.dtype == torch.float32
    found, colours = described[..., :CHANNELS], described[..., CHANNELS:]
    assert torch.allclose(colours, cell_colours(grid.image(torch.from_numpy(image)))[0], atol=1e-5, rtol=2**-11)
    assert torch.allclose(found, expected, atol=2e-5, rtol=2**-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_numbers_of_half_precision_in_whatever_they_are_held(
    checkpoint: Checkpoint, clip: RenderedClip, dtype: torch.dtype
) -> None:
    # So that two bytes a number hold them exactly, and results do not depend on whether they were kept.
    extractor = FeatureExtractor(checkpoint, device="cpu", dtype=dtype)
    found = extractor(clip.frame(0), Grid.fit(64, 48, 480))
    assert found.dtype == dtype
    assert found.element_size() >= extractor.half.itemsize == 2
    assert torch.equal(found.to(extractor.half).to(dtype), found)
    assert found.is_contiguous()


def test_the_build_says_what_decides_the_bits(checkpoint: Checkpoint) -> None:
    whole, half = (FeatureExtractor(checkpoint, device="cpu", dtype=d).build for d in (torch.float32, torch.bfloat16))
    assert {name for name in whole if whole[name] != half[name]} == {"dtype"}
    assert whole["device"].startswith("cpu, ")
    assert whole["torch"] == torch.__version__


def test_features_have_length_one(extractor: FeatureExtractor, clip: RenderedClip) -> None:
    found = extractor(clip.frame(0), Grid.fit(64, 48, 480))[..., :CHANNELS]
    assert torch.allclose(found.norm(dim=-1), torch.ones(6, 8), atol=2**-11)


def test_a_blank_frame_has_features_without_nan(extractor: FeatureExtractor) -> None:
    for value in (0, 255):
        found = extractor(np.full((16, 24, 3), value, np.uint8), Grid.fit(24, 16, 480))
        assert bool(found.isfinite().all())


def test_bfloat16_stays_close(checkpoint: Checkpoint, extractor: FeatureExtractor, clip: RenderedClip) -> None:
    grid = Grid.fit(64, 48, 480)
    found = FeatureExtractor(checkpoint, device="cpu", dtype=torch.bfloat16)(clip.frame(3), grid)
    assert found.dtype == torch.bfloat16
    similarity = (found.float() * extractor(clip.frame(3), grid))[..., :CHANNELS].sum(dim=-1)
    assert float(similarity.min()) > 0.995


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (200, 120)])
def test_the_number_of_threads_does_not_matter(
    checkpoint: Checkpoint, dtype: torch.dtype, width: int, height: int
) -> None:
    extractor = FeatureExtractor(checkpoint, device="cpu", dtype=dtype)
    image = render_clip(width=width, height=height, frame_count=1).frame(0)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(extractor(image, Grid.fit(width, height, 480)))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_checkpoint_is_left_as_it_was(checkpoint: Checkpoint) -> None:
    before = {name: tensor.clone() for name, tensor in checkpoint.encoder.state_dict().items()}
    FeatureExtractor(checkpoint, device="cpu", dtype=torch.bfloat16)
    assert all(torch.equal(before[name], tensor) for name, tensor in checkpoint.encoder.state_dict().items())


def test_devices_are_found_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99", "meta", "mps", "cpu:x"])
def test_a_device_that_cannot_run_is_refused_with_advice(name: str) -> None:
    with pytest.raises(ModelError, match="Use auto") as caught:
        choose_device(name)
    assert caught.value.slug == "bad-device"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu sse2 avx512_bf16 avx2\n", torch.bfloat16),
        ("flags\t\t: fpu amx_bf16\n", torch.bfloat16),
        ("Features\t: fp asimd bf16 i8mm\n", torch.bfloat16),
        ("flags\t\t: fpu sse2 avx2 avx512f\n", torch.float32),
        ("nothing of the kind\n", torch.float32),
    ],
)
def test_bfloat16_where_the_processor_multiplies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, expected: torch.dtype
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(features, "Path", lambda _: tmp_path / "cpuinfo")
    assert native_dtype(torch.device("cpu")) == expected


def test_float32_where_the_processor_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "Path", lambda _: tmp_path / "missing")
    assert native_dtype(torch.device("cpu")) == torch.float32


def test_a_colour_blind_checkpoint_sees_lightness_alone(checkpoint: Checkpoint, clip: RenderedClip) -> None:
    grid = Grid.fit(64, 48, 480)
    image = clip.frame(3)
    blind = FeatureExtractor(replace(checkpoint, lightness=True), device="cpu", dtype=torch.float32)
    seen = lightness(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0) * 255
    grey = np.round(seen.numpy()).astype(np.uint8)
    colour = FeatureExtractor(checkpoint, device="cpu", dtype=torch.float32)
    similarity = (blind(image, grid) * colour(grey, grid))[..., :CHANNELS].sum(dim=-1)
    assert float(similarity.min()) > 0.999  # but for the rounding to bytes
    assert float((blind(image, grid) * colour(image, grid))[..., :CHANNELS].sum(dim=-1).mean()) < 0.999
    assert torch.equal(blind(image, grid)[..., CHANNELS:], colour(image, grid)[..., CHANNELS:])
