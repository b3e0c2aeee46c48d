from __future__ import annotations

import pytest
import torch

from model.lab import rgb_to_lab
from model.training.augment import Photometry, augment, blur, drop_channels, greyscale, jitter, lightness

pytestmark = pytest.mark.usefixtures("one_thread")


def _images(count: int = 64, side: int = 12) -> torch.Tensor:
    # Away from black, white and the gamut's border, so that nothing is clamped.
    return 0.35 + 0.3 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _grey(images: torch.Tensor) -> torch.Tensor:
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)


def test_brightness_multiplies() -> None:
    images = _images()
    ratio = (jitter(images, brightness=0.3, generator=_generator()) / images).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert 0.7 <= ratio.min() < 0.75
    assert 1.25 < ratio.max() <= 1.3


def test_contrast_keeps_the_mean_grey() -> None:
    images = _images()
    changed = jitter(images, contrast=0.4, generator=_generator())
    torch.testing.assert_close(_grey(changed).mean(dim=(1, 2)), _grey(images).mean(dim=(1, 2)))
    ratio = changed.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert ratio.min() < 0.7
    assert ratio.max() > 1.3


def test_saturation_and_hue_keep_the_grey_and_change_the_colour() -> None:
    images = _images()
    for options in ({"saturation": 0.5}, {"hue": 0.5}):
        changed = jitter(images, **options, generator=_generator())
        torch.testing.assert_close(_grey(changed), _grey(images), atol=1e-5, rtol=0)
        assert ((changed - images).abs().amax(dim=(1, 2, 3)) > 0.01).float().mean() > 0.9
    grey = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(jitter(grey, saturation=0.5, hue=0.5, generator=_generator()), grey)


def test_a_third_of_the_hue_circle_turns_red_to_green_or_blue() -> None:
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).repeat(200, 1, 1, 1)
    changed = jitter(red, hue=1 / 3, generator=_generator())
    strongest = changed[:, :, 0, 0].argmax(dim=1)
    assert set(strongest.tolist()) == {0, 1, 2}
    # A whole third moves red's excess over to green, all but the restored grey; one of 200 draws comes close.
    end = changed[(changed[:, 1] - changed[:, 0]).flatten().argmax()].flatten()
    assert end[1] - end[0] == pytest.approx(0.2, abs=0.01)
    assert end[2] == pytest.approx(end[0].item(), abs=0.02)


def test_everything_stays_in_range_and_zero_changes_nothing() -> None:
    images = torch.rand(32, 3, 8, 8, generator=_generator())
    changed = augment(images, Photometry(0.8, 0.8, 0.8, 0.5, 0.2, 0.5), _generator())
    assert changed.shape == images.shape
    assert ((changed >= 0) & (changed <= 1)).all()
    still = Photometry(0, 0, 0, 0, grey=0, blur=0, drop_a=0, drop_b=0, drop_both=0)
    assert torch.equal(augment(images, still, _generator()), images)


def test_the_generator_decides_and_the_input_is_left_alone() -> None:
    images = _images()
    before = images.clone()
    strong = Photometry(blur=0.5)
    assert torch.equal(augment(images, strong, _generator(1)), augment(images, strong, _generator(1)))
    assert not torch.equal(augment(images, strong, _generator(1)), augment(images, strong, _generator(2)))
    assert torch.equal(images, before)


def test_some_pictures_lose_their_colour_and_the_others_nothing() -> None:
    images = _images(200, 4)
    changed = greyscale(images, 0.3, _generator())
    touched = (changed != images).flatten(1).any(dim=1)
    assert touched.float().mean().item() == pytest.approx(0.3, abs=0.08)
    torch.testing.assert_close(changed[touched], _grey(images)[touched][:, None].expand(-1, 3, -1, -1))


def test_blur_is_a_gaussian_of_the_pictures_own_sigma() -> None:
    images = torch.zeros(40, 3, 21, 21)
    images[:, :, 10, 10] = 1
    changed = blur(images, 0.5, (0.8, 1.6), _generator())
    touched = (changed != images).flatten(1).any(dim=1)
    assert 8 < touched.sum() < 32
    torch.testing.assert_close(changed.sum(dim=(2, 3)), torch.ones(40, 3))
    x = torch.arange(21.0) - 10
    sigma = (changed[touched].sum(dim=2) * x.square()).sum(dim=2).sqrt()
    torch.testing.assert_close(sigma[:, 0], sigma[:, 2])
    assert 0.75 < sigma.min() < 1.1
    assert 1.3 < sigma.max() < 1.65
    flat = torch.full((4, 3, 6, 6), 0.4)
    torch.testing.assert_close(blur(flat, 1.0, (0.5, 3.0), _generator()), flat)


def test_dropped_channels_are_dropped_in_lab() -> None:
    images = 0.45 + 0.1 * torch.rand(300, 3, 2, 2, generator=_generator())
    before = rgb_to_lab(images)
    after = rgb_to_lab(drop_channels(images, a=0.2, b=0.3, both=0.1, generator=_generator()))
    torch.testing.assert_close(after[:, 0], before[:, 0], atol=1e-3, rtol=0)
    gone = (after[:, 1:].abs() < 1e-4).flatten(2).all(dim=2)
    only_a, only_b, both = gone[:, 0] & ~gone[:, 1], gone[:, 1] & ~gone[:, 0], gone.all(dim=1)
    assert only_a.float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert only_b.float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert both.float().mean().item() == pytest.approx(0.1, abs=0.05)
    torch.testing.assert_close(after[only_a][:, 2], before[only_a][:, 2], atol=1e-3, rtol=0)
    torch.testing.assert_close(after[only_b][:, 1], before[only_b][:, 1], atol=1e-3, rtol=0)


def test_lightness_is_blind_to_colour() -> None:
    images = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).view(3, 3, 1, 1)
    shown = lightness(images)[:, :, 0, 0]
    # L of white is 255 of 256 in UVC's bytes; red's L is 53.24 of 100.
    torch.testing.assert_close(
        shown, torch.tensor([255 / 256, 0.0, 0.5324 * 255 / 256])[:, None].expand(3, 3), atol=1e-4, rtol=0
    )


def test_autocast_changes_nothing() -> None:
    images = _images(8)
    photometry = Photometry(blur=0.5, grey=0.3)
    exact = augment(images, photometry, _generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(images, photometry, _generator()), exact)
