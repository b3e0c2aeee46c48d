from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.checkpoint import Checkpoint
from model.encoder import CHANNELS, MIN_SIDE, STRIDE, Encoder, fold_batch_norm

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def encoder() -> Encoder:
    """A random encoder whose batch normalisations all do something."""
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return encoder.eval()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 72), (48, 64)])
def test_one_non_negative_vector_per_cell(encoder: Encoder, height: int, width: int) -> None:
    with torch.inference_mode():
        y = encoder(torch.randn(2, 3, height, width))
    assert y.shape == (2, CHANNELS, height // STRIDE, width // STRIDE)
    assert (y >= 0).all()
    assert y.std() > 0


def test_the_smallest_side_is_what_reflection_allows(encoder: Encoder) -> None:
    encoder(torch.randn(1, 3, MIN_SIDE, MIN_SIDE))
    with pytest.raises(RuntimeError, match=r"[Pp]adding"):
        encoder(torch.randn(1, 3, MIN_SIDE - STRIDE, MIN_SIDE))


def test_parameters_have_torchvisions_names_and_shapes(encoder: Encoder) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer3.0.downsample.1.running_var"] == (256,)
    assert shapes["layer3.1.conv2.weight"] == (256, 256, 3, 3)
    assert not any(name.startswith(("layer1.0.downsample", "layer4", "fc")) for name in shapes)
    assert sum(tensor.numel() for tensor in encoder.parameters()) == 2_782_784  # torchvision's, up to layer3


def test_every_padding_reflects(encoder: Encoder) -> None:
    # A constant picture has the same vector everywhere, at its corners too; zero padding would show.
    with torch.inference_mode():
        y = encoder(torch.full((1, 3, 64, 64), 0.7))
    assert torch.allclose(y, y[..., 4:5, 4:5].expand_as(y), atol=1e-4 * float(y.max()))


def test_shifting_by_a_cell_shifts_the_features(encoder: Encoder) -> None:
    picture = torch.randn(1, 3, 192, 200)
    with torch.inference_mode():
        left, right = encoder(picture[..., :192]), encoder(picture[..., 8:])
    inner = slice(11, 13)  # the borders reach ten cells far
    assert torch.allclose(left[..., inner, 12:13], right[..., inner, 11:12], atol=1e-5 * float(left.max()))


def test_folding_changes_nothing_but_rounding(encoder: Encoder) -> None:
    x = torch.randn(2, 3, 48, 64)
    folded = fold_batch_norm(encoder)
    with torch.inference_mode():
        expected, found = encoder(x), folded(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_folding_leaves_the_original_alone(encoder: Encoder) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    fold_batch_norm(encoder)
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_packaged_encoder_folded_equals_itself_unfolded(checkpoint: Checkpoint) -> None:
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = F.normalize(checkpoint.encoder(x), dim=1)
        found = F.normalize(fold_batch_norm(checkpoint.encoder)(x), dim=1)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (80, 48), (160, 24), (168, 32), (328, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_stem_in_bands_is_the_stem(size: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    encoder = Encoder().eval().to(dtype)
    x = torch.randn(2, 3, *size, dtype=dtype)
    with torch.no_grad():
        banded = encoder._stem(x)
    with torch.enable_grad():
        whole = encoder._stem(x)
    assert torch.equal(banded, whole.detach())
