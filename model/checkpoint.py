"""Checkpoints: safetensors files whose metadata header says how to use them.

What inference needs is one file: the encoder's parameters under torchvision's names, and in the header `name`,
`architecture`, `input` with its `mean` and `std`, `stride`, `dim`, `temperature`, `padding`, `normalise`, `trained`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.encoder import CHANNELS, STRIDE, Encoder
from model.errors import ModelError

ARCHITECTURE = "resnet18-layer3"
COLOUR = "RGB in [0,1]"
LIGHTNESS = "Lab lightness in [0,1], three times"  # the paper's colour-blind input


@dataclass(frozen=True)
class Checkpoint:
    """A trained encoder and what its header says about it.

    Attributes:
        encoder: in evaluation mode, float32, on the CPU.
        mean, std: of the input normalisation, for RGB in 0..1.
        temperature: the softmax temperature it was trained with.
        lightness: whether it sees Lab's L (`training.augment.lightness`) instead of colours.
        metadata: the whole header.
    """

    encoder: Encoder
    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    temperature: float
    lightness: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        ModelError: slug `bad-model`, where the file is missing, damaged, or of another architecture.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} cannot be read as a checkpoint: {error}", slug="bad-model") from error
    if metadata.get("architecture") != ARCHITECTURE or metadata.get("stride") != str(STRIDE):
        found = f"{metadata.get('architecture', 'unnamed')} with stride {metadata.get('stride', 'unknown')}"
        raise ModelError(
            f"{path.name} is {found}; this version runs {ARCHITECTURE} with stride {STRIDE}.", slug="bad-model"
        )
    shown = metadata.get("input", COLOUR)
    if shown not in (COLOUR, LIGHTNESS):
        raise ModelError(f"{path.name} wants an input that this version does not know: {shown}.", slug="bad-model")
    encoder = Encoder()
    try:
        encoder.load_state_dict({name: _plain(tensor) for name, tensor in state.items()})
        mean, std = _three(metadata["mean"]), _three(metadata["std"])
        temperature = float(metadata["temperature"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"{path.name} does not fit the encoder: {error}", slug="bad-model") from error
    return Checkpoint(
        encoder=encoder.eval(),
        name=path.stem,
        mean=mean,
        std=std,
        temperature=temperature,
        lightness=shown == LIGHTNESS,
        metadata=metadata,
    )


def save_checkpoint(
    path: Path, encoder: Encoder, *, name: str, trained: str, temperature: float = 0.07, lightness: bool = False
) -> None:
    """Writes what inference needs of `encoder`, in half precision, to `path` (a `.safetensors` file).

    Args:
        name: what the header calls the model.
        trained: one line on data, recipe and time, for whoever finds the file.
        temperature: of the softmax it was trained with.
        lightness: whether it was shown Lab's L instead of colours.
    """
    state = {key: t.half() if t.is_floating_point() else t for key, t in encoder.state_dict().items()}
    metadata = {
        "name": name,
        "architecture": ARCHITECTURE,
        "stride": str(STRIDE),
        "dim": str(CHANNELS),
        "padding": "reflect",
        "input": LIGHTNESS if lightness else COLOUR,
        "mean": "0.485,0.456,0.406",
        "std": "0.229,0.224,0.225",
        "normalise": "l2",
        "temperature": str(temperature),
        "trained": trained,
    }
    temporary = path.with_name(path.name + ".part")
    save_file({key: t.contiguous().cpu() for key, t in state.items()}, temporary, metadata)
    temporary.replace(path)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _three(text: str) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in text.split(","))
    return first, second, third
