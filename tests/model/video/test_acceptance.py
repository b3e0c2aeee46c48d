from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from model.errors import MediaError
from model.video import Limits, VideoInfo, acceptance, open_video, probe

Clip = Callable[..., Path]


def refused(path: Path, slug: str, **limits: float) -> str:
    with pytest.raises(MediaError) as raised:
        probe(path, limits=Limits(**limits))  # type: ignore[arg-type]
    assert raised.value.slug == slug, raised.value.detail
    assert str(path.parent) not in raised.value.detail, "an answer must not tell where files lie"
    return raised.value.detail


class TestInfo:
    def test_facts(self, bframes_mp4: Path) -> None:
        info, table = probe(bframes_mp4)
        assert info == VideoInfo(
            container="mp4",
            codec="h264",
            width=96,
            height=64,
            frame_count=40,
            duration_ms=1600,
            fps=Fraction(25),
            sample_aspect_ratio=Fraction(1),
            rotation=0,
            bytes=bframes_mp4.stat().st_size,
        )
        assert table.by_pts
        assert table.names is None
        assert np.flatnonzero(table.keyframe).tolist() == [0, 10, 20, 30]
        assert VideoInfo.from_json(info.to_json()) == info

    @pytest.mark.parametrize(
        ("name", "container"),
        [("a.mov", "mov"), ("a.mkv", "matroska"), ("a.avi", "avi"), ("a.ts", "mpegts"), ("a.mp4", "mp4")],
    )
    def test_container_goes_by_content_not_by_name(self, tmp_path: Path, clip: Clip, name: str, container: str) -> None:
        path = clip(tmp_path / name, frames=3)
        assert probe(path.rename(tmp_path / "upload.bin"))[0].container == container

    def test_webm(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "a.webm", codec="libvpx", b_frames=None, frames=3)
        info, _ = probe(path)
        assert (info.container, info.codec) == ("webm", "vp8")

    def test_one_frame(self, tmp_path: Path, clip: Clip) -> None:
        info, _ = probe(clip(tmp_path / "one.mp4", frames=1))
        assert (info.frame_count, info.duration_ms, info.fps) == (1, 40, 25)

    def test_probing_leaves_the_file_as_it_was(self, bframes_mp4: Path) -> None:
        before = bframes_mp4.read_bytes()
        probe(bframes_mp4)
        assert bframes_mp4.read_bytes() == before

    def test_names_with_odd_characters(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "a.mp4", frames=3)
        for name in ("concat:x%03d?.mp4", "-i http:.mp4", "främes 中.mp4"):
            assert probe(path.rename(tmp_path / name))[0].frame_count == 3
            path = tmp_path / name


