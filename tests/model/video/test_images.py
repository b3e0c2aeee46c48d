from __future__ import annotations

import io
import resource
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from PIL import Image, ImageOps

from model.errors import MediaError
from model.video import FrameTable, Limits, open_video, probe, read_backward
from model.video.orientation import Orientation

Picture = Callable[..., np.ndarray]
Number = Callable[[np.ndarray], int]


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    """Twelve PNG frames, 0.png to 11.png."""
    path = tmp_path / "frames"
    path.mkdir()
    for i in range(12):
        Image.fromarray(picture(i)).save(path / f"{i}.png")
    return path


def pack(folder: Path, target: Path, prefix: str = "") -> Path:
    with ZipFile(target, "w", ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return target


def refused(path: Path, slug: str, **limits: float) -> str:
    with pytest.raises(MediaError) as raised:
        probe(path, limits=Limits(**limits))  # type: ignore[arg-type]
    assert raised.value.slug == slug, raised.value.detail
    return raised.value.detail


class TestOrderAndFacts:
    @pytest.mark.parametrize("kind", ["folder", "zip", "zip with a folder inside"])
    def test_natural_order_and_original_names(
        self, tmp_path: Path, folder: Path, picture: Picture, number: Number, kind: str
    ) -> None:
        path = folder if kind == "folder" else pack(folder, tmp_path / "upload.bin", "seq/" if "inside" in kind else "")
        info, table = probe(path, fps=Fraction(10))
        assert (info.container, info.codec, info.fps, info.duration_ms) == (kind[:6].split()[0], "png", 10, 1200)
        assert table.names == tuple(f"{i}.png" for i in range(12))
        files = [path] if path.is_file() else list(path.iterdir())
        assert info.bytes == sum(file.stat().st_size for file in files)
        with open_video(path, table=table, fps=Fraction(10)) as source:
            assert source.info == info
            for i, frame in enumerate(source.frames()):
                assert (frame.index, frame.time_ms) == (i, 100 * i)
                np.testing.assert_array_equal(frame.image, picture(i))
                assert frame.image.flags.c_contiguous
            assert [number(frame.image) for frame in read_backward(source, 1, None, 3)] == [10, 7, 4, 1]
            assert number(source.frame(9).image) == 9

    def test_without_a_rate_times_are_those_of_25_and_the_rate_is_unknown(self, folder: Path) -> None:
        info, table = probe(folder)
        assert info.fps is None
        assert info.to_json()["fps"] is None
        assert info.duration_ms == 480
        assert table.time_ms(3) == 120

    @pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp", "bmp"])
    def test_formats(self, tmp_path: Path, picture: Picture, number: Number, suffix: str) -> None:
        for i in range(3):
            Image.fromarray(picture(i)).save(tmp_path / f"{i:05d}.{suffix}")
        with open_video(tmp_path) as source:
            assert [number(frame.image) for frame in source.frames()] == [0, 1, 2]

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1", "CMYK"])
    def test_modes_become_rgb(self, tmp_path: Path, picture: Picture, number: Number, mode: str) -> None:
        image = Image.fromarray(picture(5))
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 8)
        image = image if mode == "I;16" else image.convert(mode)
        image.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
        with open_video(tmp_path) as source:
            assert source.frame(0).image.shape == (64, 96, 3)
            assert number(source.frame(0).image) == 5

    @pytest.mark.parametrize("tag", range(1, 9))
    def test_exif_orientation_is_applied(self, tmp_path: Path, picture: Picture, tag: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = tag
        stored = Image.fromarray(picture(3))
        stored.save(tmp_path / "a.png", exif=exif)
        shown = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
        with open_video(tmp_path) as source:
            assert (source.info.width, source.info.height) == shown.size
            np.testing.assert_array_equal(source.frame(0).image, np.asarray(shown))

    def test_other_files_are_left_out(self, tmp_path: Path, folder: Path) -> None:
        (folder / "notes.txt").write_text("hello")
        (folder / ".hidden.png").write_bytes(b"")
        (folder / "sub").mkdir()
        path = pack_with(
            pack_names(folder), tmp_path / "a.zip", {"__MACOSX/._0.png": b"x", "seq/": b"", "seq/.DS": b""}
        )
        assert probe(folder)[0].frame_count == 12
        assert probe(path)[0].frame_count == 12

    def test_a_table_of_other_images_is_refused(self, folder: Path) -> None:
        _, table = probe(folder)
        (folder / "5.png").unlink()
        with pytest.raises(MediaError, match="not those"):
            open_video(folder, table=table)

    def test_the_names_survive_storing(self, tmp_path: Path, folder: Path) -> None:
        _, table = probe(folder)
        table.save(tmp_path / "t.npz")
        assert FrameTable.load(tmp_path / "t.npz").names == table.names


class TestRefusals:
    def test_nothing_inside(self, tmp_path: Path) -> None:
        refused(tmp_path, "no-frames")
        with ZipFile(tmp_path / "e.zip", "w"):
            pass
        refused(tmp_path / "e.zip", "no-frames")

    def test_sizes_differ(self, folder: Path, picture: Picture) -> None:
        Image.fromarray(picture(0, 64, 96)).save(folder / "7.png")
        detail = refused(folder, "frame-size-changed")
        assert "7.png" in detail
        assert "64x96" in detail
        assert "96x64" in detail

    @pytest.mark.parametrize("at", [0, 6, 11])
    def test_damaged_image(self, folder: Path, at: int) -> None:
        data = (folder / f"{at}.png").read_bytes()
        (folder / f"{at}.png").write_bytes(data[: len(data) // 2])
        assert f"{at}.png" in refused(folder, "damaged-video")

    def test_an_image_that_goes_bad_later_is_named(self, folder: Path) -> None:
        with open_video(folder) as source:
            (folder / "4.png").write_bytes(b"gone")
            seen = []
            with pytest.raises(MediaError, match="Frame 4 ") as raised:
                seen.extend(frame.index for frame in source.frames())
        assert raised.value.slug == "frame-unreadable"
        assert seen == [0, 1, 2, 3]

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("%!PS-Adobe")
        refused(tmp_path, "damaged-video")

    def test_a_format_in_disguise(self, tmp_path: Path, picture: Picture) -> None:
        buffer = io.BytesIO()
        Image.fromarray(picture(0)).save(buffer, "TIFF")
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        refused(tmp_path, "damaged-video")

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("side", [4000, 12000, 30000, 2**31 - 1])
    def test_bomb(self, tmp_path: Path, side: int) -> None:
        Image.new("1", (8, 8)).save(tmp_path / "b.png")
        data = bytearray((tmp_path / "b.png").read_bytes())
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        (tmp_path / "b.png").write_bytes(data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refused(tmp_path, "frame-too-large", max_pixels=15_000_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 12_000, "it was decoded (in KiB)"

    def test_too_many_bytes_for_an_image(self, folder: Path) -> None:
        with (folder / "3.png").open("ab") as file:
            file.write(bytes(1 << 21))
        assert "3.png" in refused(folder, "frame-too-large", max_pixels=96 * 64)

    def test_caps(self, tmp_path: Path, folder: Path) -> None:
        for path in (folder, pack(folder, tmp_path / "a.zip")):
            probe(path, limits=Limits(max_frames=12, max_pixels=96 * 64, max_seconds=0.48))
            refused(path, "too-many-frames", max_frames=11)
            refused(path, "frame-too-large", max_pixels=96 * 64 - 1)
            refused(path, "video-too-long", max_seconds=0.47)
            refused(path, "file-too-large", max_bytes=1000)

    def test_two_images_of_one_name(self, folder: Path, picture: Picture) -> None:
        Image.fromarray(picture(0)).save(folder / "3.jpg")
        assert "'3'" in refused(folder, "bad-archive")

    def test_several_folders(self, tmp_path: Path, folder: Path) -> None:
        path = pack_with(pack_names(folder), tmp_path / "a.zip", {"other/99.png": (folder / "0.png").read_bytes()})
        assert "several folders" in refused(path, "bad-archive")


def pack_names(folder: Path) -> dict[str, bytes]:
    return {f"seq/{file.name}": file.read_bytes() for file in folder.iterdir() if file.is_file()}


def pack_with(files: dict[str, bytes], target: Path, more: dict[str, bytes]) -> Path:
    with ZipFile(target, "w") as archive:
        for name, data in {**files, **more}.items():
            archive.writestr(name, data)
    return target


def test_the_eight_orientations_are_distinct() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert len({Orientation.of_exif(tag).apply(image).tobytes() for tag in range(1, 9)}) == 8
