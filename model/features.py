"""Features of frames: the encoder made ready for one device, and one frame's L2-normalised features from it, with the
cells' colours behind them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.cell_colours import COLOURS, cell_colours
from model.checkpoint import Checkpoint
from model.encoder import CHANNELS, fold_batch_norm
from model.errors import ModelError
from model.fused import FusedEncoder
from model.fused import available as fused_available
from model.geometry import Grid
from model.training.augment import lightness
from model.winograd import available as winograd_available
from model.winograd import use_winograd

# Raised with every change of what features come out for a picture: those kept on disk are of one number only.
ENCODING = 3


class FeatureExtractor:
    """An encoder on a device, in the precision that is fastest there without losing accuracy.

    Args:
        checkpoint: the weights and their input normalisation.
        device: "auto" (CUDA where there is one), "cpu", or "cuda", "cuda:1" and so on.
        dtype: of weights, features and similarities; None chooses bfloat16 where the processor multiplies it natively,
            and float32 otherwise.
        batch: how many frames are encoded together; None: 8 on a GPU, which a single frame does not fill, else 1.

    Raises:
        ModelError: slug `bad-device`, for a device that is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch: int | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self.dtype = dtype or native_dtype(self.device)
        self.batch = batch or (8 if self.device.type == "cuda" else 1)
        encoder = fold_batch_norm(checkpoint.encoder)
        _fold_normalisation(encoder.conv1, checkpoint)
        encoder = encoder.to(device=self.device, dtype=self.dtype)
        self._format = torch.channels_last
        if self.device.type == "cpu" and self.dtype == torch.float32 and winograd_available():
            use_winograd(encoder)
            self._format = torch.contiguous_format
        self._encoder: nn.Module = encoder.to(memory_format=self._format)  # type: ignore[call-overload]
        if self.device.type == "cpu" and self.dtype == torch.bfloat16 and fused_available():
            self._encoder = FusedEncoder(encoder)

    @property
    def channels(self) -> int:
        """How many numbers a cell's features are."""
        return CHANNELS

    @property
    def width(self) -> int:
        """How many numbers describe a cell: its features and, behind them, its colour (`cell_colours`)."""
        return CHANNELS + COLOURS

    def __call__(self, image: np.ndarray, grid: Grid) -> Tensor:
        """(H, W, 3) uint8 RGB to (rows, columns, 256 + 3): features of length 1, then the colour, rounded to `half`.

        They are in this extractor's dtype, and contiguous.
        """
        return self.encode([image], grid)[0]

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray], grid: Grid) -> list[Tensor]:
        """What describes the cells of several images, each as if it were alone.

        `batch` of them are encoded together. A GPU chooses its kernels by how many there are, so that a short batch is
        filled up: a frame's features do not depend on which others it was encoded with.
        """
        found: list[Tensor] = []
        for first in range(0, len(images), self.batch):
            some = images[first : first + self.batch]
            x = torch.cat([self._picture(image, grid) for image in some])
            if len(some) < self.batch:
                x = torch.cat([x, x[-1:].expand(self.batch - len(some), -1, -1, -1)])
            colours = cell_colours(x)
            x = self._encoder(self._seen(x).contiguous(memory_format=self._format)).permute(0, 2, 3, 1).float()
            described = x.new_empty(*x.shape[:3], self.width, dtype=self.half)
            described[..., :CHANNELS] = F.normalize(x, dim=-1)
            described[..., CHANNELS:] = colours
            found += described[: len(some)].to(self.dtype).unbind()
        return found

    def _picture(self, image: np.ndarray, grid: Grid) -> Tensor:
        """(1, 3, 8 x rows, 8 x columns) RGB in 0..255, the image as the grid has it."""
        pixels = torch.from_numpy(image)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        return grid.image(pixels, torch.float32 if self.checkpoint.lightness else self.dtype)

    def _seen(self, pictures: Tensor) -> Tensor:
        """What the encoder sees of pictures in 0..255."""
        if self.checkpoint.lightness:
            return (lightness(pictures / 255) * 255).to(self.dtype)
        return pictures

    @property
    def half(self) -> torch.dtype:
        """The half precision whose numbers the features are, whatever dtype they are held in.

        Where they are float32 they are rounded to float16 all the same. So features that were kept on disk in two bytes
        a number are the very ones that would be computed, and results do not tell whether they were.
        """
        return torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float16

    @property
    def build(self) -> dict[str, str]:
        """What decides the features' bits beside the weights, the picture and the grid.

        Whoever changes how a picture becomes features raises `ENCODING` or adds to this. Features depend on nothing
        else: neither on the number of threads nor on which frames are encoded together.
        """
        return {
            "encoding": str(ENCODING),
            "dtype": str(self.dtype),
            "device": _machine(self.device.type, self.device.index),
            "torch": torch.__version__,
        } | ({"batch": str(self.batch)} if self.batch > 1 else {})


def _fold_normalisation(conv: nn.Conv2d, checkpoint: Checkpoint) -> None:
    """Lets the first convolution take 0..255: its padding reflects, so this is exact at the borders too.

    It also keeps the input exact in bfloat16, which holds every integer up to 256 and not their normalised values.
    """
    mean, std = torch.tensor(checkpoint.mean)[:, None, None], torch.tensor(checkpoint.std)[:, None, None]
    assert conv.bias is not None
    conv.bias = nn.Parameter(conv.bias - (conv.weight * (mean / std)).sum(dim=(1, 2, 3)), requires_grad=False)
    conv.weight = nn.Parameter(conv.weight / (std * 255), requires_grad=False)


def choose_device(name: str) -> torch.device:
    """The device of that name, "auto" meaning CUDA where there is one.

    Raises:
        ModelError: slug `bad-device`.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(
            f"There is no device {name!r}. Use auto, cpu, cuda or cuda:INDEX.", slug="bad-device"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"The device {name!r} is not supported. Use auto, cpu or cuda.", slug="bad-device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"{name!r} is not on this machine. Use auto or cpu.", slug="bad-device")
    return device


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively; emulated, it would be slower than float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else torch.float32


@lru_cache(maxsize=8)
def _machine(kind: str, index: int | None) -> str:
    """The processor, which always has a part in it, and the GPU: kernels are chosen by what they are."""
    flags = hashlib.sha256(" ".join(sorted(_processor_flags())).encode()).hexdigest()[:16]
    parts = [kind, platform.machine(), torch.backends.cpu.get_cpu_capability(), flags]
    if kind == "cuda":
        parts += [torch.cuda.get_device_name(index), str(torch.version.cuda), str(torch.backends.cudnn.version())]
    return ", ".join(parts)


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return set()
    # "flags" on x86, "Features" on Arm.
    listed = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return set(next(listed, "").split())
