from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.catalogue import find_model
from model.errors import InputError
from model.training.autoencoder import ColourAutoencoder
from model.training.companion import companion_path, save_autoencoder
from worker.installation import check_free, check_name, install, installed_path, sha256


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A trained model in a folder of its own."""
    path = tmp_path / "run" / "mine.safetensors"
    path.parent.mkdir()
    shutil.copy(find_model("uvc-r18").path, path)
    return path


@pytest.mark.parametrize("name", ["a", "uvc-r18", "7", "Team_2.v3", "x" * 64])
def test_names_that_are_stems_of_files(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-x", ".x", "a/b", "a\\b", "a b", "a\n", "ä", "x" * 65, "a.safetensors", "a."]
)
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a model's name"):
        check_name(name)


class TestCheckFree:
    def test_packaged_and_installed_names_are_taken(self, home: Path, model: Path) -> None:
        check_free("mine", home)
        with pytest.raises(InputError, match="--replace"):
            check_free("uvc-r18", home)
        install(model, "mine", home)
        with pytest.raises(InputError, match="--replace"):
            check_free("mine", home)

    def test_even_by_a_file_that_is_no_model(self, home: Path) -> None:
        path = installed_path("mine", home)
        path.parent.mkdir()
        path.write_bytes(b"nothing")
        with pytest.raises(InputError):
            check_free("mine", home)

    def test_but_not_for_the_run_that_installed_it(self, home: Path, model: Path) -> None:
        install(model, "mine", home)
        check_free("mine", home, own=sha256(model))
        with pytest.raises(InputError):
            check_free("mine", home, own="0" * 64)


class TestInstall:
    def test_it_is_found_by_name(self, home: Path, model: Path) -> None:
        assert install(model, "mine", home) == find_model("mine", home).path
        assert find_model("mine", home).sha256 == sha256(model)
        assert [path.name for path in (home / "models").iterdir()] == ["mine.safetensors"]

    def test_its_companion_comes_with_it_and_a_former_one_goes(self, home: Path, model: Path) -> None:
        companion = companion_path(model)
        companion.parent.mkdir()
        save_autoencoder(companion, ColourAutoencoder(), name="mine")
        target = companion_path(install(model, "mine", home))
        assert target.read_bytes() == companion.read_bytes()
        companion.unlink()
        install(model, "mine", home)
        assert not target.exists()
