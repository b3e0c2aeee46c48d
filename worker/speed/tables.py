"""The tables of `labelprop bench`: for the terminal, and as docs/performance.md has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_STAGES = {
    "decode": "decode",
    "encode": "encode",
    "affinity": "affinity, labels carried, memory written",
    "flow": "optical flow, masks carried",
    "upsample": "upsampling, masks",
    "store": "results stored",
}

Run = Mapping[str, Any]
"""What `worker.speed.measure.measure` gives."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is aligned to the left, all others to the right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def plain(self) -> str:
        """For a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.title, ""]
        for row in (self.header, tuple("-" * width for width in widths), *self.rows):
            first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([row[0].ljust(len(first)), *rest]).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """For a page."""
        marks = ("---", *("---:" for _ in self.header[1:]))
        rows = [f"| {' | '.join(row)} |" for row in (self.header, marks, *self.rows)]
        return "\n".join([f"{self.title}:", "", *rows])


def tables(report: Mapping[str, Any]) -> list[Table]:
    """All tables of a report: stages of every size, whole paths, further objects, operations."""
    runs: Sequence[Run] = report["runs"]
    found = [_stages(of_size) for of_size in _by_size(_shortest(runs))]
    found.append(_wholes(runs))
    further = _further(runs)
    if further.rows:
        found.append(further)
    found.append(_operations(_shortest(runs)))
    return found


def heading(report: Mapping[str, Any]) -> str:
    """One line: with what, and on what, it was measured."""
    run = report["runs"][0]
    device = run["device"] if run["device"] != "cpu" else report["processor"]
    return (
        f"Model {run['model']} (SHA-256 {run['model_sha256'][:12]}), preset {run['preset']}, {run['precision']} on "
        f"{device}, {run['cores']} cores, torch {run['torch']}."
    )


def plain(report: Mapping[str, Any]) -> str:
    """The whole report for a terminal."""
    return "\n\n".join([heading(report), *(table.plain() for table in tables(report))])


def markdown(report: Mapping[str, Any], name: str) -> str:
    """The report as docs/performance.md has it, between marks that carry its name."""
    parts = [f"`{report['command']}`", heading(report), *(table.markdown() for table in tables(report))]
    return f"<!-- bench {name} -->\n" + "\n\n".join(parts) + "\n<!-- end -->"


def _stages(runs: Sequence[Run]) -> Table:
    """Milliseconds a frame of every stage, for one size."""
    columns: list[tuple[str, Mapping[str, float]]] = [(_objects(run), run["stages_ms"]) for run in runs]
    columns.append(("bare windows + top-k", {"affinity": _bare(runs[0])}))
    dense = next((run["dense_ms"] for run in runs if run["dense_ms"]), None)
    if dense:
        columns.append(("dense float32", dense))
    if (by_flow := runs[0]["flow"]) and "stages_ms" in by_flow:
        columns.append((f"DIS flow, {_objects(runs[0])}", by_flow["stages_ms"]))
    names = [stage for stage in _STAGES if any(stage in spent for _, spent in columns)]
    rows = [(_STAGES[stage], *(_number(spent.get(stage), 1, none="") for _, spent in columns)) for stage in names]
    # A sum is of a whole path only, and the bare products are none.
    sums = [_sum(spent) if "decode" in spent else "" for _, spent in columns]
    rows.append(("all stages, one after the other", *sums))
    title = f"Milliseconds a frame at {_size(runs[0])}, every stage alone, memory full"
    return Table(title, ("stage", *(name for name, _ in columns)), tuple(rows))


def _wholes(runs: Sequence[Run]) -> Table:
    header = (
        "size",
        "objects",
        "frames",
        "frames/s",
        "dense, frames/s",
        "times the dense",
        "DIS flow, frames/s",
        "affinity / bare",
        "J",
        "J of DIS flow",
        "peak MiB",
    )
    on_device = any(run["peak_device_memory_mib"] is not None for run in runs)
    rows = []
    for run in runs:
        by_flow, scores, vs_dense = run["flow"] or {}, run["J"] or {}, run["whole_vs_dense"]
        row = (
            _size(run),
            str(run["objects"]),
            str(run["frames"]),
            f"{run['whole_fps']:.2f}",
            _number(None if vs_dense is None else run["whole_fps"] / vs_dense, 3),
            _number(vs_dense, 1),
            by_flow["missing"] if "missing" in by_flow else _number(by_flow.get("whole_fps"), 2),
            _number(run["affinity_vs_bare"], 2),
            _number(scores.get("labelprop"), 3),
            _number(scores.get("flow"), 3),
            f"{run['peak_memory_mib']:.0f}",
        )
        rows.append((*row, f"{run['peak_device_memory_mib']:.0f}") if on_device else row)
    title = "The whole path, from the file to stored results, stages overlapped"
    return Table(title, (*header, "peak MiB, device") if on_device else header, tuple(rows))


def _further(runs: Sequence[Run]) -> Table:
    """What each further object adds to the time of a frame, in per cent of the time with fewer."""
    rows = []
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((_size(run), run["frames"]), []).append(run)
    for (size, frames), group in groups.items():
        ordered = sorted(group, key=lambda run: run["objects"])
        for few, many in pairwise(ordered):
            added = many["objects"] - few["objects"]
            share = (few["whole_fps"] / many["whole_fps"] - 1) / added
            rows.append((size, str(frames), f"{few['objects']} to {many['objects']}", f"{100 * share:.1f} %"))
    return Table(
        "What each further object adds to the time of a frame", ("size", "frames", "objects", "each"), tuple(rows)
    )


def _operations(runs: Sequence[Run]) -> Table:
    """Operations of a frame, and the share of the machine's measured matrix rate at which they are done."""
    rows = []
    for of_size in _by_size(runs):
        first = of_size[0]
        rows.append(_rate(first, "encoder", first["operations"]["encoder"], first["stages_ms"]["encode"]))
        rows.append(_rate(first, "bare windows", first["operations"]["bare"], first["bare_ms"]["products"]))
        for run in of_size:
            what = f"affinity, {_objects(run)}"
            rows.append(_rate(run, what, run["operations"]["affinity"], run["stages_ms"]["affinity"]))
    header = ("size", "of a frame", "GFLOP", "ms", "GFLOP/s", "matrix rate, GFLOP/s", "share")
    title = "Operations, counted from shapes, against large matrix products timed in the same run"
    return Table(title, header, tuple(rows))


