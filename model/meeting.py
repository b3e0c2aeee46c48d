"""Where the two directions meet: between two anchors both have labelled a frame, and one result is made of both.

Soft maps are put together by a logarithmic opinion pool (Genest and Zidek, "Combining Probability Distributions",
Statistical Science 1986): the weighted mean of log-odds. Where one direction is undecided about a cell and the other is
not, the decided one prevails, while the mean of the shares would leave a faint half. A direction's weight is how near
its anchor is, times the square of the confidence in its region on this frame: it may have lost what the other still
holds. What that is worth stands in docs/accuracy.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.channels import Channel, ChannelSet
from model.confidence import expected_overlap
from model.evidence import joined
from model.propagator import SoftMaps

_LEAST = 1 / 510
"""Taken for a share of 0: half of the step in which memory holds shares. However sure, one direction is not all."""


class Meeting:
    """Joins the two directions' soft maps between anchors, channel by channel.

    Where one of the two anchors says that the channel is absent, the other direction counts alone: absence is where an
    object's track ends, not something that spreads towards it. A keypoint is trusted as its object's region is.
    """

    def __init__(self, channels: ChannelSet) -> None:
        frames = sorted(channels.anchors)
        told = [channels.given(frame) for frame in frames]
        self._spoken: list[list[tuple[int, bool]]] = [
            [
                (frame, bool(present[channel]))
                for frame, (given, present) in zip(frames, told, strict=True)
                if given[channel]
            ]
            for channel in range(len(channels))
        ]
        self._regions = [channels.index.get(Channel(channel.object)) for channel in channels.channels]
        self._sides = [channel.side is not None for channel in channels.channels]

    def join(self, forward: SoftMaps, backward: SoftMaps) -> SoftMaps:
        """What both say about the frame; the two must be of the same one."""
        shares = self._shares(forward, backward)
        values = forward.values.clone()
        for channel, share in enumerate(shares):
            if share == 1:
                values[channel] = backward.values[channel]
            elif share > 0 and not self._sides[channel]:
                values[channel] = pooled(forward.values[channel], backward.values[channel], share)
            elif share > 0:
                region = self._regions[channel]
                assert region is not None
                # How far away a side is, is a mean over what arrived; with the region's share, which was joined before
                # it, it is a map again.
                apart, arrived = (torch.lerp(forward.values[n], backward.values[n], share) for n in (channel, region))
                values[channel] = values[region] * (apart / arrived.clamp(min=_LEAST)).clamp(max=1)
        evidence = None
        if forward.evidence is not None and backward.evidence is not None:
            evidence = joined(forward.evidence, backward.evidence, shares)
        return SoftMaps(forward.frame, values, forward.known | backward.known, evidence)

    def _shares(self, forward: SoftMaps, backward: SoftMaps) -> list[float]:
        """Per channel, how much the backward direction counts, 0..1."""
        shares = [_backward_share(spoken, forward.frame) for spoken in self._spoken]
        if forward.evidence is None or backward.evidence is None:
            return shares
        told = forward.evidence, backward.evidence
        for channel, region in enumerate(self._regions):
            if region is not None and 0 < shares[channel] < 1:
                ahead, behind = (expected_overlap(each[region]) ** 2 for each in told)
                there = shares[channel] * behind
                shares[channel] = there / (there + (1 - shares[channel]) * ahead)
        return shares


def pooled(forward: Tensor, backward: Tensor, share: float) -> Tensor:
    """The logarithmic pool of two maps of shares in 0..1, `share` being the second one's weight; 0 where both are 0."""
    odds = torch.lerp(torch.logit(forward, eps=_LEAST), torch.logit(backward, eps=_LEAST), share)
    return torch.where((forward > 0) | (backward > 0), torch.sigmoid(odds), 0.0)


def _backward_share(spoken: Sequence[tuple[int, bool]], frame: int) -> float:
    """By how near the anchors are that speak of a channel: (frame, whether it is present there), ascending."""
    before = next((told for told in reversed(spoken) if told[0] <= frame), None)
    after = next((told for told in spoken if told[0] >= frame), None)
    if after is None:
        return 0.0
    if before is None:
        return 1.0
    if before[0] == after[0] or (before[1] and not after[1]):
        return 0.0
    if after[1] and not before[1]:
        return 1.0
    return (frame - before[0]) / (after[0] - before[0])
