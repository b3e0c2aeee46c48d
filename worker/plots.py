"""Pictures of a training's course. Matplotlib is imported only when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.training.journal import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_PANEL = (4.2, 2.5)  # inches
_WINDOW = 0.03  # of the entries, for the smoothed curve
_LOGARITHMIC = 20.0  # from this ratio of a curve's greatest to its least value on
_SHADES = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860", "#da8bc3")
_LINE = "#1f3a5f"
_FAULT = "#c44e52"


def plot_losses(entries: Sequence[Entry], path: Path) -> None:
    """Draws every loss over the steps, a small panel each, and the learning rate in the last, as a PNG.

    Raw values are faint; their running median, which does not reach across phases, is strong; phases are shaded. A
    value that was not finite is a red cross at the panel's foot. The vertical range leaves lone outliers out, and is
    logarithmic where a loss is positive and falls far.

    Args:
        entries: of one training, in order; none gives a picture without curves.
        path: written to a temporary name and renamed, so that whoever looks never sees half a picture.

    Raises:
        OSError: where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(dict.fromkeys(name for entry in entries for name in entry.losses))
    columns = min(_COLUMNS, len(names) + 1)
    rows = math.ceil((len(names) + 1) / columns)
    # No pyplot: it keeps figures in a registry of the process, and asks for a display.
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows + 0.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    steps = np.array([entry.step for entry in entries], np.float64)
    phases = [(phase, [at for at, _ in group]) for phase, group in groupby(enumerate(entries), lambda e: e[1].phase)]
    kinds = list(dict.fromkeys(phase for phase, _ in phases))
    colours = {phase: _SHADES[i % len(_SHADES)] for i, phase in enumerate(kinds)}
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(names) + 1 :]:
        panel.set_visible(False)
    for panel in panels[: len(names) + 1]:
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.25, linewidth=0.5)
        for phase, at in phases:
            # A phase lasts until the next one's first entry.
            end = steps[min(at[-1] + 1, len(steps) - 1)]
            panel.axvspan(steps[at[0]], end, color=colours[phase], alpha=0.1, linewidth=0)
    for panel, name in zip(panels, names, strict=False):
        values = np.array([entry.losses.get(name, math.nan) for entry in entries])
        faults = steps[[name in entry.losses and not math.isfinite(entry.losses[name]) for entry in entries]]
        _draw_loss(panel, steps, values, faults, [at for _, at in phases])
        panel.set_title(name, fontsize=9, parse_math=False)
    rates = panels[len(names)]
    rates.plot(steps, [entry.lr for entry in entries], color=_LINE, linewidth=1.4, marker="." if len(steps) < 3 else "")
    rates.set_title("learning rate", fontsize=9)
    rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    rates.yaxis.get_offset_text().set_fontsize(7)
    if entries:
        done = f"step {entries[-1].step}, {entries[-1].minutes:.0f} minutes"
        handles = [Patch(color=colours[phase], alpha=0.3, label=phase) for phase in kinds]
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=6,
            fontsize=8,
            title=done,
            title_fontsize=9,
            frameon=False,
        )
    temporary = path.with_name(path.name + ".part")
    canvas.print_png(temporary)
    temporary.replace(path)


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The median of the finite values among the odd `window` around each place; nan where there are none.

    (N,) to (N,). One wild step, which happens, does not move it.
    """
    reach = window // 2
    padded = np.pad(np.where(np.isfinite(values), values, np.nan), reach, constant_values=np.nan)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)  # nan comes last
    count = np.isfinite(around).sum(axis=1)
    row = np.arange(len(values))
    return (around[row, np.maximum(count - 1, 0) // 2] + around[row, count // 2]) / 2


def _draw_loss(
    panel: Axes,
    steps: NDArray[np.float64],
    values: NDArray[np.float64],
    faults: NDArray[np.float64],
    phases: Sequence[list[int]],
) -> None:
    window = min(max(5, round(_WINDOW * len(values))), 101)
    curve = np.concatenate([smooth(values[at], window) for at in phases])
    panel.plot(steps, values, color=_LINE, alpha=0.25, linewidth=0.7)
    panel.plot(steps, curve, color=_LINE, linewidth=1.4, marker="." if len(steps) < 3 else "")
    if len(faults):  # without points it has no extent, and the layout gives up
        feet = np.zeros(len(faults))
        panel.plot(faults, feet, "x", color=_FAULT, transform=panel.get_xaxis_transform(), clip_on=False)
    seen = values[np.isfinite(values)]
    if not len(seen):
        return
    curve = curve[np.isfinite(curve)]
    low, high = np.percentile(seen, (0.5, 99.5))
    if seen.min() > 0 and curve.max() > _LOGARITHMIC * curve.min():
        panel.set_yscale("log")
        panel.set_ylim(low / 1.2, high * 1.2)
        return
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    panel.set_ylim(low - margin, high + margin)
