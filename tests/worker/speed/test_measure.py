from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.catalogue import find_model
from model.checkpoint import load_checkpoint
from model.errors import InputError
from model.features import FeatureExtractor
from model.geometry import Grid
from worker.models import WarmModels
from worker.speed import flow
from worker.speed.material import Scene
from worker.speed.measure import Case, measure
from worker.speed.stopwatch import Stopwatch


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("measure")
    scene = Scene(width=160, height=96, objects=3, shown=4, frame_count=11)
    scene.write(folder / "clip.mp4")
    return Case(
        video=folder / "clip.mp4", mask=scene.mask(), scene=scene, frames=11, folder=folder / "results",
        model="uvc-r18", preset="plain", device="cpu", threads=1, timed_frames=2, reference_frames=1,
    )  # fmt: skip


def test_every_figure_is_there(case: Case) -> None:
    run = measure(case)
    assert (run["width"], run["height"], run["objects"], run["frames"]) == (160, 96, 3, 11)
    assert list(run["stages_ms"]) == ["decode", "encode", "affinity", "upsample", "store"]
    assert set(run["bare_ms"]) == {"products", "top_k"}
    assert set(run["dense_ms"]) == {"encode", "affinity", "upsample"}
    times = [*run["stages_ms"].values(), *run["bare_ms"].values(), *run["dense_ms"].values()]
    assert min(*times, run["whole_fps"], run["affinity_vs_bare"]) > 0
    assert run["peak_memory_mib"] > 100
    assert run["peak_device_memory_mib"] is None
    operations = run["operations"]
    # 12 x 20 cells in 2 x 3 tiles of 64, windows of 32 x 32 in 8 frames.
    assert operations["bare"] == 2 * 6 * 64 * 32 * 32 * 8 * 256
    assert 0 < operations["affinity"] <= 1.5 * operations["bare"]
    assert operations["encoder"] > operations["bare"] / 10
    assert operations["matrix_rate"] > 1e6
    assert 0.3 < run["J"]["labelprop"] < 1
    if flow.available():
        assert set(run["flow"]["stages_ms"]) == {"decode", "flow", "store"}
        assert run["flow"]["whole_fps"] > 0
        assert 0.3 < run["J"]["flow"] < 1


def test_an_extractor_that_takes_several_frames_is_timed_as_a_job_uses_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    shared: list[int] = []

    class Noting(FeatureExtractor):
        def encode(self, images: Sequence[np.ndarray], grid: Grid) -> list[torch.Tensor]:
            together.append(len(images))
            return super().encode(images, grid)

    class NotingStopwatch(Stopwatch):
        def frame_done(self, *, count: bool = True, frames: int = 1) -> None:
            if "encode" in self._now and count:
                shared.append(frames)
            super().frame_done(count=count, frames=frames)

    noting = Noting(load_checkpoint(find_model("uvc-r18").path), device="cpu", dtype=torch.float32, batch=4)
    monkeypatch.setattr(WarmModels, "get", lambda *asked: noting)
    monkeypatch.setattr("worker.speed.measure.Stopwatch", NotingStopwatch)
    run = measure(replace(case, scene=None, reference_frames=0, flow=False, folder=tmp_path))
    assert list(run["stages_ms"]) == ["decode", "encode", "affinity", "upsample", "store"]
    # Of ten frames memory is full for the last two: they lie in the last batch, whose cost is that of four.
    assert [images for images in together if images > 1] == [4, 4, 2]
    assert shared == [4]


def test_what_is_left_out_is_none(case: Case, tmp_path: Path) -> None:
    run = measure(replace(case, scene=None, frames=3, reference_frames=0, flow=False, folder=tmp_path))
    assert (run["J"], run["dense_ms"], run["flow"], run["frames"]) == (None, None, None, 3)
    assert run["stages_ms"]["affinity"] > 0  # two frames of memory are all that there is


def test_without_opencv_the_row_says_how_to_get_it(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "available", lambda: False)
    run = measure(replace(case, frames=3, reference_frames=0, folder=tmp_path))
    assert run["flow"] == {"missing": "not installed: pip install 'labelprop[flow]'"}
    assert run["J"]["flow"] is None


def test_faults_are_of_the_kind_that_passes_between_processes(case: Case, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    faults = (
        ({"frames": 2}, "three frames"),
        ({"mask": b"no"}, "PNG"),
        ({"video": tmp_path / "text.mp4"}, "video"),
    )
    for bad, reason in faults:
        with pytest.raises(InputError, match=reason) as error:
            measure(replace(case, folder=tmp_path, **bad))
        assert type(error.value) is InputError
