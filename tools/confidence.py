"""How far confidence can be trusted: measures it, and fits it anew where asked.

    python tools/confidence.py --davis DAVIS --jhmdb JHMDB [--preset NAME] [--cache evidence.json]
    python tools/confidence.py ... --preset balanced --cache balanced.json --refit [--also plain.json]

Carries the first frame's masks through every clip and keeps the evidence and the true overlap of every frame in the
cache, clip by clip; it is used again while the model, the preset and the evidence's names stay the same. Of each
dataset's clips in the order of their names the first, third ... are fitted on, the others tested on. `--refit` writes
the weights into model/confidence.py; without it those that are there are tested. All presets share them, so `--also`
fits them to what a run with another preset left in its cache as well. The table goes into docs/accuracy.md
between `<!-- confidence PRESET -->` and `<!-- end -->`, the plot into docs/reliability-PRESET.png.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from clips import Measured, add_settings, carrier_of, each_measured, heading, measured_clips, settings_of
from numpy.typing import NDArray
from page import placed

from model import confidence, evidence
from model.channels import Channel
from model.decoding import decode
from model.evaluation.metrics import jaccard

ROOT = Path(__file__).parents[1]
_Floats = NDArray[np.float64]
_BINS = 10
# A weight costs a little, so that evidence which adds nothing keeps none.
_PENALTY = 1e-3
_LEAST_WEIGHT = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, metavar="DIR")
    parser.add_argument("--jhmdb", type=Path, metavar="DIR")
    parser.add_argument("--curtains", type=int, default=8, help="seeds of rendered clips, two of each (default: 8)")
    add_settings(parser, preset="plain")
    parser.add_argument("--every", type=int, default=1, help="takes every so many of the clips: a quick look")
    parser.add_argument("--cache", type=Path, default=Path("evidence.json"), help="default: %(default)s")
    parser.add_argument("--refit", action="store_true", help="fit, and write the weights into model/confidence.py")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="CACHE", help="see above")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "accuracy.md")
    parser.add_argument("--plot", type=Path, help="default: docs/reliability-PRESET.png")
    args = parser.parse_args()
    rows = _rows(args)
    table = Table(rows)
    if args.refit:
        others = [Table(_cached(path, str(number))) for number, path in enumerate(args.also)]
        fitting = [some.only(some.fitting & ~some.hidden) for some in (table, *others)]
        _write_weights(*fitted(Table([row for some in fitting for row in some.rows])))
        importlib.reload(confidence)
    estimates = table.estimates()
    report = _report(table, estimates, args)
    print(report)
    text = args.page.read_text()
    args.page.write_text(placed(text, f"confidence {args.preset}", report))
    shown = ~table.fitting & ~table.hidden
    plot(
        estimates[shown],
        table.truth[shown],
        table.datasets[shown],
        args.plot or ROOT / "docs" / f"reliability-{args.preset}.png",
    )


class Table:
    """What was measured, one entry per object and frame, as arrays."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = list(rows)
        self.evidence = np.array([row["evidence"] for row in rows], np.float64).reshape(-1, len(evidence.NAMES))
        self.truth = np.array([row["overlap"] for row in rows], np.float64)
        self.clips = np.array([row["clip"] for row in rows])
        self.datasets = np.array([row["dataset"] for row in rows])
        self.found = np.array([row["found"] > 0 for row in rows], bool)
        self.there = np.array([row["true"] > 0 for row in rows], bool)
        self.hidden = self.datasets == "curtain"
        first: set[str] = set()
        for dataset in set(self.datasets):
            first.update(sorted(set(self.clips[self.datasets == dataset]))[::2])
        self.fitting = np.array([clip in first for clip in self.clips], bool)

    def only(self, chosen: NDArray[np.bool_]) -> Table:
        part = Table([])
        part.rows = [row for row, wanted in zip(self.rows, chosen, strict=True) if wanted]
        for name in ("evidence", "truth", "clips", "datasets", "found", "there", "hidden", "fitting"):
            setattr(part, name, getattr(self, name)[chosen])
        return part

    def estimates(self) -> _Floats:
        """The confidence that results would carry."""
        told = [confidence.expected_overlap(row) for row in self.evidence]
        return np.where(self.found, np.round(told, 3), 0.0)

    def weights(self) -> _Floats:
        """Every clip counts the same, however long it is."""
        many = {clip: np.count_nonzero(self.clips == clip) for clip in set(self.clips)}
        return np.array([1 / many[clip] for clip in self.clips], np.float64)


def fitted(table: Table, names: Sequence[str] = evidence.NAMES) -> tuple[float, dict[str, float]]:
    """Intercept and weights of a logistic curve of evidence for the true overlap, no weight below 0."""
    columns = [evidence.NAMES.index(name) for name in names]
    solution = _logistic(table.evidence[:, columns], table.truth, table.weights())
    kept = [name for name, weight in zip(names, solution[1:], strict=True) if weight >= _LEAST_WEIGHT]
    if len(kept) < len(names):
        return fitted(table, kept)
    return float(solution[0]), {name: float(weight) for name, weight in zip(names, solution[1:], strict=True)}


