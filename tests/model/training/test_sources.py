from __future__ import annotations

import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.errors import MediaError
from model.rendered import render_clip, write_clip
from model.training.footage import Footage
from model.training.sources import Progress, read_footage
from model.video import Limits, open_video

WIDTH, HEIGHT = 64, 48
FRAME = 3 * WIDTH * HEIGHT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three clips of 3, 1 and 2 seconds, of two sources, and a photograph of another size."""
    path = tmp_path / "home"
    path.mkdir()
    for seed, (name, count) in enumerate([("a__long.mp4", 75), ("a__short.mp4", 25), ("b__middle.mp4", 50)]):
        write_clip(render_clip(width=WIDTH, height=HEIGHT, frame_count=count, seed=seed), path / name)
    Image.fromarray(render_clip(width=40, height=56, frame_count=1).frame(0)).save(path / "photo.png")
    return path


def _same(one: Footage, other: Footage) -> bool:
    tensors = [(getattr(one, n), getattr(other, n)) for n in ("pixels", "offsets", "sizes", "times_ms")]
    return one.runs == other.runs and all(torch.equal(a, b) for a, b in tensors)


def _counts(footage: Footage) -> dict[str, int]:
    return {run.name: run.count for run in footage.runs}


def test_clips_and_photographs_become_footage(home: Path) -> None:
    footage, skipped = read_footage([home], threads=2)
    assert skipped == []
    assert [(run.name, run.source) for run in footage.runs] == [
        ("a__long.mp4", "a"),
        ("a__short.mp4", "a"),
        ("b__middle.mp4", "b"),
        ("photo.png", "home"),
    ]
    assert [run.first for run in footage.runs] == np.cumsum([0, *(run.count for run in footage.runs[:-1])]).tolist()
    assert footage.runs[-1].count == 1
    assert len(footage) == sum(run.count for run in footage.runs)
    areas = footage.sizes.prod(dim=1)
    assert footage.offsets.tolist() == [0, *areas.cumsum(0)[:-1].tolist()]
    assert (footage.pixels.dtype, tuple(footage.pixels.shape)) == (torch.uint8, (int(areas.sum()), 3))
    assert (footage.offsets.dtype, footage.sizes.dtype, footage.times_ms.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
    )


def test_every_frame_is_the_readers_frame_of_its_time(home: Path) -> None:
    footage, _ = read_footage([home], threads=2)
    for run in footage.runs[:-1]:
        with open_video(home / run.file) as video:
            for at in range(run.first, run.first + run.count):
                index = round(float(footage.times_ms[at]) / 40)
                np.testing.assert_array_equal(footage.frame(at).numpy(), video.frame(index).image)
    photo = np.asarray(Image.open(home / "photo.png").convert("RGB"))
    np.testing.assert_array_equal(footage.frame(len(footage) - 1).numpy(), photo)


def test_the_number_of_threads_does_not_matter(home: Path) -> None:
    options = {"memory_bytes": 30 * FRAME, "seed": 3}
    one, _ = read_footage([home], threads=1, **options)  # type: ignore[arg-type]
    many, _ = read_footage([home], threads=4, **options)  # type: ignore[arg-type]
    assert _same(one, many)


def test_short_clips_stay_whole_and_long_ones_share_what_is_left(home: Path) -> None:
    whole = _counts(read_footage([home])[0])
    footage, skipped = read_footage([home], memory_bytes=34 * FRAME)
    counts = _counts(footage)
    assert skipped == []
    assert footage.pixels.numel() <= 34 * FRAME
    assert counts["a__short.mp4"] == whole["a__short.mp4"]
    assert counts["photo.png"] == 1
    assert counts["a__long.mp4"] == counts["b__middle.mp4"] < whole["b__middle.mp4"]


def test_the_stretch_is_consecutive_and_its_place_drawn_by_the_seed(home: Path) -> None:
    times: set[tuple[float, ...]] = set()
    every = read_footage([home / "a__long.mp4"])[0].times_ms.tolist()
    for seed in range(6):
        part = read_footage([home / "a__long.mp4"], memory_bytes=9 * FRAME, seed=seed)[0].times_ms.tolist()
        assert len(part) == 9
        start = every.index(part[0])
        assert part == every[start : start + 9]
        times.add(tuple(part))
    assert len(times) > 2


def test_gaps_that_screening_leaves_are_closed(tmp_path: Path) -> None:
    picture = Image.fromarray(render_clip(width=WIDTH, height=HEIGHT, frame_count=1).frame(0))
    for folder, count in (("one", 9), ("two", 5)):
        (tmp_path / folder).mkdir()
        for at in range(count):
            picture.save(tmp_path / folder / f"{at}.png")
    footage, _ = read_footage([tmp_path], fps=25.0)
    assert _counts(footage) == {"one": 1, "two": 1}
    assert footage.offsets.tolist() == [0, WIDTH * HEIGHT]
    assert len(footage.pixels) == 2 * WIDTH * HEIGHT
    assert torch.equal(footage.frame(0), footage.frame(1))
    np.testing.assert_array_equal(footage.frame(1).numpy(), np.asarray(picture))


def test_a_second_shot_is_a_run_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    clip = render_clip(width=WIDTH, height=HEIGHT, frame_count=12)
    for at in range(12):
        frame = clip.frame(at) if at < 6 else clip.frame(at)[::-1, :, ::-1]
        Image.fromarray(frame).save(tmp_path / "film" / f"{at}.png")
    footage, _ = read_footage([tmp_path / "film"], fps=25.0)
    assert [(run.name, run.file, run.first) for run in footage.runs] == [
        ("film", "film", 0),
        ("film#2", "film", footage.runs[0].count),
    ]
    assert float(footage.times_ms[footage.runs[1].first]) == 240


def test_the_weight_of_a_source_stretches_its_share_or_leaves_it_out(home: Path) -> None:
    counts = _counts(read_footage([home], memory_bytes=30 * FRAME, weights={"b": 0.5})[0])
    assert counts["b__middle.mp4"] < counts["a__long.mp4"]
    assert "b__middle.mp4" not in _counts(read_footage([home], weights={"b": 0})[0])
    with pytest.raises(MediaError, match="weight 0"):
        read_footage([home / "b__middle.mp4"], weights={"b": 0})
    with pytest.raises(ValueError, match="negative"):
        read_footage([home], weights={"b": -1})


def test_what_cannot_be_read_is_named_and_the_rest_is_used(home: Path) -> None:
    (home / "bad.mp4").write_bytes(b"no video" * 100)
    (home / "bad.jpg").write_bytes(b"no picture" * 100)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(home / "black.png")
    footage, skipped = read_footage([home])
    assert [run.source for run in footage.runs] == ["a", "a", "b", "home"]
    assert {entry.name for entry in skipped} == {"bad.mp4", "bad.jpg", "black.png"}
    assert all(entry.reason for entry in skipped)


def test_what_there_is_no_memory_for_is_named(home: Path) -> None:
    footage, skipped = read_footage([home], memory_bytes=10 * FRAME)
    assert {run.file for run in footage.runs} | {entry.name for entry in skipped} == {
        "a__long.mp4",
        "a__short.mp4",
        "b__middle.mp4",
        "photo.png",
    }
    assert all("memory" in entry.reason for entry in skipped)
    assert skipped


@pytest.mark.parametrize("memory", [0, 100])
def test_no_memory_for_anything_is_an_error(home: Path, memory: int) -> None:
    with pytest.raises(MediaError, match="memory"):
        read_footage([home], memory_bytes=memory)


def test_nothing_readable_is_an_error_with_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"rubbish" * 100)
    with pytest.raises(MediaError, match=r"Nothing could be read of 1 files.*a\.mp4"):
        read_footage([tmp_path])


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="There is no file"):
        read_footage([tmp_path / "gone"])


def test_options_out_of_range_are_refused(home: Path) -> None:
    for options in ({"fps": 0.0}, {"fps": float("nan")}, {"short_side": 0}, {"threads": -1}):
        with pytest.raises(ValueError, match="positive"):
            read_footage([home], **options)  # type: ignore[arg-type]


def test_packs_give_the_same_pixels_as_their_files(home: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pack.tar", "w") as tar:
        for path in sorted(home.iterdir(), reverse=True):
            tar.add(path, path.name)
    files, _ = read_footage([home])
    packed, _ = read_footage([tmp_path / "pack.tar"])
    assert torch.equal(files.pixels, packed.pixels)
    assert [run.source for run in packed.runs] == ["a", "a", "b", "pack"]


def test_progress_is_told_in_the_callers_thread_and_ends_at_the_total(home: Path) -> None:
    seen: list[Progress] = []
    callers: set[int] = set()

    def report(progress: Progress) -> None:
        seen.append(progress)
        callers.add(threading.get_ident())

    read_footage([home], threads=2, report=report)
    assert [(p.stage, p.done, p.total) for p in seen] == [
        (stage, done, 4) for stage in ("looking", "reading") for done in range(1, 5)
    ]
    assert seen[-1].name == "photo.png"
    assert callers == {threading.get_ident()}


def test_an_interrupt_stops_reading(home: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.stage == "reading":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_footage([home], threads=1, report=report)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_limits_hold(home: Path) -> None:
    _, skipped = read_footage([home], limits=Limits(max_frames=60))
    assert [entry.name for entry in skipped] == ["a__long.mp4"]


def test_without_a_number_half_of_the_free_memory_may_be_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.sources.free_memory", lambda: 60 * FRAME)
    footage, _ = read_footage([home])
    assert footage.pixels.numel() <= 30 * FRAME < read_footage([home], memory_bytes=1 << 30)[0].pixels.numel()
