from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation.benchmark import (
    as_truth,
    chosen,
    folders_in,
    image_names,
    list_of_names,
    masks_of_folder,
    png_size,
    present,
    read_png,
    write_index_map,
)
from model.labels import indexed_png
from model.rendered import RenderedClip

from ...datasets import index_maps, result_of, write_masks, write_pictures

Refused = Callable[..., None]


class TestNames:
    def test_the_wanted_ones_each_once_in_the_order_given(self) -> None:
        assert chosen(["a", "b", "c"], ["c", "a", "c"], Path("DAVIS")) == ["c", "a"]
        assert chosen(["b", "a"], None, Path("DAVIS")) == ["b", "a"]

    def test_one_that_is_not_there_is_named_and_so_are_those_that_are(self, refused: Refused) -> None:
        refused(chosen, ["camel", "dog"], ["dog", "cow"], Path("DAVIS"), says=("'cow'", "DAVIS", "camel, dog"))
        refused(chosen, [], ["cow"], Path("DAVIS"), says=("'cow'", "none"))

    def test_a_list_that_names_more_than_is_there(self) -> None:
        assert present(["c", "x", "a", "c"], ["a", "b", "c"]) == (["c", "a"], ("x",))

    def test_folders_but_neither_files_nor_hidden_ones(self, tmp_path: Path) -> None:
        for name in ("b", "a", ".hidden"):
            (tmp_path / name).mkdir()
        (tmp_path / "file").touch()
        assert folders_in(tmp_path) == ["a", "b"]

    @pytest.mark.parametrize(
        "text",
        [
            "dog\n\n camel \n",
            "videos/dog\nvideos/camel/\n",
            "/JPEGImages/480p/dog/00000.jpg /Annotations/480p/dog/00000.png\n"
            "/JPEGImages/480p/dog/00001.jpg /Annotations/480p/dog/00001.png\n"
            "/JPEGImages/480p/camel/00000.jpg /Annotations/480p/camel/00000.png\n",
        ],
        ids=["DAVIS 2017", "paths", "DAVIS 2016"],
    )
    def test_every_form_of_list(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "val.txt").write_text(text)
        assert list_of_names(tmp_path / "val.txt") == ["dog", "camel"]

    def test_a_list_that_is_no_text_names_nothing_that_exists(self, tmp_path: Path) -> None:
        (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00d\x00o")
        assert present(list_of_names(tmp_path / "val.txt"), ["dog"])[0] == []


class TestImages:
    def test_names_in_natural_order_and_the_size(self, tmp_path: Path) -> None:
        for number in (10, 2, 1):
            Image.new("RGB", (7, 5)).save(tmp_path / f"{number}.jpg")
        assert image_names(tmp_path) == (("1.jpg", "2.jpg", "10.jpg"), (7, 5))

    def test_a_folder_that_is_missing_or_has_none(self, tmp_path: Path, refused: Refused) -> None:
        refused(image_names, tmp_path / "nothing", says=("nothing", "frames"))
        (tmp_path / "empty").mkdir()
        refused(image_names, tmp_path / "empty", says="empty")


class TestPng:
    def test_indices_and_grey(self, tmp_path: Path) -> None:
        values = np.arange(12, dtype=np.uint8).reshape(3, 4)
        (tmp_path / "indexed.png").write_bytes(indexed_png.encode(values))
        Image.fromarray(values).save(tmp_path / "grey.png")
        for name in ("indexed.png", "grey.png"):
            assert png_size(tmp_path / name) == (4, 3)
            assert np.array_equal(read_png(tmp_path / name, (4, 3)), values)

    @pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
    def test_grey_in_more_channels_than_it_needs(self, tmp_path: Path, mode: str) -> None:
        values = np.where(np.arange(12).reshape(3, 4) % 3, 255, 0).astype(np.uint8)
        Image.fromarray(values).convert(mode).save(tmp_path / "00077.png")
        assert np.array_equal(read_png(tmp_path / "00077.png", (4, 3)), values)

    def test_what_cannot_be_read_is_named(self, tmp_path: Path, refused: Refused) -> None:
        colours = np.zeros((3, 4, 3), np.uint8)
        colours[1, 1] = 128, 0, 0
        Image.fromarray(colours).save(tmp_path / "colours.png")
        refused(read_png, tmp_path / "colours.png", (4, 3), says=("colours.png", "colour PNG"))
        Image.new("L", (4, 3)).save(tmp_path / "small.png")
        refused(read_png, tmp_path / "small.png", (8, 6), says=("small.png", "4 x 3", "8 x 6"))
        refused(read_png, tmp_path / "missing.png", (4, 3), says=("missing.png", "No such file"))
        refused(png_size, tmp_path / "missing.png", says=("missing.png", "truth"))
        (tmp_path / "text.png").write_text("no picture")
        refused(read_png, tmp_path / "text.png", (4, 3), says="text.png")
        refused(png_size, tmp_path / "text.png", says="text.png")


class TestMasksOfAFolder:
    def test_one_for_every_image_by_its_name(self, tmp_path: Path, clips: tuple[RenderedClip, ...]) -> None:
        write_pictures(clips[0], tmp_path / "images", "{:05}.jpg")
        write_masks(index_maps(clips[0]), tmp_path / "masks", "{:05}.png")
        paths, size = masks_of_folder(tmp_path / "images", tmp_path / "masks", None)
        assert [path.name for path in paths] == [f"{i:05}.png" for i in range(9)]
        assert size == (64, 48)
        assert masks_of_folder(tmp_path / "images", tmp_path / "masks", 4)[0] == paths[:4]

    def test_one_that_is_missing_or_of_another_size(
        self, tmp_path: Path, clips: tuple[RenderedClip, ...], refused: Refused
    ) -> None:
        write_pictures(clips[0], tmp_path / "images", "{:05}.jpg")
        write_masks(index_maps(clips[0]), tmp_path / "masks", "{:05}.png")
        (tmp_path / "masks" / "00003.png").write_bytes(indexed_png.encode(clips[1].mask(3)))
        refused(
            masks_of_folder, tmp_path / "images", tmp_path / "masks", None, says=("00003.png", "72 x 56", "64 x 48")
        )
        (tmp_path / "masks" / "00003.png").unlink()
        refused(masks_of_folder, tmp_path / "images", tmp_path / "masks", None, says=("00003.png", "truth"))


def test_a_true_region_as_a_result() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    found = as_truth(7, mask)
    assert (found.object, found.visible, found.box, found.source) == (7, True, (3, 2, 4, 2), "anchor")
    assert not as_truth(7, np.zeros((6, 8), bool)).visible


def test_a_result_is_written_as_one_index_map(tmp_path: Path) -> None:
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :3], right[:, 2:] = True, True
    write_index_map(result_of(0, {2: left, 5: right}), tmp_path / "new" / "folder", "a.png", (4, 2))
    expected = [[2, 2, 5, 5]] * 2  # the higher id wins
    assert read_png(tmp_path / "new" / "folder" / "a.png", (4, 2)).tolist() == expected
