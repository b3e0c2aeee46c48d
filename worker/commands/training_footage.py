"""A run's footage: read with a bar, described, its sources weighed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from app.settings import settings
from model.errors import InputError
from model.training.finding import Skipped, find
from model.training.footage import Footage
from model.training.sources import Progress, read_footage
from worker.training_folder import RunSpec

_NAMED = 20  # skipped files that are named one by one


def read(spec: RunSpec, *, threads: int, quiet: bool) -> Footage:
    """The run's footage, and says what it is.

    Raises:
        MediaError: there is nothing to train on.
        InputError: a weight is of a source that there is not.
    """
    paths = [Path(path) for path in spec.videos]
    if spec.weights:
        known = sorted({item.source for item in find(paths)[0]})
        unknown = sorted(set(spec.weights) - set(known))
        if unknown:
            raise InputError(f"--weight: there is no source {unknown[0]!r}. Sources are: {', '.join(known)}.")
    with tqdm(desc="look", unit="file", disable=quiet or None, dynamic_ncols=True, leave=False) as bar:

        def report(progress: Progress) -> None:
            if bar.total != progress.total or bar.desc != progress.stage:
                bar.reset(progress.total)
                bar.set_description_str(progress.stage, refresh=False)
            bar.update(progress.done - bar.n)

        footage, skipped = read_footage(
            paths,
            fps=spec.fps,
            short_side=spec.short_side,
            memory_bytes=spec.memory_bytes,
            seed=spec.seed,
            weights=spec.weights,
            limits=settings().limits,
            threads=threads,
            report=report,
        )
    if not quiet:
        print(f"footage    {describe(footage)}")
        print(f"sources    {', '.join(f'{name} {count}' for name, count in sources(footage).items())}")
    # A file that is not used is said even where nothing else is: nobody finds out later.
    _print_skipped(skipped)
    return footage


def describe(footage: Footage) -> str:
    """One line: clips, photographs, frames, minutes, bytes."""
    moving = {run.file for run in footage.runs if run.count > 1}
    stills = {run.file for run in footage.runs} - moving
    times = footage.times_ms.cpu()
    span = sum(float(times[run.first + run.count - 1] - times[run.first]) for run in footage.runs)
    used = 3 * int(footage.sizes.prod(dim=1).sum())
    return (
        f"{len(moving)} clips, {len(stills)} photographs, {len(footage)} frames, {span / 60_000:.1f} minutes, "
        f"{used / (1 << 30):.2f} GiB"
    )


def sampler_weights(footage: Footage, weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as `Sampler` takes them, from weights as times what a source would have."""
    frames: Counter[str] = Counter()
    for run in footage.runs:
        frames[run.source] += run.count
    # A source whose only clip is held out is not drawn from.
    return {name: weight * frames[name] ** 0.5 for name, weight in weights.items() if name in frames}


def sources(footage: Footage) -> dict[str, int]:
    """How many clips and photographs each source has, by name."""
    files = {run.file: run.source for run in footage.runs}
    return dict(sorted(Counter(files.values()).items()))


def _print_skipped(skipped: Sequence[Skipped]) -> None:
    for one in skipped[:_NAMED]:
        print(f"skipped    {one.name}: {one.reason}", file=sys.stderr)
    if len(skipped) > _NAMED:
        print(f"skipped    and {len(skipped) - _NAMED} more", file=sys.stderr)
