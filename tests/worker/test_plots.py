from __future__ import annotations

import math
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.training.journal import Entry
from worker.plots import plot_losses, smooth


def _entry(step: int, phase: str = "match", losses: Mapping[str, float] | None = None) -> Entry:
    return Entry(step, step / 60, phase, 1e-3, 100.0, losses if losses is not None else {"colour": 1.0 / step})


def _drawn(entries: list[Entry], path: Path) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns where a layout or a range does not work out
        plot_losses(entries, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def _reddish(picture: NDArray[np.uint8]) -> int:
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    return int(((red - green > 90) & (red - blue > 90)).sum())


def test_each_loss_gets_a_panel(tmp_path: Path) -> None:
    shapes = []
    for count in (1, 2, 3, 6):
        losses = {f"loss {i}": 1.0 + i for i in range(count)}
        shapes.append(_drawn([_entry(s, losses=losses) for s in range(1, 20)], tmp_path / "p.png").shape[:2])
    heights, widths = zip(*shapes, strict=True)
    assert widths[0] < widths[1] == widths[2] == widths[3]  # two, then three columns; the last is the learning rate's
    assert heights[0] == heights[1] < heights[2] < heights[3]


def test_phases_are_shaded_differently(tmp_path: Path) -> None:
    one = _drawn([_entry(s) for s in range(1, 40)], tmp_path / "one.png")
    two = _drawn([_entry(s, "match" if s < 20 else "joint") for s in range(1, 40)], tmp_path / "two.png")
    background = {tuple(int(v) for v in c) for c in _common(one)}, {tuple(int(v) for v in c) for c in _common(two)}
    assert len(background[0]) == 2  # paper, one phase
    assert len(background[1]) == 3


def _common(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours that cover more than 5 percent."""
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    return colours[counts > 0.05 * counts.sum()]


def test_a_loss_that_is_not_finite_is_marked(tmp_path: Path) -> None:
    fine = [_entry(s, losses={"colour": 1.0, "cycle": 2.0}) for s in range(1, 30)]
    broken = [_entry(s, losses={"colour": math.inf if s == 15 else 1.0, "cycle": 2.0}) for s in range(1, 30)]
    assert _reddish(_drawn(fine, tmp_path / "fine.png")) == 0
    assert _reddish(_drawn(broken, tmp_path / "broken.png")) > 10


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [_entry(1)],
        [_entry(1), _entry(2)],
        [_entry(1, losses={})],
        [_entry(s, losses={"colour": math.nan}) for s in (1, 2, 3)],
        [_entry(s, losses={"colour": 0.0}) for s in (1, 2, 3)],
        [_entry(s, losses={"colour": 10.0**s}) for s in range(-30, 30)],
        [_entry(s, losses={"a": 1.0} if s < 5 else {"b $x^$ <&>": -1.0}) for s in range(1, 10)],
        [_entry(s, f"phase {s}") for s in range(1, 15)],
    ],
    ids=["none", "one", "two", "no losses", "never finite", "zero", "steep", "losses come and go", "many phases"],
)
def test_every_journal_can_be_drawn(tmp_path: Path, entries: list[Entry]) -> None:
    assert _drawn(entries, tmp_path / "p.png").std() > 1


def test_the_picture_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    plot_losses([_entry(1)], path)
    before = path.stat().st_ino
    plot_losses([_entry(1), _entry(2)], path)
    assert path.stat().st_ino != before  # renamed over it, not written into it
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]


def test_it_draws_in_any_thread_and_leaves_no_figure_behind(tmp_path: Path) -> None:
    thread = threading.Thread(target=plot_losses, args=([_entry(1), _entry(2)], tmp_path / "p.png"))
    thread.start()
    thread.join()
    assert (tmp_path / "p.png").exists()
    assert "matplotlib.pyplot" not in sys.modules


def test_the_median_follows_the_curve_and_not_a_wild_step() -> None:
    values = np.linspace(5.0, 1.0, 101)
    np.testing.assert_allclose(smooth(values, 9)[4:-4], values[4:-4])
    wild = values.copy()
    wild[50], wild[60] = 1e6, math.nan
    assert np.abs(smooth(wild, 9) - values).max() < 0.2


def test_the_median_of_few_or_missing_values() -> None:
    np.testing.assert_array_equal(smooth(np.array([3.0]), 5), [3.0])
    np.testing.assert_array_equal(smooth(np.array([1.0, 2.0]), 5), [1.5, 1.5])
    nan = math.nan
    np.testing.assert_array_equal(smooth(np.array([nan, 4.0, nan, nan, nan]), 3), [4.0, 4.0, 4.0, nan, nan])


def test_importing_it_loads_neither_matplotlib_nor_torch() -> None:
    code = "import sys, worker.plots; print(sorted({'matplotlib', 'torch', 'app'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
