from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.catalogue import find_model
from model.errors import ModelError
from model.side_by_side import Crew
from worker.models import WarmModels, prepare_process


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a model of its own: a copy of the packaged one whose header says something else."""
    (tmp_path / "models").mkdir()
    shutil.copy(find_model("uvc-r18").path, tmp_path / "models" / "mine.safetensors")
    return tmp_path


def test_a_model_is_loaded_once_and_kept_warm(home: Path) -> None:
    models = WarmModels(home, "cpu")
    sha256 = find_model("uvc-r18").sha256
    first = models.get("uvc-r18", sha256)
    assert models.get("uvc-r18", sha256) is first
    # What counts is the content: the same weights under another name are the same model.
    assert models.get("mine", sha256) is first


def test_another_model_takes_the_place_of_the_first(home: Path) -> None:
    path = home / "models" / "mine.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # one bit of one weight
    path.write_bytes(data)
    models = WarmModels(home, "cpu")
    packaged, mine = find_model("uvc-r18"), find_model("mine", home)
    first = models.get("uvc-r18", packaged.sha256)
    second = models.get("mine", mine.sha256)
    assert second is not first
    assert second.checkpoint.name == "mine"
    assert models.get("mine", mine.sha256) is second
    assert models.get("uvc-r18", packaged.sha256) is not first


def test_a_model_that_changed_after_the_job_was_accepted_is_refused(home: Path) -> None:
    with pytest.raises(ModelError, match="'mine' has changed") as caught:
        WarmModels(home, "cpu").get("mine", "0" * 64)
    assert caught.value.slug == "model-changed"


def test_a_model_that_is_gone_is_refused(home: Path) -> None:
    with pytest.raises(ModelError, match="'yours'") as caught:
        WarmModels(home, "cpu").get("yours", "0" * 64)
    assert caught.value.slug == "unknown-model"


def test_a_damaged_model_is_refused_and_a_good_one_still_loads(home: Path) -> None:
    path = home / "models" / "mine.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])  # the header is whole, the weights are not
    models = WarmModels(home, "cpu")
    with pytest.raises(ModelError, match=r"mine\.safetensors") as caught:
        models.get("mine", find_model("mine", home).sha256)
    assert caught.value.slug == "bad-model"
    assert models.get("uvc-r18", find_model("uvc-r18").sha256).checkpoint.name == "uvc-r18"


def test_a_device_that_is_not_there_is_refused(home: Path) -> None:
    with pytest.raises(ModelError) as caught:
        WarmModels(home, "cuda:77").get("uvc-r18", find_model("uvc-r18").sha256)
    assert caught.value.slug == "bad-device"


def test_threads_are_as_many_as_asked_or_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    for threads, processes, of_operations, of_tiles in (
        (3, 1, 3, 3),
        (0, 1, max(1, cores // 2), min(cores, 8)),
        (0, cores, 1, 1),
        (0, 2 * cores, 1, 1),
    ):
        prepare_process(threads, processes=processes)
        assert torch.get_num_threads() == of_operations
        assert Crew().threads == of_tiles
