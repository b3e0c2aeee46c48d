from __future__ import annotations

import numpy as np
import pytest
import torch

from model.catalogue import PACKAGED
from model.checkpoint import load_checkpoint
from model.encoder import Encoder, fold_batch_norm
from model.features import FeatureExtractor
from model.geometry import Grid
from model.winograd import available, use_winograd

pytestmark = pytest.mark.skipif(not available(), reason="this PyTorch has no NNPACK for this processor")


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (96, 168)])
def test_the_encoder_gives_the_same_features_up_to_rounding(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = fold_batch_norm(Encoder().eval())
    x = torch.rand(1, 3, *size)
    with torch.inference_mode():
        direct = encoder(x)
        fast = use_winograd(encoder)(x)
    assert (fast - direct).abs().max() <= 1e-4 * direct.abs().max()


def test_only_wide_convolutions_of_stride_one_are_replaced() -> None:
    encoder = use_winograd(fold_batch_norm(Encoder()))
    left = [tuple(m.kernel_size) + tuple(m.stride) for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(left) == [(1, 1, 1, 1), (1, 1, 2, 2), (3, 3, 2, 2), (7, 7, 2, 2)]


def test_float32_features_on_the_cpu_use_it_and_the_checkpoint_stays_as_it_was() -> None:
    checkpoint = load_checkpoint(PACKAGED / "uvc-r18.safetensors")
    before = {name: value.clone() for name, value in checkpoint.encoder.state_dict().items()}
    extractor = FeatureExtractor(checkpoint, device="cpu", dtype=torch.float32)
    assert any(type(m).__name__ == "_WinogradConv" for m in extractor._encoder.modules())
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    grid = Grid.fit(80, 64, 480)
    features = extractor(image, grid)
    mean, std = torch.tensor(checkpoint.mean)[:, None, None], torch.tensor(checkpoint.std)[:, None, None]
    x = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        direct = torch.nn.functional.normalize(checkpoint.encoder(x[None])[0].permute(1, 2, 0), dim=-1)
    assert torch.allclose(features[..., :256], direct, atol=1e-4, rtol=2**-10)  # they are rounded to float16
    assert all(torch.equal(value, checkpoint.encoder.state_dict()[name]) for name, value in before.items())
