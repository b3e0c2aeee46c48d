from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from model.catalogue import PACKAGED, find_model, list_models
from model.errors import ModelError


def _write(path: Path, header: bytes, length: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header)
    return path


def _header(**metadata: str) -> bytes:
    return json.dumps({"__metadata__": metadata}).encode()


def test_the_packaged_model_is_there_with_its_hash_and_header() -> None:
    found = find_model("uvc-r18")
    assert found.path == PACKAGED / "uvc-r18.safetensors"
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
    assert found.metadata["architecture"] == "resnet18-layer3"
    assert (found.metadata["stride"], found.metadata["temperature"]) == ("8", "0.07")
    assert found in list_models()


def test_models_at_home_join_the_packaged_ones_sorted_by_name(tmp_path: Path) -> None:
    _write(tmp_path / "models" / "zebra.safetensors", _header(name="z"))
    _write(tmp_path / "models" / "aardvark.safetensors", _header())
    (tmp_path / "models" / "notes.txt").write_text("no model")
    assert [model.name for model in list_models(tmp_path)] == ["aardvark", "uvc-r18", "zebra"]
    assert find_model("zebra", tmp_path).metadata == {"name": "z"}
    assert [model.name for model in list_models(tmp_path / "elsewhere")] == ["uvc-r18"]


def test_a_model_at_home_hides_the_packaged_one_of_the_same_name(tmp_path: Path) -> None:
    own = _write(tmp_path / "models" / "uvc-r18.safetensors", _header(name="mine"))
    assert find_model("uvc-r18", tmp_path).path == own


def test_a_replaced_file_is_hashed_anew(tmp_path: Path) -> None:
    path = _write(tmp_path / "models" / "mine.safetensors", _header(name="one"))
    before = find_model("mine", tmp_path)
    _write(path, _header(name="three"))
    after = find_model("mine", tmp_path)
    assert before.sha256 != after.sha256
    assert after.metadata == {"name": "three"}


@pytest.mark.parametrize("name", ["nothing", "../weights/uvc-r18", "uvc-r18.safetensors", ""])
def test_an_unknown_model_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(ModelError, match="uvc-r18") as caught:
        find_model(name)
    assert caught.value.slug == "unknown-model"


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"", None),
        (b"{}", 1 << 40),
        (b"{}", 3000),
        (b"no json at all", None),
        (b"[1, 2]", None),
        (b'{"__metadata__": null}', None),
        (b'{"__metadata__": "text"}', None),
        (b'{"__metadata__": [1]}', None),
        (b"\xff\xfe{}", None),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, header: bytes, length: int | None) -> None:
    _write(tmp_path / "models" / "broken.safetensors", header, length)
    with pytest.raises(ModelError, match=r"broken\.safetensors") as caught:
        find_model("broken", tmp_path)
    assert caught.value.slug == "bad-model"
    # A job on another model is not concerned.
    assert find_model("uvc-r18", tmp_path).name == "uvc-r18"


def test_a_truncated_copy_of_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    whole = (PACKAGED / "uvc-r18.safetensors").read_bytes()
    (tmp_path / "models" / "cut.safetensors").write_bytes(whole[:100])
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        find_model("cut", tmp_path)


def test_a_copy_under_another_name_has_the_same_hash(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(PACKAGED / "uvc-r18.safetensors", tmp_path / "models" / "copy.safetensors")
    assert find_model("copy", tmp_path).sha256 == find_model("uvc-r18").sha256
