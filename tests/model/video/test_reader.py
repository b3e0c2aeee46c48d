from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from subprocess import run

import av
import numpy as np
import pytest

from model.errors import MediaError
from model.video import FrameTable, Limits, VideoSource, open_video, probe

Clip = Callable[..., Path]
Number = Callable[[np.ndarray], int]


def numbers(source: VideoSource, number: Number, *arguments: int | None) -> list[tuple[int, int]]:
    return [(frame.index, number(frame.image)) for frame in source.frames(*arguments)]


CONTAINERS = {
    "b.mp4": {"options": {"bf": "3"}},
    "b.mov": {"options": {"bf": "3"}},
    "b.mkv": {},
    "b.ts": {},
    "open-gop.mp4": {"options": {"open-gop": "1", "bf": "3", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}},
    "open-gop.ts": {"options": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=10:min-keyint=10"}},
    "refresh.mkv": {"options": {"x264-params": "intra-refresh=1"}},
    "plain.avi": {"codec": "mpeg4", "b_frames": 0},
    "b.avi": {"codec": "mpeg4", "b_frames": 2},
    "h264.avi": {},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "b_frames": None},
    "vp8.webm": {"codec": "libvpx", "b_frames": None, "options": {"deadline": "realtime"}},
    "vp9.webm": {"codec": "libvpx-vp9", "b_frames": None, "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ffv1.mkv": {"codec": "ffv1", "b_frames": None},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("containers")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else clip(path, frames=45, audio=name == "b.mp4", **CONTAINERS[name])

    return make


class TestIndices:
    @pytest.mark.parametrize("name", CONTAINERS)
    def test_every_frame_once_in_order_and_wherever_reading_starts(
        self, clips: Callable[[str], Path], number: Number, name: str
    ) -> None:
        path = clips(name)
        info, table = probe(path)
        assert info.frame_count == table.frame_count == 45
        assert info.fps == 25
        assert info.duration_ms == 1800
        assert [table.time_ms(i) for i in range(45)] == [40 * i for i in range(45)]
        with open_video(path, table=table) as source:
            assert source.info == info
            whole = {frame.index: frame.image for frame in source.frames()}
            assert [number(whole[i]) for i in range(45)] == list(range(45))
            for i in (44, 0, 21, 20, 19, 30, 9, 10, 11, 43):
                frame = source.frame(i)
                assert (frame.index, frame.time_ms) == (i, 40 * i)
                np.testing.assert_array_equal(frame.image, whole[i])
            for start, end, stride in [(0, 45, 7), (13, 40, 1), (3, None, 20), (44, 45, 1), (20, 20, 1), (45, 45, 1)]:
                expected = list(range(start, 45 if end is None else end, stride))
                assert numbers(source, number, start, end, stride) == [(i, i) for i in expected]

    def test_variable_frame_rate_keeps_every_time(self, tmp_path: Path, clip: Clip, number: Number) -> None:
        times = [0, 40, 41, 100, 250, 251, 900, 1000, 1033, 1066, 1100, 5000]
        path = clip(tmp_path / "v.mp4", frames=12, times=times, time_base=Fraction(1, 1000), gop=4)
        with open_video(path) as source:
            assert [(f.time_ms, number(f.image)) for f in source.frames()] == [(t, i) for i, t in enumerate(times)]
            assert source.info.duration_ms == round(5000 * 12 / 11)
            assert source.info.fps is not None
            assert float(source.info.fps) == pytest.approx(11 / 5, rel=0.01)

    def test_ntsc_rate_is_exact_although_matroska_rounds_times(self, tmp_path: Path, clip: Clip) -> None:
        rate = Fraction(30000, 1001)
        info, table = probe(clip(tmp_path / "n.mkv", frames=40, rate=rate, time_base=1 / rate))
        assert info.fps == rate
        assert info.to_json()["fps"] == {"ratio": "30000/1001", "value": 29.97}
        assert [table.time_ms(i) for i in (0, 1, 2, 30)] == [0, 33, 67, 1001]

    def test_a_stream_that_starts_late_counts_time_from_its_first_frame(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "late.mkv", frames=5, times=[75, 76, 77, 78, 79])
        assert [probe(path)[1].time_ms(i) for i in range(5)] == [0, 40, 80, 120, 160]

    @pytest.mark.parametrize("b_frames", [0, 2])
    @pytest.mark.parametrize(
        "edits", [[(13, 9)], [(0, 40)], [(39, 1)], [(20, 10), (0, 10)], [(10, 5), (10, 5)], [(0, 8), (20, 8), (30, 8)]]
    )
    def test_edit_lists_are_honoured(
        self, tmp_path: Path, clip: Clip, number: Number, edits: list[tuple[int, int]], b_frames: int
    ) -> None:
        path = clip(tmp_path / "e.mp4", frames=40, gop=10, b_frames=b_frames)
        write_edit_list(path, edits)
        shown = [first + i for first, count in edits for i in range(count)]
        with open_video(path) as source:
            assert source.info.frame_count == len(shown)
            assert numbers(source, number) == list(enumerate(shown))
            assert [number(source.frame(i).image) for i in range(len(shown))] == shown
            times = [source.table.time_ms(i) for i in range(len(shown))]
            assert times == sorted(set(times))
            # FFmpeg moves the start of a later edit by a few frames where there are B-frames.
            assert len(edits) > 1 or times == [40 * i for i in range(len(shown))]

    def test_an_edit_list_that_shows_nothing(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "e.mp4", frames=40)
        write_edit_list(path, [(500, 10)])
        with pytest.raises(MediaError) as raised:
            probe(path)
        assert raised.value.slug == "no-frames"

    def test_several_runs_at_once_do_not_disturb_each_other(self, bframes_mp4: Path, number: Number) -> None:
        with open_video(bframes_mp4) as source:
            pairs = zip(source.frames(0, 20), source.frames(20, 40), source.frames(10, 30), strict=True)
            for i, (a, b, c) in enumerate(pairs):
                assert (number(a.image), number(b.image), number(c.image)) == (i, i + 20, i + 10)
                assert number(source.frame(39 - i).image) == 39 - i

    def test_hidden_vp8_frames_are_no_frames(self, tmp_path: Path, clip: Clip, number: Number) -> None:
        path = clip(tmp_path / "v.webm", codec="libvpx", b_frames=None, frames=24, options={"deadline": "realtime"})
        hidden = remuxed(path, tmp_path / "hidden.webm", hide={7, 15})
        shown = [i for i in range(24) if i not in (7, 15)]
        with open_video(hidden) as source:
            assert source.info.frame_count == 22
            assert source.table.by_pts
            assert [n for _, n in numbers(source, number)] == shown
            assert number(source.frame(20).image) == shown[20]

    def test_a_clock_that_restarts_goes_on(self, tmp_path: Path, clip: Clip, number: Number) -> None:
        one = clip(tmp_path / "1.ts", frames=20).read_bytes()
        joined = tmp_path / "2.ts"
        joined.write_bytes(one + one)
        with open_video(joined) as source:
            assert source.info.frame_count == 40
            assert numbers(source, number) == [(i, i % 20) for i in range(40)]
            assert number(source.frame(33).image) == 13
            assert all(b > a for a, b in zip(source.table.pts, source.table.pts[1:], strict=False))

    def test_a_broadcast_cut_in_the_middle_starts_at_its_first_good_frame(
        self, tmp_path: Path, clip: Clip, number: Number
    ) -> None:
        path = clip(tmp_path / "w.ts", frames=40, gop=10, options={"x264-params": "open-gop=1:bframes=2"})
        data = path.read_bytes()
        keep = data[: 188 * 3] + data[len(data) // 188 // 3 * 188 : -188 * 2 - 100]
        path.write_bytes(keep)
        with open_video(path) as source:
            shown = numbers(source, number)
            first = shown[0][1]
            assert 5 < first < 25
            assert shown == [(i, i + first) for i in range(len(shown))]
            assert len(shown) == source.info.frame_count > 10
            assert number(source.frame(len(shown) - 1).image) == shown[-1][1]

    def test_index_out_of_range(self, bframes_mp4: Path) -> None:
        with open_video(bframes_mp4) as source:
            for index in (-1, 40):
                with pytest.raises(IndexError):
                    source.frame(index)
            for bad in [(-1, 4, 1), (0, 41, 1), (5, 4, 1), (0, 4, 0), (0, 4, -1)]:
                with pytest.raises(ValueError, match="does not lie within"):
                    source.frames(*bad)

    def test_a_closed_source_says_so(self, bframes_mp4: Path) -> None:
        source = open_video(bframes_mp4)
        running = source.frames()
        next(running)
        source.close()
        source.close()
        running.close()
        with pytest.raises(ValueError, match="closed"):
            source.frame(0)


class TestPixels:
    @pytest.mark.parametrize(
        ("codec", "suffix", "width", "height"),
        [("libvpx-vp9", "webm", 97, 61), ("mpeg4", "avi", 95, 63), ("ffv1", "mkv", 65, 33), ("mjpeg", "avi", 99, 64)],
    )
    def test_odd_sizes(
        self,
        tmp_path: Path,
        clip: Clip,
        picture: Callable[..., np.ndarray],
        codec: str,
        suffix: str,
        width: int,
        height: int,
    ) -> None:
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        options = {"vp9": {"deadline": "realtime", "crf": "4", "b": "2M"}, "eg4": {"b": "4M"}}.get(codec[-3:])
        path = clip(
            tmp_path / f"o.{suffix}",
            codec=codec,
            frames=3,
            width=width,
            height=height,
            pix_fmt=pix_fmt,
            options=options,
            b_frames=0,
        )
        with open_video(path) as source:
            assert (source.info.width, source.info.height) == (width, height)
            for frame in source.frames():
                assert frame.image.shape == (height, width, 3)
                assert frame.image.dtype == np.uint8
                assert frame.image.flags.c_contiguous
                difference = np.abs(frame.image.astype(int) - picture(frame.index, width, height))
                assert difference.mean() < 6
                # Nothing odd in the last column and row, where padding would show.
                assert np.median(difference[:, -1]) < 40
                assert np.median(difference[-1]) < 40

    @pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True)])
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_rotation_and_mirroring_are_applied(
        self, tmp_path: Path, clip: Clip, picture: Callable[..., np.ndarray], degrees: int, mirror: tuple[bool, bool]
    ) -> None:
        path = clip(tmp_path / "r.mp4", frames=2, rotation=(degrees, *mirror), options={"crf": "10"})
        expected = np.rot90(picture(1), degrees // 90)  # counter-clockwise, as the matrix is given
        expected = expected[:, ::-1] if mirror[0] else expected
        expected = expected[::-1] if mirror[1] else expected
        with open_video(path) as source:
            frame = source.frame(1)
            assert (source.info.height, source.info.width) == expected.shape[:2] == frame.image.shape[:2]
            assert frame.image.flags.c_contiguous
            assert np.abs(frame.image.astype(int) - expected).mean() < 8
            if mirror == (False, False):
                assert source.info.rotation == -degrees % 360

    def test_pixel_shape_is_reported_and_not_resampled(self, tmp_path: Path, clip: Clip) -> None:
        info, _ = probe(clip(tmp_path / "s.mp4", frames=2, aspect=Fraction(4, 3)))
        assert (info.width, info.height, info.sample_aspect_ratio) == (96, 64, Fraction(4, 3))
        turned, _ = probe(clip(tmp_path / "t.mp4", frames=2, aspect=Fraction(4, 3), rotation=(90, False, False)))
        assert (turned.width, turned.height, turned.sample_aspect_ratio) == (64, 96, Fraction(3, 4))

    def test_ten_bits(self, tmp_path: Path, clip: Clip, number: Number) -> None:
        path = clip(tmp_path / "x.mkv", codec="ffv1", pix_fmt="yuv420p10le", b_frames=None, frames=4)
        with open_video(path) as source:
            assert numbers(source, number) == [(i, i) for i in range(4)]

    def test_a_frame_may_be_changed_and_kept(self, bframes_mp4: Path, number: Number) -> None:
        with open_video(bframes_mp4) as source:
            kept = list(source.frames(0, 10))
            kept[0].image[:] = 0
            assert [number(frame.image) for frame in kept[1:]] == list(range(1, 10))
            assert number(source.frame(1).image) == 1


class TestUnreadableFrames:
    def test_a_frame_that_went_bad_is_named_after_those_before_it(
        self, tmp_path: Path, clip: Clip, number: Number, spoil_packet: Callable[[Path, int], None]
    ) -> None:
        path = clip(tmp_path / "p.mov", codec="png", pix_fmt="rgb24", b_frames=None, frames=20)
        _, table = probe(path)
        spoil_packet(path, 12)
        with open_video(path, table=table) as source:
            seen = []
            with pytest.raises(MediaError, match=r"Frame 12 \(at 0\.480 s\)") as raised:
                seen.extend(number(frame.image) for frame in source.frames())
            assert raised.value.slug == "frame-unreadable"
            assert seen == list(range(12))
            assert [number(frame.image) for frame in source.frames(13)] == list(range(13, 20))
            with pytest.raises(MediaError, match="Frame 12"):
                source.frame(12)

    def test_frames_missing_at_the_end_are_named(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "c.mkv", frames=40, gop=10)
        _, table = probe(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with open_video(path, table=table) as source:
            seen = []
            with pytest.raises(MediaError) as raised:
                seen.extend(frame.index for frame in source.frames())
            assert raised.value.slug in ("frame-unreadable", "damaged-video")
            assert f"Frame {len(seen)} " in raised.value.detail
            assert seen == list(range(len(seen)))
            assert len(seen) > 5

    def test_a_size_change_later_on_is_named(self, tmp_path: Path, clip: Clip) -> None:
        first = clip(tmp_path / "1.ts", frames=10)
        _, table = probe(clip(tmp_path / "all.ts", frames=20))
        second = clip(tmp_path / "2.ts", frames=10, width=128, height=96, times=list(range(10, 20)))
        path = tmp_path / "j.ts"
        path.write_bytes(first.read_bytes() + second.read_bytes())
        with open_video(path, table=table) as source, pytest.raises(MediaError) as raised:
            list(source.frames())
        assert raised.value.slug == "frame-size-changed"
        assert "96x64 to 128x96" in raised.value.detail


class TestTable:
    def test_a_stored_table_reads_the_same_frames(self, tmp_path: Path, bframes_mp4: Path, number: Number) -> None:
        info, table = probe(bframes_mp4)
        table.save(tmp_path / "table")
        with open_video(bframes_mp4, table=FrameTable.load(tmp_path / "table")) as source:
            assert source.info == info
            assert numbers(source, number, 0, None, 3) == [(i, i) for i in range(0, 40, 3)]

    def test_limits_hold_while_reading_too(self, bframes_mp4: Path) -> None:
        _, table = probe(bframes_mp4)
        with pytest.raises(MediaError) as raised:
            open_video(bframes_mp4, table=table, limits=Limits(max_pixels=96 * 64 - 1))
        assert raised.value.slug == "frame-too-large"

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            open_video(tmp_path / "none.mp4")


def test_importing_the_reader_does_not_import_torch() -> None:
    code = "import model.video, model.video.child, sys; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def write_edit_list(path: Path, edits: list[tuple[int, int]]) -> None:
    """Give an MP4 that FFmpeg wrote at 25 frames a second the edits (first frame, number of frames)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    media_time = int.from_bytes(data[at + 20 : at + 24], "big")
    with av.open(str(path)) as container:
        ticks = int(1 / container.streams.video[0].time_base) // 25
    # The movie's own time scale, that of the durations, is 1000.
    body = b"".join(struct.pack(">IiI", 40 * count, media_time + first * ticks, 1 << 16) for first, count in edits)
    box = struct.pack(">I4sII", 16 + len(body), b"elst", 0, len(edits)) + body
    data[at : at + size] = box
    for parent in (b"edts", b"trak", b"moov"):
        start = data.index(parent) - 4
        length = int.from_bytes(data[start : start + 4], "big") + len(box) - size
        data[start : start + 4] = length.to_bytes(4, "big")
    path.write_bytes(data)


def remuxed(source: Path, target: Path, *, hide: set[int]) -> Path:
    """Copy a VP8 stream and clear the show_frame bit of some packets."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(p for p in old.demux(video=0) if p.size):
            data = bytearray(bytes(packet))
            data[0] &= ~0x10 if i in hide else 0xFF
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = packet.is_keyframe
            new.mux(copy)
    return target