def _logistic(values: _Floats, target: _Floats, weights: _Floats, steps: int = 4000) -> _Floats:
    """Least cross-entropy by accelerated projected gradients."""
    design = np.column_stack([np.ones(len(values)), values])
    share = weights / weights.sum()
    curvature = (design * share[:, None]).T @ design / 4 + _PENALTY * np.eye(design.shape[1])
    rate = 1 / np.linalg.eigvalsh(curvature)[-1]
    best = ahead = np.zeros(design.shape[1])
    momentum = 1.0
    for _ in range(steps):
        slope = design.T @ ((1 / (1 + np.exp(-design @ ahead)) - target) * share)
        slope[1:] += _PENALTY * ahead[1:]
        following = ahead - rate * slope
        following[1:] = np.maximum(following[1:], 0)
        gathered = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / gathered * (following - best)
        best, momentum = following, gathered
    return best


def spearman(a: _Floats, b: _Floats) -> float:
    """Rank correlation, ties at their mean rank; NaN where one side is constant."""
    first, second = _ranks(a), _ranks(b)
    if not first.std() or not second.std():
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: _Floats) -> _Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: _Floats = (ends - (counts - 1) / 2)[inverse]
    return ranks


def within(clips: NDArray[np.str_], a: _Floats, b: _Floats) -> float:
    """The mean over clips of the rank correlation inside of each, where both sides vary."""
    found = [spearman(a[clips == clip], b[clips == clip]) for clip in sorted(set(clips))]
    return float(np.nanmean(found))


def calibration_error(estimates: _Floats, truth: _Floats) -> float:
    """The mean distance of confidence from mean truth over bins, each counted by how many frames it holds."""
    bins = np.minimum((estimates * _BINS).astype(int), _BINS - 1)
    gaps = [abs(estimates[bins == b].mean() - truth[bins == b].mean()) * (bins == b).sum() for b in set(bins.tolist())]
    return float(np.sum(gaps) / len(estimates))


