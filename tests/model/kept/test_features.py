from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept import KeptFeatures
from model.kept import features as module
from model.kept.folder import Folder
from model.kept.group import HEADER_BYTES
from model.rendered import RenderedClip
from model.video import FrameTable

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[3]
GRID = Grid.fit(64, 48, 480)
WIDTH = 256 + 3
FRAME_BYTES = 2 * GRID.rows * GRID.columns * WIDTH
Kept = Callable[..., KeptFeatures]


def _some(index: int, extractor: FeatureExtractor) -> Tensor:
    """Made-up features, as exact as an extractor's."""
    random = torch.Generator().manual_seed(index)
    values = torch.rand(GRID.rows, GRID.columns, WIDTH, generator=random)
    return values.to(extractor.half).to(extractor.dtype)


def _fill(kept: KeptFeatures, extractor: FeatureExtractor, frames: range) -> None:
    with kept.passage(extractor, GRID, frames) as passage:
        for index in frames:
            passage.keep(index, _some(index, extractor))


def _found(kept: KeptFeatures, extractor: FeatureExtractor, frames: range = range(40)) -> list[int]:
    """The frames that are there, each compared with what was kept."""
    found = []
    with kept.passage(extractor, GRID, frames) as passage:
        for index in frames:
            features = passage.load(index)
            assert passage.holds(index) == (features is not None)
            if features is not None:
                assert torch.equal(features, _some(index, extractor))
                found.append(index)
    return found


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four frames share a file."""
    monkeypatch.setattr(module, "frames_per_file", lambda frame_bytes: 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_comes_back_is_what_the_extractor_gives_bit_by_bit(
    kept: Kept, checkpoint: Checkpoint, clip: RenderedClip, dtype: torch.dtype
) -> None:
    extractor = FeatureExtractor(checkpoint, device="cpu", dtype=dtype)
    expected = [extractor(clip.frame(i), GRID) for i in range(3)]
    with kept().passage(extractor, GRID, range(3)) as passage:
        assert [passage.load(i) for i in range(3)] == [None] * 3
        for i in range(3):
            passage.keep(i, expected[i])
    with kept().passage(extractor, GRID, range(3)) as passage:
        for i in range(3):
            found = passage.load(i)
            assert found is not None
            assert (found.dtype, found.shape, found.stride()) == (dtype, expected[i].shape, expected[i].stride())
            assert torch.equal(found, expected[i])


@pytest.mark.usefixtures("small_files")
class TestGroups:
    @pytest.mark.parametrize("frames", [range(40), range(39, -1, -1), range(3, 31), range(5, 40, 7), range(8, 9)])
    def test_any_range_in_any_direction(self, kept: Kept, extractor: FeatureExtractor, frames: range) -> None:
        _fill(kept(), extractor, frames)
        assert _found(kept(), extractor) == sorted(frames)

    def test_a_later_passage_adds_to_the_files_of_an_earlier_one(self, kept: Kept, extractor: FeatureExtractor) -> None:
        _fill(kept(), extractor, range(1, 20, 2))
        _fill(kept(), extractor, range(10, 16))
        assert _found(kept(), extractor) == sorted({*range(1, 20, 2), *range(10, 16)})

    def test_a_passage_that_ends_early_keeps_what_it_came_by(self, kept: Kept, extractor: FeatureExtractor) -> None:
        with kept().passage(extractor, GRID, range(40)) as passage:
            for index in range(6):
                passage.keep(index, _some(index, extractor))
        assert _found(kept(), extractor) == list(range(6))

    def test_damage_costs_a_frame_and_is_mended(self, kept: Kept, extractor: FeatureExtractor, tmp_path: Path) -> None:
        _fill(kept(), extractor, range(8))
        first, second = sorted(tmp_path.glob("features/*/*.features"))
        with first.open("r+b") as file:
            file.seek(HEADER_BYTES + 2 * FRAME_BYTES + 99)
            file.write(b"\xaa\xbb")
        os.truncate(second, 3000)
        with kept().passage(extractor, GRID, range(8)) as passage:
            assert [passage.load(i) is not None for i in range(8)] == [True, True, False, True] + [False] * 4
            for i in (2, 4, 5, 6, 7):
                passage.keep(i, _some(i, extractor))
        assert _found(kept(), extractor) == list(range(8))

    def test_a_video_larger_than_the_bound_keeps_its_first_frames(
        self, kept: Kept, extractor: FeatureExtractor, tmp_path: Path
    ) -> None:
        room = 3 * (HEADER_BYTES + 4 * FRAME_BYTES)
        for _ in range(2):  # and the second run does not push them out either
            _fill(kept(room, video_sha256="other"), extractor, range(12))
            _fill(kept(room), extractor, range(40))
            assert _found(kept(room), extractor) == list(range(12))
            assert Folder(tmp_path / "features", room).size() <= room

    def test_another_range_of_it_takes_their_place(self, kept: Kept, extractor: FeatureExtractor) -> None:
        room = 3 * (HEADER_BYTES + 4 * FRAME_BYTES)
        _fill(kept(room), extractor, range(12))
        _fill(kept(room), extractor, range(20, 28))
        assert _found(kept(room), extractor) == [*range(8, 12), *range(20, 28)]

    def test_frames_that_are_found_stay_readable_while_others_evict_them(
        self, kept: Kept, extractor: FeatureExtractor
    ) -> None:
        room = HEADER_BYTES + 4 * FRAME_BYTES
        _fill(kept(room), extractor, range(4))
        with kept(room).passage(extractor, GRID, range(4)) as passage:
            found = passage.find(2)
            assert found is not None
            _fill(kept(room, video_sha256="other"), extractor, range(4))
            features = found.load()
            assert features is not None
            assert torch.equal(features, _some(2, extractor))
        assert _found(kept(room), extractor) == []

    def test_two_passages_at_once(self, kept: Kept, extractor: FeatureExtractor, tmp_path: Path) -> None:
        # The same frames, one forwards and one backwards, each as if it were alone.
        ways = [range(40), range(39, -1, -1)]
        threads = [threading.Thread(target=_fill, args=(kept(), extractor, way)) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _found(kept(), extractor) == list(range(40))
        assert list((tmp_path / "features" / "tmp").iterdir()) == []


class TestKeys:
    @pytest.mark.parametrize("name", ["video_sha256", "model_sha256"])
    def test_another_video_or_model(self, kept: Kept, extractor: FeatureExtractor, name: str) -> None:
        _fill(kept(), extractor, range(3))
        assert _found(kept(**{name: "3" * 64}), extractor) == []

    def test_another_frame_table(self, kept: Kept, extractor: FeatureExtractor, table: FrameTable) -> None:
        _fill(kept(), extractor, range(3))
        assert _found(kept(table=replace(table, pts=2 * table.pts)), extractor) == []

    @pytest.mark.parametrize("grid", [Grid.fit(64, 47, 480), Grid.fit(66, 48, 480), Grid.fit(64, 48, 40)])
    def test_another_grid(self, kept: Kept, extractor: FeatureExtractor, grid: Grid) -> None:
        _fill(kept(), extractor, range(3))
        with kept().passage(extractor, grid, range(3)) as passage:
            assert not passage.holds(0)

    def test_another_precision_or_build(
        self, kept: Kept, extractor: FeatureExtractor, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _fill(kept(), extractor, range(3))
        assert _found(kept(), FeatureExtractor(checkpoint, device="cpu", dtype=torch.bfloat16)) == []
        monkeypatch.setattr("model.features.ENCODING", -1)
        assert _found(kept(), extractor) == []


class TestFaults:
    def test_a_full_disk_keeps_no_more_and_fails_nothing(
        self,
        kept: Kept,
        extractor: FeatureExtractor,
        tmp_path: Path,
        files_no_larger_than: Callable[[int], AbstractContextManager[None]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with kept().passage(extractor, GRID, range(3)) as passage, files_no_larger_than(HEADER_BYTES + FRAME_BYTES):
            for index in range(3):
                passage.keep(index, _some(index, extractor))
            passage.close()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "not kept any more" in caplog.text
        assert _found(kept(), extractor) == []
        assert list((tmp_path / "features" / "tmp").iterdir()) == []
        _fill(kept(), extractor, range(3))
        assert _found(kept(), extractor) == [0, 1, 2]

    def test_a_place_where_nothing_can_be_written(
        self, kept: Kept, extractor: FeatureExtractor, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        features = kept(folder=tmp_path / "file" / "features")
        _fill(features, extractor, range(3))
        assert _found(features, extractor) == []

    def test_a_disk_slower_than_the_encoder_is_not_waited_for(
        self, kept: Kept, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = threading.Event()
        usual = Folder.reserve

        def slow(*given: object) -> tuple[int, Path] | None:
            held.wait(30)
            return usual(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(Folder, "reserve", slow)
        monkeypatch.setattr(module, "_WAITING_BYTES", 3 * FRAME_BYTES)
        with kept().passage(extractor, GRID, range(40)) as passage:
            for index in range(40):
                passage.keep(index, _some(index, extractor))
            held.set()
        assert _found(kept(), extractor) == [0, 1, 2]

    def test_a_process_killed_while_it_writes_leaves_whole_files_alone(
        self, kept: Kept, extractor: FeatureExtractor, tmp_path: Path
    ) -> None:
        code = f"""
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from model.kept import features as module
from model.kept.folder import Folder
module.frames_per_file = lambda frame_bytes: 4
passage = module.Passage(Folder(Path(sys.argv[1]), 1 << 24), "k" * 64, (6, 8, 256), Fake := type(
    "Fake", (), dict(device=torch.device("cpu"), dtype=torch.bfloat16, half=torch.bfloat16)), range(40))
