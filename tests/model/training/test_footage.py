from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.training.crops import crop, random_crops
from model.training.footage import Footage, Run, fit

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(48, 64), (64, 40), (17, 90), (33, 33), (1, 5)]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")),
]


def _footage(sizes: list[tuple[int, int]] = SIZES, *, counts: list[int] | None = None, gap: int = 0) -> Footage:
    """Frames of noise, each of its size; `counts` frames make up each run, `gap` foreign pixels lie between frames."""
    generator = torch.Generator().manual_seed(0)
    pixels, offsets, at = [], [], 0
    for height, width in sizes:
        at += gap
        pixels.append(torch.full((gap, 3), 255, dtype=torch.uint8))
        pixels.append(torch.randint(0, 256, (height * width, 3), generator=generator, dtype=torch.uint8))
        offsets.append(at)
        at += height * width
    runs, first = [], 0
    for number, count in enumerate(counts or [1] * len(sizes)):
        runs.append(Run(f"pack.tar/{number}.mp4", "pack", first, count))
        first += count
    return Footage(
        tuple(runs), torch.cat(pixels), torch.tensor(offsets), torch.tensor(sizes), 125.0 * torch.arange(len(sizes))
    )


def _named(*names: str, count: int = 2) -> Footage:
    footage = _footage([(4, 6)] * count * len(names))
    return Footage(
        tuple(Run(name, "x", count * at, count) for at, name in enumerate(names)),
        footage.pixels,
        footage.offsets,
        footage.sizes,
        footage.times_ms,
    )


def _one_by_one(footage: Footage, frames: Tensor, theta: Tensor, size: int) -> Tensor:
    whole = [footage.frame(int(at)).permute(2, 0, 1)[None] / 255 for at in frames]
    return torch.cat([crop(frame, theta[at : at + 1], size) for at, frame in enumerate(whole)])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("zoom", [(0.7, 1.4), (0.1, 0.2)], ids=["inside", "far beyond the frame"])
def test_cuts_of_many_sizes_are_the_crops_of_each_frame_alone(device: str, zoom: tuple[float, float]) -> None:
    footage = _footage()
    frames = torch.tensor([3, 0, 1, 2, 4, 0, 2, 1] * 4)
    theta = random_crops(
        footage.sizes[frames],
        size=32,
        zoom=zoom,
        rotation_degrees=40.0,
        shear=0.2,
        aspect=1.3,
        flip=0.5,
        generator=torch.Generator().manual_seed(1),
    )
    expected = _one_by_one(footage, frames, theta, 32)
    cut = footage.to(device).cut(frames.to(device), theta.to(device), 32)
    assert cut.dtype == torch.float32
    assert cut.is_contiguous()
    # Both count in float32, and a pixel's place far out is rounded by more than one within the frame.
    torch.testing.assert_close(cut.cpu(), expected, atol=1e-4 if zoom[0] > 0.5 else 1e-3, rtol=0)


def test_a_plain_cut_is_a_window_of_the_frame_whatever_lies_around_it_in_the_buffer() -> None:
    footage = _footage([(20, 30), (24, 18)], gap=7)
    theta = torch.tensor([[8.0, 0.0, 13.0], [0.0, 8.0, 12.0]])[None].expand(2, 2, 3)
    inside, beyond = footage.cut(torch.tensor([0, 1]), theta, 16)
    window = footage.frame(0)[4:20, 5:21].permute(2, 0, 1) / 255
    torch.testing.assert_close(inside, window, atol=1e-5, rtol=0)
    # The second frame is 18 wide: its last three columns are seen again, the other way round.
    rest = footage.frame(1)[4:20, 5:18].permute(2, 0, 1) / 255
    torch.testing.assert_close(beyond, torch.cat([rest, rest.flip(2)[:, :, :3]], dim=2), atol=1e-5, rtol=0)


def test_cutting_nothing_gives_nothing() -> None:
    cut = _footage().cut(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, 3), 8)
    assert cut.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("autocast", [False, True])
def test_cuts_keep_their_precision_under_autocast(autocast: bool) -> None:
    footage = _footage([(200, 300)])
    theta = torch.tensor([[[100.0, 9.0, 151.3], [-7.0, 90.0, 99.9]]])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        cut = footage.cut(torch.tensor([0]), theta, 64)
    torch.testing.assert_close(cut, _one_by_one(footage, torch.tensor([0]), theta, 64), atol=1e-4, rtol=0)


