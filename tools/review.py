"""What looking at the frames that `labelprop propagate --review N` names is worth, against evenly spaced ones.

    python tools/review.py {--davis DAVIS|--jhmdb JHMDB} [--preset NAME] [--counts 1,2,3,4,5,6,7,8] [--json review.json]

Every sequence is carried from its first mask; then N further frames are given their true masks and all is carried
again. The table goes into docs/accuracy.md between `<!-- review PRESET DATASET -->` and `<!-- end -->`, the curve into
docs/review-DATASET.png.
`--json` keeps what is measured; what it already holds, from the same model and options, is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clips import (
    Measured,
    add_settings,
    carrier_of,
    each_measured,
    heading,
    mean_overlap,
    measured_clips,
    settings_of,
)
from numpy.typing import NDArray
from page import placed

from model.labels import Anchor, FrameResult
from model.review import suggest

ROOT = Path(__file__).parents[1]
_WAYS = ("named", "even")
_SHOWN_EACH = 12
_DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    dataset = parser.add_mutually_exclusive_group(required=True)
    dataset.add_argument("--davis", type=Path, metavar="DIR")
    dataset.add_argument("--jhmdb", type=Path, metavar="DIR")
    parser.add_argument("--sequences", default="", metavar="A,B", help="default: all")
    add_settings(parser, preset="fast")
    parser.add_argument("--counts", default="1,2,3,4,5,6,7,8", metavar="N,N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=Path("review.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "accuracy.md")
    parser.add_argument("--plot", type=Path, help="default: docs/review-DATASET.png")
    args = parser.parse_args()
    name = "davis" if args.davis else "jhmdb"
    counts = sorted({int(count) for count in args.counts.split(",")})
    found = _measured(args, counts)
    report = _report(found, counts, args)
    print(report)
    args.page.write_text(placed(args.page.read_text(), f"review {args.preset} {name}", report))
    plot(found, counts, args.plot or ROOT / "docs" / f"review-{name}.png")


def evenly(frames: int, count: int) -> list[int]:
    """So many frames that cut a clip whose first frame is known into pieces of one length."""
    return [round(frames * (i + 1) / (count + 1)) for i in range(count)]


def plot(found: dict[str, Any], counts: Sequence[int], path: Path) -> None:
    """Mean J over sequences against the number of corrected frames, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panel = figure.subplots()
    for way, label, colour in (("named", "frames named by --review", "#1f3a5f"), ("even", "evenly spaced", "#dd8452")):
        values = [_mean(found, "none", 0), *(_mean(found, way, count) for count in counts)]
        panel.plot([0, *counts], values, marker="o", markersize=4, color=colour, label=label)
    panel.set(xlabel="corrected frames", ylabel="mean J of the sequences")
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.legend(frameon=False, fontsize=8)
    canvas.print_png(path)


def _mean(found: dict[str, Any], way: str, count: int) -> float:
    return float(np.mean([each[way][str(count)] for each in found.values()]))


def _gains(found: dict[str, Any], counts: Sequence[int]) -> tuple[NDArray[np.float64], ...]:
    """Mean J with frames named less that with even ones, by count, and the ends of its 90 % interval by bootstrap."""
    apart = np.array([[each["named"][str(n)] - each["even"][str(n)] for n in counts] for each in found.values()])
    drawn = np.random.default_rng(0).integers(len(apart), size=(_DRAWS, len(apart)))
    low, high = np.percentile(apart[drawn].mean(axis=1), (5, 95), axis=0)
    return apart.mean(axis=0), low, high


def _report(found: dict[str, Any], counts: Sequence[int], args: argparse.Namespace) -> str:
    lines = [f"{heading(args)}. Mean J over all frames but the first, then over {len(found)} sequences.", ""]
    lines += [f"| corrected frames | 0 | {' | '.join(map(str, counts))} |"]
    lines += [f"| {' | '.join(['---'] * (len(counts) + 2))} |"]
    for way, label in (("named", "named by `--review`"), ("even", "evenly spaced")):
        values = [_mean(found, "none", 0), *(_mean(found, way, count) for count in counts)]
        lines.append(f"| {label} | {' | '.join(f'{value:.3f}' for value in values)} |")
    means, low, high = _gains(found, counts)
    lines.append(f"| named less even, points | | {' | '.join(f'{100 * mean:+.1f}' for mean in means)} |")
    spans = " | ".join(f"{100 * a:+.1f} to {100 * b:+.1f}" for a, b in zip(low, high, strict=True))
    lines.append(f"| its 90 % interval, by bootstrap over sequences | | {spans} |")
    if 5 in counts and len(found) <= _SHOWN_EACH:
        lines += ["", "With five, by sequence:", "", f"| | {' | '.join(found)} |"]
        lines += [f"| {' | '.join(['---'] * (len(found) + 1))} |"]
        for way, label in (("none", "none"), ("named", "named"), ("even", "evenly spaced")):
            count = "0" if way == "none" else "5"
            lines.append(f"| {label} | {' | '.join(f'{each[way][count]:.3f}' for each in found.values())} |")
    return "\n".join(lines)


def _measured(args: argparse.Namespace, counts: list[int]) -> dict[str, Any]:
    key = settings_of(args)
    kept = json.loads(args.json.read_text()) if args.json.exists() else {}
    done: dict[str, Any] = kept["sequences"] if kept.get("key") == key else {}
    clips = measured_clips(args.davis, args.jhmdb)
    wanted = args.sequences.split(",") if args.sequences else [clip.name for clip in clips]
    missing = {
        name: [count for count in counts if str(count) not in done.get(name, {}).get("named", {})] for name in wanted
    }
    waiting = [clip for clip in clips if missing.get(clip.name)]
    for clip, outcome in each_measured(args, _curve, waiting, [missing[clip.name] for clip in waiting]):
        done[clip.name] = _together(done.get(clip.name), outcome)
        args.json.write_text(json.dumps({"key": key, "sequences": done}, indent=1))
    return {name: done[name] for name in wanted}


def _curve(clip: Measured, counts: Sequence[int]) -> dict[str, Any]:
    """Mean J of one sequence by way and number of corrected frames, and the frames that were corrected."""
    carrier, first = carrier_of(clip), clip.anchor(0)

    def carried(corrected: Sequence[int]) -> tuple[float, list[FrameResult]]:
        anchors: list[Anchor] = [first, *(clip.anchor(frame) for frame in sorted(corrected))]
        results = [result for result, _, _ in carrier.run(anchors)]
        return float(np.mean([mean_overlap(result, clip.truth(result.frame)) for result in results[1:]])), results

    before, results = carried([])
    outcome: dict[str, Any] = {"none": {"0": before}, "frames": {}, **{way: {} for way in _WAYS}}
    for count in counts:
        named = [each.frame for each in suggest(results, count)]
        outcome["frames"][str(count)] = named
        outcome["named"][str(count)] = carried(named)[0]
        outcome["even"][str(count)] = carried(evenly(len(carrier.frames), count))[0]
    return outcome


def _together(known: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """What is known of a sequence with what was measured for further counts."""
    return new if known is None else {key: {**known[key], **new[key]} for key in new}


if __name__ == "__main__":
    main()
