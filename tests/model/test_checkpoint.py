from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.encoder import Encoder
from model.errors import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")
HEADER = {
    "architecture": "resnet18-layer3",
    "stride": "8",
    "mean": "0.485,0.456,0.406",
    "std": "0.229,0.224,0.225",
    "temperature": "0.07",
}


def test_the_packaged_checkpoint_says_how_to_use_it(checkpoint: Checkpoint) -> None:
    assert checkpoint.name == "uvc-r18"
    assert checkpoint.mean == (0.485, 0.456, 0.406)
    assert checkpoint.std == (0.229, 0.224, 0.225)
    assert checkpoint.temperature == 0.07
    assert len(checkpoint.metadata["trained"]) > 20
    assert not checkpoint.encoder.training
    assert {p.dtype for p in checkpoint.encoder.parameters()} == {torch.float32}
    assert all(bool(t.isfinite().all()) for t in checkpoint.encoder.state_dict().values())


def test_what_is_saved_loads_as_the_same_encoder(tmp_path: Path) -> None:
    encoder = Encoder().eval()
    save_checkpoint(tmp_path / "mine.safetensors", encoder, name="Mine", trained="not at all", temperature=0.05)
    loaded = load_checkpoint(tmp_path / "mine.safetensors")
    assert (loaded.name, loaded.temperature, loaded.metadata["name"]) == ("mine", 0.05, "Mine")
    assert loaded.metadata["trained"] == "not at all"
    saved = encoder.state_dict()
    for name, tensor in loaded.encoder.state_dict().items():
        expected = saved[name].half().float() if saved[name].is_floating_point() else saved[name]
        assert torch.equal(tensor, expected), name
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    for trained in ("once", "twice"):
        save_checkpoint(path, Encoder(), name="mine", trained=trained)
    assert load_checkpoint(path).metadata["trained"] == "twice"


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("this is no checkpoint")
    save_checkpoint(tmp_path / "whole.safetensors", Encoder(), name="whole", trained="")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    for name in ("missing", "text", "cut"):
        with pytest.raises(ModelError, match=f"{name}.safetensors") as caught:
            load_checkpoint(tmp_path / f"{name}.safetensors")
        assert caught.value.slug == "bad-model"


@pytest.mark.parametrize(
    "changed",
    [
        {"architecture": "vit-small"},
        {"architecture": None},
        {"stride": "16"},
        {"mean": None},
        {"mean": "1,2"},
        {"std": "a,b,c"},
        {"temperature": None},
        {"temperature": "warm"},
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, str | None]) -> None:
    header = {key: value for key, value in {**HEADER, **changed}.items() if value is not None}
    save_file(Encoder().state_dict(), tmp_path / "odd.safetensors", header)
    with pytest.raises(ModelError, match=r"odd\.safetensors") as caught:
        load_checkpoint(tmp_path / "odd.safetensors")
    assert caught.value.slug == "bad-model"


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape"])
def test_parameters_that_do_not_fit_are_refused(tmp_path: Path, fault: str) -> None:
    state = dict(Encoder().state_dict())
    if fault == "missing":
        del state["conv1.weight"]
    elif fault == "surplus":
        state["layer4.0.conv1.weight"] = torch.zeros(1)
    else:
        state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    save_file(state, tmp_path / "odd.safetensors", HEADER)
    with pytest.raises(ModelError, match="does not fit the encoder"):
        load_checkpoint(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("lightness", [False, True])
def test_the_header_says_which_input_it_wants(tmp_path: Path, lightness: bool) -> None:
    path = tmp_path / "seen.safetensors"
    save_checkpoint(path, Encoder(), name="seen", trained="not", lightness=lightness)
    assert load_checkpoint(path).lightness is lightness


def test_an_input_that_is_not_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seen.safetensors"
    monkeypatch.setattr("model.checkpoint.COLOUR", "infrared")
    save_checkpoint(path, Encoder(), name="seen", trained="not")
    monkeypatch.undo()
    with pytest.raises(ModelError, match="infrared"):
        load_checkpoint(path)