class TestNotAVideo:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"hello, world\n" * 100,
            bytes(range(256)) * 64,
            b"\xff\xd8\xff\xe0" + bytes(500),
            b"\x89PNG\r\n\x1a\n" + bytes(500),
            b"#!/bin/sh\nexit 1\n",
            b"RIFF\x10\x00\x00\x00WAVEfmt ",
        ],
        ids=["empty", "text", "bytes", "jpeg", "png", "script", "wave"],
    )
    def test_other_files(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "upload.mp4"
        path.write_bytes(content)
        assert "Send MP4" in refused(path, "not-a-video")

    @pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat", "list"])
    @pytest.mark.parametrize("kind", ["concat", "hls", "dash", "sdp"])
    def test_playlists_reach_no_other_file(self, tmp_path: Path, clip: Clip, name: str, kind: str) -> None:
        secret = clip(tmp_path / "secret.ts", frames=5)
        text = {
            "concat": "ffconcat version 1.0\nfile secret.ts\n",
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n#EXT-X-ENDLIST\n",
            "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
        }[kind]
        path = tmp_path / name
        path.write_text(text)
        refused(path, "not-a-video")

    def test_sound_only(self, tmp_path: Path, sound: Callable[[Path], Path]) -> None:
        refused(sound(tmp_path / "s.mp4"), "no-video-stream")

    def test_a_cover_picture_is_no_video(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "c.mkv", codec="mjpeg", pix_fmt="yuvj420p", b_frames=None, frames=1)
        with av.open(str(path)) as old, av.open(str(tmp_path / "cover.mp4"), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            stream.disposition = av.stream.Disposition.attached_pic
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
        refused(tmp_path / "cover.mp4", "no-video-stream")

    def test_no_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "zero.mp4"
        with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
        refused(path, "no-frames")

    def test_a_device_is_no_file(self) -> None:
        with pytest.raises(MediaError, match="neither a file nor a folder"):
            probe("/dev/zero")


class TestDamage:
    @pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
    @pytest.mark.parametrize("name", ["f.mp4", "t.mp4", "t.mkv", "t.avi"])
    def test_cut_short(self, tmp_path: Path, clip: Clip, name: str, part: float) -> None:
        options = {"movflags": "faststart"} if name[0] == "f" else {}
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = clip(tmp_path / name, codec=codec, container_options=options)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        refused(path, "damaged-video")

    def test_a_live_recording_without_an_end_is_fine(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "l.mkv", container_options={"live": "1"})
        path.write_bytes(path.read_bytes()[:-1])
        assert probe(path)[0].frame_count >= 29

    @pytest.mark.parametrize("codec", ["ffv1", "mjpeg", "png"])
    def test_frames_that_do_not_decode(self, tmp_path: Path, clip: Clip, codec: str) -> None:
        pix_fmt = {"ffv1": "yuv420p", "mjpeg": "yuvj420p", "png": "rgb24"}[codec]
        suffix = "mov" if codec == "png" else "mkv"
        path = clip(tmp_path / f"b.{suffix}", codec=codec, pix_fmt=pix_fmt, b_frames=None, frames=12)
        with av.open(str(path)) as container:
            body = bytes([p for p in container.demux(video=0) if p.size][6])
        data = path.read_bytes()
        path.write_bytes(data.replace(body, b"\xaa" * len(body)))
        assert "ffmpeg -i" in refused(path, "damaged-video")

    def test_a_hole_in_the_middle(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "h.mp4", frames=60, gop=60)
        data = bytearray(path.read_bytes())
        middle = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 3
        data[middle : middle + 400] = bytes(400)
        path.write_bytes(data)
        refused(path, "damaged-video")

    def test_nothing_decodes(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "n.mov", codec="png", pix_fmt="rgb24", b_frames=None, frames=3)
        with av.open(str(path)) as container:
            bodies = [bytes(p) for p in container.demux(video=0) if p.size]
        data = path.read_bytes()
        for body in bodies:
            data = data.replace(body, b"\xaa" * len(body))
        path.write_bytes(data)
        refused(path, "damaged-video")

    def test_size_change(self, tmp_path: Path, clip: Clip) -> None:
        first = clip(tmp_path / "1.ts", frames=10)
        second = clip(tmp_path / "2.ts", frames=10, width=128, height=96)
        (tmp_path / "j.ts").write_bytes(first.read_bytes() + second.read_bytes())
        assert "96x64 to 128x96" in refused(tmp_path / "j.ts", "frame-size-changed")

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "v.webm"])
    def test_random_damage_is_refused_or_read_in_full(self, tmp_path: Path, clip: Clip, name: str) -> None:
        """Whatever byte is wrong: either a clean refusal, or a table that reading agrees with."""
        codec = {"a.avi": "mpeg4", "v.webm": "libvpx"}.get(name, "libx264")
        original = clip(tmp_path / name, codec=codec, b_frames=0, frames=12).read_bytes()
        path = tmp_path / f"hurt-{name}"
        rng = np.random.default_rng(7)
        for _ in range(40):
            data = bytearray(original)
            for at in rng.integers(0, len(data), rng.integers(1, 6)):
                data[at] = rng.integers(0, 256)
            path.write_bytes(data)
            try:
                info, table = probe(path, limits=Limits(max_pixels=640 * 480, max_frames=1000))
            except MediaError:
                continue
            with open_video(path, table=table) as source:
                shapes = [(frame.index, *frame.image.shape) for frame in source.frames()]
                assert source.info == info
            assert shapes == [(i, info.height, info.width, 3) for i in range(info.frame_count)]


