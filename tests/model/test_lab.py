from __future__ import annotations

import pytest
import torch

from model.lab import lab_l1, lab_to_rgb, rgb_to_lab

pytestmark = pytest.mark.usefixtures("one_thread")

# CIE Lab of sRGB's primaries under D65, as the usual tables have them.
KNOWN = {
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 255, 255): (100.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 0): (97.14, -21.55, 94.48),
    (128, 128, 128): (53.59, 0.0, 0.0),
    (5, 5, 5): (1.37, 0.0, 0.0),  # on the straight piece of both curves
}


@pytest.mark.parametrize(("rgb", "lab"), KNOWN.items())
def test_reference_colours(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    got = rgb_to_lab(torch.tensor(rgb).view(1, 3, 1, 1) / 255).flatten()
    lightness, a, b = (got[0] + 1) * 12800 / 255, got[1] * 128, got[2] * 128
    assert (lightness.item(), a.item(), b.item()) == pytest.approx(lab, abs=0.05)


def test_the_scale_is_opencvs_bytes_about_128() -> None:
    # White is (255, 128, 128) in 8-bit Lab and black (0, 128, 128).
    white, black = rgb_to_lab(torch.ones(1, 3, 1, 1)), rgb_to_lab(torch.zeros(1, 3, 1, 1))
    assert white.flatten().tolist() == pytest.approx([127 / 128, 0, 0], abs=1e-5)
    assert black.flatten().tolist() == pytest.approx([-1, 0, 0], abs=1e-5)


def test_there_and_back() -> None:
    rgb = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=2e-4, rtol=0)


def test_a_colour_that_rgb_lacks_is_clamped() -> None:
    rgb = lab_to_rgb(torch.tensor([-0.5, -0.9, -0.9]).view(1, 3, 1, 1))
    assert ((rgb >= 0) & (rgb <= 1)).all()


def test_gradients_are_finite_everywhere_and_right() -> None:
    edges = torch.tensor([0.0, 0.04045, 1.0, 0.3]).view(1, 1, 1, 4).expand(1, 3, 1, 4).clone().requires_grad_()
    rgb_to_lab(edges).sum().backward()
    assert edges.grad is not None
    assert edges.grad.isfinite().all()
    assert (edges.grad[:, 1] != 0).all()
    lab = rgb_to_lab(edges.detach()).requires_grad_()
    lab_to_rgb(lab).sum().backward()
    assert lab.grad is not None
    assert lab.grad.isfinite().all()
    step = 1e-3
    grey = torch.full((1, 3, 1, 1), 0.4)
    slope = (rgb_to_lab(grey + step) - rgb_to_lab(grey - step))[0, 0] / (2 * step)
    grey.requires_grad_()
    rgb_to_lab(grey)[0, 0].sum().backward()
    assert grey.grad is not None
    assert grey.grad.sum().item() == pytest.approx(slope.item(), rel=1e-3)


def test_autocast_rounds_nothing() -> None:
    rgb = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    lab = rgb_to_lab(rgb)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rgb_to_lab(rgb), lab)
        torch.testing.assert_close(lab_to_rgb(lab), rgb, atol=2e-4, rtol=0)


def test_the_distance_weighs_colour_ten_times() -> None:
    truth = torch.zeros(2, 3, 2, 2)
    estimate = truth.clone()
    estimate[0, 0] = 0.5
    estimate[1, 1, 0, 0] = -0.4  # mean 0.1 in a
    estimate[1, 2] = 0.02
    assert lab_l1(estimate, truth).tolist() == pytest.approx([0.5, 1.2])
    assert lab_l1(estimate, truth, chroma_weight=1).tolist() == pytest.approx([0.5, 0.12])
