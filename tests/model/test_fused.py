from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.catalogue import PACKAGED
from model.checkpoint import load_checkpoint
from model.encoder import Encoder, fold_batch_norm
from model.features import FeatureExtractor
from model.fused import FusedEncoder, _FusedConv, available
from model.geometry import Grid

pytestmark = pytest.mark.skipif(not available(), reason="this PyTorch fuses no bfloat16 convolutions here")


def _encoder() -> Encoder:
    torch.manual_seed(0)
    return fold_batch_norm(Encoder().eval())


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (96, 168)])
def test_the_encoder_is_as_close_to_float32_as_without(size: tuple[int, int]) -> None:
    exact, x = _encoder(), torch.rand(1, 3, *size)
    plain = _encoder().bfloat16().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen = x.bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, without, fused = exact(x), plain(seen).float(), FusedEncoder(plain)(seen)
    assert fused.dtype == torch.bfloat16
    assert fused.is_contiguous(memory_format=torch.channels_last)
    errors = [float((found.float() - expected).square().mean()) for found in (fused, without)]
    assert errors[0] < 1.2 * errors[1]
    assert errors[0] < 1e-3 * float(expected.square().mean())


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (1, 2), (7, 2)])
def test_a_rectified_convolution_is_the_same_to_the_bit(size: int, stride: int) -> None:
    torch.manual_seed(1)
    conv = torch.nn.Conv2d(16, 32, size, stride).bfloat16().requires_grad_(False)
    x = torch.randn(1, 16, 30, 41).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(_FusedConv(conv)(x, relu=True), F.relu(conv(x)))
        assert torch.equal(_FusedConv(conv)(x), conv(x))


def test_bfloat16_features_on_the_cpu_use_it_and_the_number_of_threads_does_not_matter() -> None:
    extractor = FeatureExtractor(load_checkpoint(PACKAGED / "uvc-r18.safetensors"), device="cpu", dtype=torch.bfloat16)
    assert any(isinstance(m, FusedEncoder) for m in extractor._encoder.modules())
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    grid, threads = Grid.fit(80, 64, 480), torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(extractor(image, grid))
    torch.set_num_threads(threads)
    assert torch.equal(*found)