def test_a_whole_frame_fills_the_square_with_its_long_side_and_is_centred() -> None:
    footage = _footage([(32, 64), (64, 32), (64, 64)])
    whole = footage.whole(torch.tensor([0, 1, 2]), 64)
    wide, high, square = (footage.frame(at).permute(2, 0, 1) / 255 for at in range(3))
    torch.testing.assert_close(whole[0, :, 16:48], wide, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[1, :, :, 16:48], high, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[2], square, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[0, :, :16], wide[:, :16].flip(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[0, :, 48:], wide[:, 16:].flip(1), atol=1e-5, rtol=0)


def test_whole_frames_are_cuts_by_the_maps_of_fit() -> None:
    footage = _footage()
    frames = torch.tensor([2, 0])
    theta = fit(footage.sizes[frames], 40)
    assert theta.tolist() == [[[45, 0, 45], [0, 45, 8.5]], [[32, 0, 32], [0, 32, 24]]]
    assert torch.equal(footage.whole(frames, 40), footage.cut(frames, theta, 40))


def test_a_frame_is_a_view_of_the_buffer() -> None:
    footage = _footage(gap=3)
    frame = footage.frame(1)
    assert frame.shape == (64, 40, 3)
    footage.pixels[int(footage.offsets[1]) + 41] = torch.tensor([1, 2, 3], dtype=torch.uint8)
    assert frame[1, 1].tolist() == [1, 2, 3]


def test_the_length_is_the_number_of_frames() -> None:
    assert len(_footage()) == 5


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("pack.tar/a.mp4", "pack.tar/a.mp4"),
        ("pack.tar/a.mp4#2", "pack.tar/a.mp4"),
        ("pack.tar/a.mp4#12", "pack.tar/a.mp4"),
        ("song #1 live.mp4", "song #1 live.mp4"),
        ("song #1 live.mp4#3", "song #1 live.mp4"),
    ],
)
def test_a_run_knows_its_file(name: str, file: str) -> None:
    assert Run(name, "x", 0, 2).file == file


def test_the_same_device_costs_no_copy() -> None:
    footage = _footage()
    assert footage.to("cpu").pixels.data_ptr() == footage.pixels.data_ptr()


def test_a_split_parts_the_files_and_keeps_every_frame_with_its_run() -> None:
    sizes = [(4 + at % 3, 5 + at % 4) for at in range(60)]
    footage = _footage(sizes, counts=[3] * 20)
    trained, held = footage.split(0.2, seed=0)
    assert [len(part.runs) for part in (trained, held)] == [16, 4]
    assert {run.name for run in trained.runs} | {run.name for run in held.runs} == {run.name for run in footage.runs}
    original = {run.name: run for run in footage.runs}
    for part in (trained, held):
        assert part.pixels.data_ptr() == footage.pixels.data_ptr()
        assert len(part) == len(part.sizes) == len(part.times_ms) == sum(run.count for run in part.runs)
        assert [run.first for run in part.runs] == [3 * at for at in range(len(part.runs))]
        for run in part.runs:
            for step in range(run.count):
                before, now = original[run.name].first + step, run.first + step
                assert torch.equal(part.frame(now), footage.frame(before))
                assert part.times_ms[now] == footage.times_ms[before]


def test_the_shots_of_one_file_stay_together() -> None:
    names = [f"{file}.mp4{shot}" for file in range(10) for shot in ("", "#2", "#3")]
    trained, held = _named(*names).split(0.3, seed=2)
    assert not {run.file for run in trained.runs} & {run.file for run in held.runs}
    assert len({run.file for run in held.runs}) == 3
    assert len(held.runs) == 9


def test_clips_and_photographs_are_held_out_each_by_themselves() -> None:
    footage = _footage([(4, 6)] * 60, counts=[2] * 20 + [1] * 20)
    _, held = footage.split(0.1, seed=0)
    assert sorted(run.count for run in held.runs) == [1, 1, 2, 2]


def test_a_split_is_drawn_by_its_seed() -> None:
    footage = _named(*(f"{at}.mp4" for at in range(30)))
    held = [tuple(run.name for run in footage.split(0.2, seed)[1].runs) for seed in (0, 0, 1)]
    assert held[0] == held[1]
    assert held[0] != held[2]


@pytest.mark.parametrize(("names", "share", "count"), [(1, 0.5, 0), (2, 0.01, 1), (3, 1.0, 2), (5, 0.0, 0)])
def test_something_is_always_left_to_train_on(names: int, share: float, count: int) -> None:
    trained, held = _named(*(f"{at}.mp4" for at in range(names))).split(share, seed=0)
    assert len(held.runs) == count
    assert len(trained.runs) == names - count
    assert len(held) == 2 * count


def test_cuts_of_a_part_are_those_of_the_whole() -> None:
    footage = _footage([(20 + at, 30 - at) for at in range(12)], counts=[2] * 6)
    _, held = footage.split(0.4, seed=0)
    names = {run.name: run.first for run in footage.runs}
    for run in held.runs:
        there = footage.whole(torch.tensor([names[run.name] + 1]), 24)
        assert torch.equal(held.whole(torch.tensor([run.first + 1]), 24), there)