for index in range(7):
    passage.keep(index, torch.full((6, 8, 256), float(index), dtype=torch.bfloat16))
while (group := passage._writer._group) is None or group.first < 4 or len(group.writer.frames) < 3:
    time.sleep(0.001)  # until the first file is whole and the second is not
os.kill(os.getpid(), signal.SIGKILL)
"""
        folder = tmp_path / "features"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=False)
        assert done.returncode == -9
        assert [path.name for path in folder.glob("k*/*")] == ["00000000.features"]
        assert len(list((folder / "tmp").iterdir())) == 1
        _fill(kept(), extractor, range(3))
        assert list((folder / "tmp").iterdir()) == []
        assert _found(kept(), extractor) == [0, 1, 2]


def test_closing_leaves_no_thread_and_no_open_file(kept: Kept, extractor: FeatureExtractor) -> None:
    _fill(kept(), extractor, range(3))
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with kept().passage(extractor, GRID, range(40)) as passage:
        assert passage.holds(1)
        passage.keep(5, _some(5, extractor))
    passage.close()
    passage.keep(6, _some(6, extractor))  # too late, and no harm
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)
    assert _found(kept(), extractor) == [0, 1, 2, 5]


def test_a_passage_says_what_it_was_worth(
    kept: Kept, extractor: FeatureExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(kept(), extractor, range(3))
    caplog.clear()
    with caplog.at_level(logging.INFO), kept().passage(extractor, GRID, range(5)) as passage:
        for index in range(5):
            if passage.find(index) is None:
                passage.keep(index, _some(index, extractor))
    assert "3 frames were there, 2 more" in caplog.text
