"""What only training needs of a model, in a file of its own: the colour auto-encoder.

It lies in the folder `training` beside the model and has the model's name. Whoever goes on from the model need not
train an auto-encoder first; whoever propagates never reads it.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.errors import ModelError
from model.training.autoencoder import ColourAutoencoder, freeze

ARCHITECTURE = "uvc-colour-autoencoder"


def companion_path(model: Path) -> Path:
    """Where the companion of the model file `model` lies, whether there is one or not."""
    return model.parent / "training" / model.name


def save_autoencoder(path: Path, autoencoder: ColourAutoencoder, *, name: str) -> None:
    """Writes a colour auto-encoder in half precision, to a temporary name first.

    Args:
        path: a `.safetensors` file in a folder that exists.
        name: of the model that it was trained for.

    Raises:
        OSError, SafetensorError: it could not be written; what lay at `path` is as it was.
    """
    metadata = {"name": name, "architecture": ARCHITECTURE, "input": "Lab, each channel in [-1,1]"}
    temporary = path.with_name(path.name + ".part")
    try:
        state = {key: tensor.half().contiguous().cpu() for key, tensor in autoencoder.state_dict().items()}
        save_file(state, temporary, metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_autoencoder(path: Path) -> ColourAutoencoder:
    """Reads a colour auto-encoder, frozen, float32, on the CPU.

    Raises:
        ModelError: slug `bad-model`, where the file is missing, damaged, or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            architecture = (file.metadata() or {}).get("architecture", "unnamed")
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a colour auto-encoder: {error}", slug="bad-model") from error
    autoencoder = ColourAutoencoder()
    try:
        if architecture != ARCHITECTURE:
            raise RuntimeError(f"it is {architecture}")
        autoencoder.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{path} is no colour auto-encoder of this version: {error}. Remove it, and one is trained first.",
            slug="bad-model",
        ) from error
    return freeze(autoencoder)
