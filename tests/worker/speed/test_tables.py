from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.speed.tables import markdown, plain, tables

Report = Callable[..., dict[str, Any]]


def test_stages_stand_side_by_side_for_every_size(report: Report) -> None:
    first, second, *others = tables(report())
    assert ("854 x 480" in first.title, "1920 x 1080" in second.title, len(others)) == (True, True, 3)
    assert first.header == (
        "stage", "1 object", "4 objects", "bare windows + top-k", "dense float32", "DIS flow, 1 object",
    )  # fmt: skip
    rows = {row[0]: row[1:] for row in first.rows}
    assert rows["encode"] == ("50.0", "50.0", "", "100.0", "")
    assert rows["affinity, labels carried, memory written"] == ("61.0", "64.0", "40.0", "3000.0", "")
    assert rows["optical flow, masks carried"] == ("", "", "", "", "32.0")
    assert rows["all stages, one after the other"] == ("114.5", "117.5", "", "", "33.3")


def test_the_whole_path_has_a_row_for_every_run(report: Report) -> None:
    wholes = tables(report())[2]
    assert len(wholes.rows) == 8
    cells = dict(zip(wholes.header, wholes.rows[0], strict=True))
    assert cells == {
        "size": "854 x 480", "objects": "1", "frames": "48", "frames/s": "10.00", "dense, frames/s": "0.499",
        "times the dense": "20.0", "DIS flow, frames/s": "30.00", "affinity / bare": "1.52", "J": "0.912",
        "J of DIS flow": "0.800", "peak MiB": "900",
    }  # fmt: skip


def test_each_further_object_has_its_price_in_per_cent(report: Report) -> None:
    further = tables(report())[3]
    assert further.rows[0] == ("854 x 480", "48", "1 to 4", "1.0 %")
    assert len(further.rows) == 4
    one = {**report(), "runs": report()["runs"][:1]}
    assert not any("further" in table.title for table in tables(one))


def test_operations_are_held_against_the_matrix_rate(report: Report) -> None:
    operations = tables(report())[4]
    assert operations.rows[:4] == (
        ("854 x 480", "encoder", "40.0", "50.0", "800", "1000", "80 %"),
        ("854 x 480", "bare windows", "20.0", "25.0", "800", "1000", "80 %"),
        ("854 x 480", "affinity, 1 object", "7.1", "61.0", "116", "1000", "12 %"),
        ("854 x 480", "affinity, 4 objects", "10.1", "64.0", "158", "1000", "16 %"),
    )
    assert len(operations.rows) == 8


def test_what_was_left_out_or_is_not_there_leaves_no_gap(report: Report) -> None:
    without = report(dense_ms=None, whole_vs_dense=None, flow=None, J=None)
    stages, wholes = tables(without)[0], tables(without)[2]
    assert stages.header == ("stage", "1 object", "4 objects", "bare windows + top-k")
    assert wholes.rows[0][4:] == ("-", "-", "-", "1.52", "-", "-", "900")
    missing = report(flow={"missing": "not installed: pip install it"}, J={"labelprop": 0.9, "flow": None})
    assert tables(missing)[2].rows[0][6:] == ("not installed: pip install it", "1.52", "0.900", "-", "900")
    assert "not installed: pip install it" in plain(missing)


def test_a_gpu_has_its_own_name_and_memory(report: Report) -> None:
    text = plain(report(device="A GPU", peak_device_memory_mib=321.0))
    assert "float32 on A GPU, 2 cores" in text
    assert "peak MiB, device" in text
    assert "321" in text


def test_the_terminal_gets_aligned_columns(report: Report) -> None:
    for table in tables(report()):
        lines = table.plain().splitlines()
        assert lines[0] == table.title
        assert len({len(line) for line in lines[2:] if not line.endswith(" ")}) <= 2
    assert plain(report()).startswith("Model mine (SHA-256 0123456789ab), preset plain, float32 on A CPU, 2 cores")


def test_the_page_gets_the_same_between_marks(report: Report) -> None:
    text = markdown(report(), "cpu")
    assert text.startswith("<!-- bench cpu -->\n`labelprop bench --lengths 48,300`\n\nModel mine")
    assert text.endswith("|\n<!-- end -->")
    assert "| encode | 50.0 | 50.0 |  | 100.0 |  |" in text
    assert text.count("| --- | ---:") == 5