def _rate(run: Run, what: str, operations: float, milliseconds: float) -> tuple[str, ...]:
    rate, most = operations / milliseconds * 1000, run["operations"]["matrix_rate"]
    numbers = f"{operations / 1e9:.1f}", f"{milliseconds:.1f}", f"{rate / 1e9:.0f}", f"{most / 1e9:.0f}"
    return _size(run), what, *numbers, f"{100 * rate / most:.0f} %"


def _by_size(runs: Iterable[Run]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_size(run), []).append(run)
    return list(groups.values())


def _shortest(runs: Sequence[Run]) -> list[Run]:
    """Of each size and number of objects the run of the fewest frames: stages do not depend on the length."""
    least = {(_size(run), run["objects"]): run for run in sorted(runs, key=lambda run: run["frames"], reverse=True)}
    return [run for run in runs if least[_size(run), run["objects"]] is run]


def _bare(run: Run) -> float:
    return float(sum(run["bare_ms"].values()))


def _size(run: Run) -> str:
    return f"{run['width']} x {run['height']}"


def _objects(run: Run) -> str:
    return "1 object" if run["objects"] == 1 else f"{run['objects']} objects"


def _sum(spent: Mapping[str, float]) -> str:
    return f"{sum(spent.values()):.1f}"


def _number(value: float | None, decimals: int, *, none: str = "-") -> str:
    return none if value is None else f"{value:.{decimals}f}"
