from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.catalogue import find_model
from model.errors import ModelError
from model.training.autoencoder import ColourAutoencoder
from model.training.companion import companion_path, load_autoencoder, save_autoencoder


def test_it_lies_in_a_folder_beside_the_model() -> None:
    assert companion_path(Path("a/b/x.safetensors")) == Path("a/b/training/x.safetensors")


def test_what_was_written_is_read_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.manual_seed(0)
    autoencoder = ColourAutoencoder()
    save_autoencoder(path, autoencoder, name="x")
    loaded = load_autoencoder(path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in autoencoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())
    assert [found.name for found in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.stat().st_size < 2.6e6  # two bytes a parameter


def test_what_is_no_auto_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is resnet18"):
        load_autoencoder(find_model("uvc-r18").path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_autoencoder(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        load_autoencoder(tmp_path / "broken.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors", {"architecture": "uvc-colour-autoencoder"})
    with pytest.raises(ModelError, match="no colour auto-encoder"):
        load_autoencoder(tmp_path / "other.safetensors")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(ColourAutoencoder, "state_dict", lambda self: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_autoencoder(path, ColourAutoencoder(), name="x")
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"old"]
