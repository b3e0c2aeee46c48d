"""What it is worth to trust the surer direction where forward and backward meet (`model.meeting`).

    python tools/meeting.py --davis DAVIS --jhmdb JHMDB [--preset NAME] [--working-size 240] [--anchors 2,3]

Every clip is carried from so many true masks, the first and the last frame's among them, with even distances between;
what both directions say of the frames in between is put together in three ways, and J of each way is compared. The
table goes into docs/accuracy.md between `<!-- meeting PRESET -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from clips import Measured, add_settings, carrier_of, each_measured, heading, mean_overlap, measured_clips
from page import placed

from model.channels import ChannelSet
from model.meeting import Meeting
from model.propagator import SoftMaps

ROOT = Path(__file__).parents[1]
_Join = Callable[[SoftMaps, SoftMaps], SoftMaps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, metavar="DIR")
    parser.add_argument("--jhmdb", type=Path, metavar="DIR")
    add_settings(parser, preset="balanced")
    parser.add_argument("--anchors", default="2,3", metavar="N,N", help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "accuracy.md")
    args = parser.parse_args()
    clips = measured_clips(args.davis, args.jhmdb)
    if not clips:
        parser.error("Give --davis, --jhmdb or both.")
    counts = sorted({int(count) for count in args.anchors.split(",")})
    if counts[0] < 2:
        parser.error("--anchors: between fewer than 2 nothing meets.")
    found: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for clip, outcome in each_measured(args, _measured, clips, [counts] * len(clips)):
        for count, overlaps in outcome.items():
            found[clip.dataset, count].append(overlaps)
    report = _report(found, args)
    print(report)
    args.page.write_text(placed(args.page.read_text(), f"meeting {args.preset}", report))


def ways(channels: ChannelSet) -> dict[str, _Join]:
    """How to join a forward and a backward map, by what it is called; the last one is what jobs do."""
    meeting = Meeting(channels)

    def by_nearness(forward: SoftMaps, backward: SoftMaps) -> SoftMaps:
        return meeting.join(replace(forward, evidence=None), replace(backward, evidence=None))

    def mean(forward: SoftMaps, backward: SoftMaps) -> SoftMaps:
        joined = by_nearness(forward, backward)
        frames = sorted(channels.anchors)
        after = next(frame for frame in frames if frame > forward.frame)
        before = frames[frames.index(after) - 1]
        share = (forward.frame - before) / (after - before)
        return replace(joined, values=torch.lerp(forward.values, backward.values, share))

    return {"mean by nearness": mean, "pool by nearness": by_nearness, "and by confidence": meeting.join}


def _measured(clip: Measured, counts: Sequence[int]) -> dict[int, dict[str, float]]:
    """By number of anchors and way, the mean J over objects and the frames between."""
    carrier, found = carrier_of(clip), {}
    last = len(carrier.frames) - 1
    for count in counts:
        anchored = sorted({round(last * i / (count - 1)) for i in range(count)})
        channels, backward, forward = carrier.directions([clip.anchor(frame) for frame in anchored])
        joins, overlaps = ways(channels), defaultdict(list)
        for soft in forward:
            if soft.frame not in anchored:
                truth = clip.truth(soft.frame)
                for way, join in joins.items():
                    # Maps alone are compared: without evidence nothing is declared gone.
                    joined = replace(join(soft, backward[soft.frame]), evidence=None)
                    overlaps[way].append(mean_overlap(carrier.decoded(channels, joined), truth))
        found[count] = {way: float(np.mean(values)) for way, values in overlaps.items()}
    return found


def _report(found: dict[tuple[str, int], list[dict[str, float]]], args: argparse.Namespace) -> str:
    names = list(next(iter(found.values()))[0])
    lines = [
        f"{heading(args)}.",
        "",
        f"| clips | anchors | {' | '.join(names)} | better / worse than the mean, clips |",
    ]
    lines.append(f"| {' | '.join(['---'] * (len(names) + 3))} |")
    for (dataset, count), clips in found.items():
        means = " | ".join(f"{np.mean([clip[name] for clip in clips]):.3f}" for name in names)
        gains = [clip[names[-1]] - clip[names[0]] for clip in clips]
        better, worse = sum(gain > 5e-4 for gain in gains), sum(gain < -5e-4 for gain in gains)
        lines.append(f"| {dataset} ({len(clips)}) | {count} | {means} | {better} / {worse} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