def plot(estimates: _Floats, truth: _Floats, datasets: NDArray[np.str_], path: Path) -> None:
    """Mean overlap against confidence, per dataset, and how often each confidence occurs, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    edges = np.linspace(0, 1, _BINS + 1)
    upper.plot((0, 1), (0, 1), color="#999999", linewidth=0.8)
    for dataset, colour in zip(sorted(set(datasets)), ("#1f3a5f", "#dd8452", "#55a868"), strict=False):
        here, true = estimates[datasets == dataset], truth[datasets == dataset]
        bins = np.minimum((here * _BINS).astype(int), _BINS - 1)
        filled = [b for b in range(_BINS) if (bins == b).sum() >= 5]
        means = [(here[bins == b].mean(), true[bins == b].mean()) for b in filled]
        upper.plot(*zip(*means, strict=True), marker="o", markersize=4, linewidth=1.4, color=colour, label=dataset)
        upper.scatter(here, true, s=2, color=colour, alpha=0.15, linewidths=0)
        lower.hist(here, edges, histtype="step", color=colour)
    upper.set(ylabel="J with the truth", xlim=(0, 1), ylim=(0, 1))
    upper.legend(frameon=False, fontsize=8)
    lower.set(xlabel="confidence", ylabel="frames")
    for panel in (upper, lower):
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.tick_params(labelsize=8)
    canvas.print_png(path)


def _report(table: Table, estimates: _Floats, args: argparse.Namespace) -> str:
    taken = f", every {args.every}th clip" if args.every > 1 else ""
    lines = [f"{heading(args)}{taken}.", ""]
    lines += ["| clips | frames | rank correlation, pooled | within clips | mean gap between confidence and J |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    real = ~table.hidden
    for name, chosen in (
        ("fitted on", real & table.fitting),
        ("**tested on**", real & ~table.fitting),
        ("of them DAVIS", ~table.fitting & (table.datasets == "davis")),
        ("of them JHMDB", ~table.fitting & (table.datasets == "jhmdb")),
    ):
        if chosen.any():
            a, b, clips = estimates[chosen], table.truth[chosen], table.clips[chosen]
            numbers = (spearman(a, b), within(clips, a, b), calibration_error(a, b))
            cells = " | ".join(f"{number:.3f}" for number in numbers)
            lines.append(f"| {name} ({len(set(clips))}) | {len(a)} | {cells} |")
    lines += ["", "| evidence | weight | alone, pooled | alone, within | fitted without it, pooled | within |"]
    lines += ["| --- | --- | --- | --- | --- | --- |", *_ablation(table)]
    return "\n".join([*lines, "", *_gone(table)])


def _ablation(table: Table) -> list[str]:
    """A line for every kind of evidence: its weight, how well it ranks alone, and what is left without it."""
    fitting, tested = (table.only(chosen & ~table.hidden) for chosen in (table.fitting, ~table.fitting))
    lines = []
    for number, name in enumerate(evidence.NAMES):
        alone = tested.evidence[:, number]
        cells = [f"{confidence.WEIGHTS[name]:.2f}" if name in confidence.WEIGHTS else "-"]
        cells += [f"{spearman(alone, tested.truth):.3f}", f"{within(tested.clips, alone, tested.truth):.3f}"]
        if name in confidence.WEIGHTS:
            others = [other for other in confidence.WEIGHTS if other != name]
            intercept, weights = fitted(fitting, others)
            row = np.array([weights.get(each, 0.0) for each in evidence.NAMES])
            without = intercept + tested.evidence @ row
            cells += [f"{spearman(without, tested.truth):.3f}", f"{within(tested.clips, without, tested.truth):.3f}"]
        else:
            cells += ["", ""]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def _gone(table: Table) -> list[str]:
    """False alarms and misses of `visible`, per dataset, over all clips: nothing but a threshold was fitted to it."""
    visible = table.found & ~np.array([confidence.gone(row) for row in table.evidence], bool)
    lines = ["| clips | object there: frames | nothing arrived | mask given up (false alarm) | mean J of those |"]
    lines[0] += " object hidden: frames | a mask all the same (miss) | without the rule |"
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for dataset in sorted(set(table.datasets)):
        here = table.datasets == dataset
        there, hidden = here & table.there, here & ~table.there
        alarms, misses = there & table.found & ~visible, hidden & visible
        lost = f"{table.truth[alarms].mean():.3f}" if alarms.any() else "-"
        lines.append(
            f"| {dataset} | {there.sum()} | {_share(there & ~table.found, there)} | {_share(alarms, there)} | {lost} | "
            f"{hidden.sum()} | {_share(misses, hidden)} | {_share(hidden & table.found, hidden)} |"
        )
    return lines


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> str:
    return f"{part.sum()} ({part.sum() / whole.sum():.1%})" if whole.any() else "-"


def _write_weights(intercept: float, weights: dict[str, float]) -> None:
    path = ROOT / "model" / "confidence.py"
    pairs = "".join(f'    "{name}": {weight:.3f},\n' for name, weight in weights.items())
    block = f"# fitted:\nINTERCEPT = {intercept:.3f}\nWEIGHTS = {{\n{pairs}}}\n# end of fitted"
    path.write_text(re.sub(r"# fitted:.*?# end of fitted", lambda _: block, path.read_text(), flags=re.DOTALL))


def _cached(path: Path, prefix: str) -> list[dict[str, Any]]:
    """What another run has measured, under clip names of its own."""
    clips = json.loads(path.read_text())["clips"]
    return [{**row, "clip": f"{prefix}-{row['clip']}"} for rows in clips.values() for row in rows]


def _rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    key = {**settings_of(args), "names": list(evidence.NAMES)}
    kept = json.loads(args.cache.read_text()) if args.cache.exists() else {}
    done: dict[str, list[dict[str, Any]]] = kept["clips"] if kept.get("key") == key else {}
    by_dataset = defaultdict(list)
    for clip in measured_clips(args.davis, args.jhmdb, args.curtains):
        by_dataset[clip.dataset].append(clip)
    # Taking turns, so that a run that is cut short has something of everything.
    turns = zip_longest(*(some[:: args.every] for some in by_dataset.values()))
    clips = [clip for turn in turns for clip in turn if clip is not None]
    missing = [clip for clip in clips if clip.name not in done]
    for clip, rows in each_measured(args, _measure, missing):
        done[clip.name] = rows
        args.cache.write_text(json.dumps({"key": key, "clips": done}))
    return [row for clip in clips for row in done[clip.name]]


def _measure(clip: Measured) -> list[dict[str, Any]]:
    rows = []
    for result, channels, soft in carrier_of(clip).run([clip.anchor(0)]):
        if result.frame == 0:
            continue
        truth = clip.truth(result.frame)
        # Of the mask that arrived, whether or not it would be given up.
        arrived = decode(channels, result.frame, 0, soft.values, soft.known)
        assert soft.evidence is not None
        for found in arrived.objects:
            assert found.mask is not None
            mask = truth.get(found.object, np.zeros_like(found.mask))
            told = soft.evidence[channels.index[Channel(found.object)]]
            rows.append(
                {
                    "clip": clip.name,
                    "dataset": clip.dataset,
                    "frame": result.frame,
                    "object": found.object,
                    "overlap": round(jaccard(found.mask, mask), 4),
                    "true": int(mask.sum()),
                    "found": int(found.mask.sum()),
                    "evidence": [round(float(value), 4) for value in told],
                }
            )
    return rows


if __name__ == "__main__":
    main()
