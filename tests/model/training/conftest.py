"""Small footage, made of pictures in memory, for the tests of everything that trains on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.rendered import render_clip
from model.training.autoencoder import ColourAutoencoder, freeze
from model.training.footage import Footage, Run
from model.training.objective import MEAN, STD

FRAME_MS = 125.0


# Name, source and (height, width, 3) uint8 frames of one run, `FRAME_MS` apart.
Shot = tuple[str, str, Sequence[Tensor]]


@pytest.fixture(scope="session")
def footage_of() -> Callable[[Sequence[Shot]], Footage]:
    """Footage of given shots."""

    def build(shots: Sequence[Shot]) -> Footage:
        runs, first = [], 0
        for name, source, pictures in shots:
            runs.append(Run(name, source, first, len(pictures)))
            first += len(pictures)
        frames = [frame for _, _, pictures in shots for frame in pictures]
        sizes = torch.tensor([frame.shape[:2] for frame in frames]).view(-1, 2)
        area = sizes.prod(dim=1)
        times = [FRAME_MS * k for run in runs for k in range(run.count)]
        pixels = torch.cat([frame.reshape(-1, 3) for frame in frames]) if frames else torch.zeros(0, 3)
        return Footage(tuple(runs), pixels.byte(), area.cumsum(0) - area, sizes, torch.tensor(times))

    return build


@pytest.fixture(scope="session")
def rendered(footage_of: Callable[[Sequence[Shot]], Footage]) -> Footage:
    """Three rendered clips of eight frames, two of them from one source, and two photographs."""
    shots: list[Shot] = []
    for seed, source in enumerate(("street", "street", "garden")):
        clip = render_clip(width=128, height=96, frame_count=24, seed=seed)
        frames = [torch.from_numpy(clip.frame(i)) for i in range(0, 24, 3)]
        shots.append((f"{source}__{seed}.mp4", source, frames))
    for seed in (7, 8):
        clip = render_clip(width=100, height=110, frame_count=1, seed=seed)
        shots.append((f"{seed}.jpg", "stills", [torch.from_numpy(clip.frame(0))]))
    return footage_of(shots)


@pytest.fixture(scope="session")
def ramps(footage_of: Callable[[Sequence[Shot]], Footage]) -> Footage:
    """Clips in which nothing moves and every colour tells its place: red is x, green is y, from 0 to 255 each."""
    shots: list[Shot] = []
    for number, (height, width) in enumerate(((160, 200), (180, 160))):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x, y = x * 255 / (width - 1), y * 255 / (height - 1)
        frame = torch.stack([x, y, torch.full_like(x, 128.0)], dim=2).round().byte()
        shots.append((f"{number}.mp4", "ramps", [frame] * 6))
    return footage_of(shots)


class Places(nn.Module):
    """Features that are right on `ramps`: a cell's colour as a direction, so that the nearest colour matches best."""

    def forward(self, images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        return self.of_pixels(images * std + mean)

    def of_pixels(self, images: Tensor) -> Tensor:
        """Of sRGB in 0..1, not normalised."""
        colours = F.avg_pool2d(images, 8)[:, :2] - 0.5
        return torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)


@pytest.fixture
def places() -> Places:
    """The features that are right on `ramps`."""
    return Places()


class LosslessColours(ColourAutoencoder):
    """A colour auto-encoder that is as good as one can be, with no training: 8 x 8 pixels as 192 numbers."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.scale = nn.Parameter(torch.ones(()))

    def encode(self, lab: Tensor) -> Tensor:
        return F.pixel_unshuffle(lab * self.scale, 8)

    def decode(self, features: Tensor) -> Tensor:
        return F.pixel_shuffle(features * self.scale, 8)


@pytest.fixture
def colours() -> ColourAutoencoder:
    """A frozen colour auto-encoder that loses nothing."""
    return freeze(LosslessColours())


@pytest.fixture
def small_encoder() -> nn.Module:
    """A few convolutions at the encoder's stride, so that a step takes milliseconds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 48, 8, stride=8), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1, padding_mode="reflect")
        )