class TestLimits:
    def test_each_cap_holds_at_its_border(self, bframes_mp4: Path) -> None:
        size = bframes_mp4.stat().st_size
        info, _ = probe(
            bframes_mp4, limits=Limits(max_bytes=size, max_pixels=96 * 64, max_frames=40, max_seconds=39 * 0.04)
        )
        assert info.frame_count == 40
        assert str(size) in refused(bframes_mp4, "file-too-large", max_bytes=size - 1)
        assert "96x64" in refused(bframes_mp4, "frame-too-large", max_pixels=96 * 64 - 1)
        assert "39" in refused(bframes_mp4, "too-many-frames", max_frames=39)
        assert "1.5" in refused(bframes_mp4, "video-too-long", max_seconds=1.5)

    def test_a_header_that_understates_the_size(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "big.mp4", width=640, height=480, frames=3)
        data = path.read_bytes()
        at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
        assert data[at : at + 4] == bytes([2, 128, 1, 224])
        path.write_bytes(data[:at] + bytes([0, 64, 0, 48]) + data[at + 4 :])
        with pytest.raises(MediaError) as raised:
            probe(path, limits=Limits(max_pixels=100_000))
        assert raised.value.slug in ("frame-too-large", "damaged-video")

    def test_a_jump_in_time_counts(self, tmp_path: Path, clip: Clip) -> None:
        path = clip(tmp_path / "j.mkv", frames=3, times=[0, 1, 25 * 3600 * 5])
        refused(path, "video-too-long")

    def test_frames_are_counted_while_decoding_too(self, tmp_path: Path, clip: Clip) -> None:
        refused(clip(tmp_path / "h.avi", frames=30), "too-many-frames", max_frames=29)


class TestLongVideos:
    """The path of videos too long to decode whole, on short ones."""

    @pytest.fixture(autouse=True)
    def _small_budget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acceptance, "WHOLE_BUDGET_PIXELS", 1)
        monkeypatch.setattr(acceptance, "_SPOT_BUDGET_PIXELS", 1)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.mp4", {}),
            ("a.mkv", {}),
            ("a.ts", {"options": {"x264-params": "open-gop=1:bframes=3"}}),
            ("a.avi", {"codec": "mpeg4"}),
            ("a.webm", {"codec": "libvpx", "b_frames": None}),
            ("one-gop.mp4", {"gop": 1000}),
        ],
    )
    def test_spot_checks_accept_good_files(
        self, tmp_path: Path, clip: Clip, number: Callable[[np.ndarray], int], name: str, options: dict[str, object]
    ) -> None:
        path = clip(tmp_path / name, frames=60, **options)
        with open_video(path) as source:
            assert source.table.by_pts
            assert [number(frame.image) for frame in source.frames()] == list(range(60))

    def test_a_size_change_between_the_spots_is_noticed(self, tmp_path: Path, clip: Clip) -> None:
        first = clip(tmp_path / "1.ts", frames=30)
        second = clip(tmp_path / "2.ts", frames=30, width=128, height=96, times=list(range(30, 60)))
        (tmp_path / "j.ts").write_bytes(first.read_bytes() + second.read_bytes())
        refused(tmp_path / "j.ts", "frame-size-changed")

    def test_a_wrong_clock_is_noticed(self, tmp_path: Path, clip: Clip, number: Callable[[np.ndarray], int]) -> None:
        with open_video(clip(tmp_path / "h.avi", frames=60)) as source:
            assert not source.table.by_pts
            assert [number(frame.image) for frame in source.frames()] == list(range(60))

    @pytest.mark.parametrize("bad", [0, 119])
    def test_the_first_and_the_last_frame_are_always_tried(self, tmp_path: Path, clip: Clip, bad: int) -> None:
        path = clip(tmp_path / "b.mov", codec="png", pix_fmt="rgb24", b_frames=None, frames=120)
        with av.open(str(path)) as container:
            body = bytes([p for p in container.demux(video=0) if p.size][bad])
        path.write_bytes(path.read_bytes().replace(body, b"\xaa" * len(body)))
        refused(path, "damaged-video")
