"""The table as a whole: what holds for every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from app.formats import EXPORTS, FORMATS, IMPORTS, LABEL_TYPES, ExportInput, ImportInput, find_reader
from app.formats.recognise import recognise
from model.errors import InputError
from model.labels import FrameResult
from model.rendered import RenderedClip
from model.video import encode_video, open_video


def test_rows_are_complete_and_files_have_names_of_their_own() -> None:
    assert len({format_.filename for format_ in FORMATS.values()}) == len(FORMATS)
    for name, format_ in FORMATS.items():
        assert name == format_.name
        assert format_.write is not None or format_.read is not None
        assert format_.label_types
        assert set(format_.label_types) <= set(LABEL_TYPES)


@pytest.mark.parametrize("name", sorted(set(EXPORTS) - {"overlay"}))
def test_the_same_results_are_the_same_bytes(
    export_input: Callable[..., ExportInput], tmp_path: Path, name: str
) -> None:
    EXPORTS[name].write_file(export_input(), tmp_path / "a")
    EXPORTS[name].write_file(export_input(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_frames_without_any_object_are_no_fault(
    export_input: Callable[..., ExportInput], tmp_path: Path, name: str
) -> None:
    EXPORTS[name].write_file(export_input([FrameResult(3, 120, ())]), tmp_path / "a")
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("name", sorted(set(EXPORTS) & set(IMPORTS)))
def test_what_is_exported_comes_back_on_its_frames_with_ids_and_names(
    export_input: Callable[..., ExportInput], results: list[FrameResult], tmp_path: Path, name: str
) -> None:
    format_ = FORMATS[name]
    hand_made = [
        replace(result, objects=tuple(replace(found, source="anchor") for found in result.objects))
        for result in (results[0], results[7])
    ]
    given = export_input(hand_made)
    path = tmp_path / format_.filename
    format_.write_file(given, path)
    assert format_.read is not None
    imported = format_.read(ImportInput(path, given.info, given.table, "clip.mp4"))
    # A region of Label Studio's ends after its last box, which says that the object is gone; its own tests have more.
    ends = [8] if name == "label-studio" else []
    assert [anchor["frame"] for anchor in imported.anchors] == [0, 7, *ends]
    expected = {1: "flower", 2: "puppet"}
    if name in ("coco-keypoints", "yolo-pose"):
        del expected[1]  # it has no keypoints
    if name == "davis":
        expected = dict.fromkeys(expected)  # pictures have no names
    assert {object_["id"]: object_.get("name") for object_ in imported.objects} == expected
    if name not in ("youtube-vos", "coco-keypoints"):  # whose files are those of davis and of coco
        assert recognise(path, list(IMPORTS)) == name


@pytest.mark.parametrize(
    ("fps", "times"),
    [
        (Fraction(30000, 1001), [0, 33, 67, 100, 133, 167, 200, 234, 267, 300, 334, 367]),
        (Fraction(25), [0, 40, 45, 130, 131, 400, 900, 901, 902, 903, 2000, 2500]),
    ],
)
def test_frames_are_frames_whatever_their_times(
    export_input: Callable[..., ExportInput],
    clip: RenderedClip,
    results: list[FrameResult],
    tmp_path: Path,
    fps: Fraction,
    times: list[int],
) -> None:
    encode_video(tmp_path / "clip.mp4", clip.frames(), fps=fps, pts_ms=iter(times))
    given = export_input([replace(result, time_ms=times[result.frame]) for result in results], tmp_path / "clip.mp4")
    assert [given.table.time_ms(frame) for frame in range(12)] == times
    for name in sorted(set(EXPORTS) & set(IMPORTS) - {"label-studio"}):  # whose page has frames of its own
        format_ = FORMATS[name]
        some = [
            replace(result, objects=tuple(replace(found, source="anchor") for found in result.objects))
            for result in results[3::4]
        ]
        format_.write_file(replace(given, results=lambda some=some: iter(some)), tmp_path / format_.filename)
        assert format_.read is not None
        imported = format_.read(ImportInput(tmp_path / format_.filename, given.info, given.table, "clip"))
        assert [anchor["frame"] for anchor in imported.anchors] == [3, 7, 11], name
    EXPORTS["npz"].write_file(given, tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as arrays:
        assert (arrays["frames"].tolist(), arrays["time_ms"].tolist()) == (list(range(12)), times)
    EXPORTS["overlay"].write_file(given, tmp_path / "o.mp4")
    with open_video(tmp_path / "o.mp4") as film:
        assert [film.table.time_ms(frame) for frame in range(12)] == times


def test_a_format_that_is_not_read_names_those_that_are() -> None:
    with pytest.raises(InputError, match="davis, youtube-vos, coco") as caught:
        find_reader("mots")
    assert (caught.value.slug, caught.value.pointer) == ("invalid-request", "/format")
    assert FORMATS["mots"].read is None


def test_a_format_that_is_only_read_is_not_written(export_input: Callable[..., ExportInput], tmp_path: Path) -> None:
    only_read = replace(FORMATS["coco"], write=None)
    with pytest.raises(InputError) as caught:
        only_read.write_into(export_input(), tmp_path)
    assert caught.value.slug == "unknown-format"


def test_the_page_about_formats_has_a_row_for_each() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    for name, format_ in FORMATS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        _, _, _, written, read, options = (cell.strip() for cell in row.strip("|").split("|"))
        assert (written == "yes", read == "yes") == (format_.write is not None, format_.read is not None), name
        assert [option.strip(" `") for option in options.split(",") if option.strip()] == list(format_.options), name
