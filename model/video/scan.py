"""Going through a file's packets without decoding: a first frame table, and every sign that it cannot be trusted."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from model.errors import MediaError
from model.video.limits import Limits
from model.video.media import Media, damaged
from model.video.table import FrameTable
from model.video.truncation import is_cut_short

# A packet is not always a frame: field-coded pictures, hidden reference frames. More packets than this are an attack.
_PACKETS_PER_FRAME = 4


@dataclass(frozen=True)
class Scan:
    """What the packets say.

    Attributes:
        table: frames in the order shown, or None where the packets' own timestamps cannot order them.
        any_keyframe: whether some packet, shown or not, is a keyframe.
    """

    table: FrameTable | None
    any_keyframe: bool


def scan_packets(media: Media, limits: Limits) -> Scan:
    """Demux everything once, under the caps.

    Packets that an edit list leaves out, hidden VP8 frames and whatever lies before the first keyframe are no frames.

    Raises:
        MediaError: `too-many-frames`, `video-too-long`, `no-frames` or `damaged-video`.
    """
    pts, keyframe = array("q"), bytearray()
    clock = Clock(media.time_base, limits)
    ordered, any_keyframe, before_keyframe = True, False, 0
    packets, last_dts = 0, None
    if is_cut_short(media.path, media.format_name):
        raise damaged(media.path, "The file ends before its own end, as after a broken transfer.")
    for packet in media.packets():
        packets += 1
        if packets > _PACKETS_PER_FRAME * limits.max_frames:
            raise too_many_frames(limits)
        if packet.is_corrupt and not media.is_broadcast:
            raise damaged(media.path, f"The data of packet {packets - 1} is incomplete.")
        if packet.dts is not None:
            ordered = ordered and (last_dts is None or packet.dts >= last_dts)
            last_dts = packet.dts
        if packet.is_keyframe and not any_keyframe:
            any_keyframe, before_keyframe = True, len(pts)
        if packet.is_discard or _is_hidden(media, packet):
            continue
        if packet.pts is None:
            ordered = False
        else:
            clock.see(packet.pts)
        pts.append(packet.pts or 0)
        keyframe.append(packet.is_keyframe)
        if len(pts) > limits.max_frames:
            raise too_many_frames(limits)
    if not pts:
        raise MediaError("The video has no frames. Send one with at least one frame.", slug="no-frames")
    if not ordered or before_keyframe == len(pts):
        return Scan(None, any_keyframe)
    times = np.frombuffer(pts, dtype=np.int64)[before_keyframe:]
    order = np.argsort(times, kind="stable")
    times = times[order]
    if (np.diff(times) <= 0).any():
        return Scan(None, any_keyframe)
    flags = np.frombuffer(keyframe, dtype=np.uint8)[before_keyframe:][order].astype(np.bool_)
    return Scan(FrameTable(pts=times, keyframe=flags, time_base=media.time_base), any_keyframe)


class Clock:
    """Holds the span of the timestamps seen against `max_seconds`."""

    def __init__(self, time_base: Fraction, limits: Limits) -> None:
        """`time_base`: seconds of one tick."""
        self._ticks = limits.max_seconds / float(time_base)
        self._limits = limits
        self._low: int | None = None
        self._high: int | None = None

    def see(self, pts: int) -> None:
        """Take note of one timestamp.

        Raises:
            MediaError: `video-too-long`.
        """
        self._low = pts if self._low is None else min(self._low, pts)
        self._high = pts if self._high is None else max(self._high, pts)
        if self._high - self._low > self._ticks:
            raise too_long(self._limits)


def too_long(limits: Limits) -> MediaError:
    """The error for a video past `max_seconds`."""
    return MediaError(
        f"The video is longer than the {limits.max_seconds:g} seconds allowed. Cut it into parts.",
        slug="video-too-long",
    )


def too_many_frames(limits: Limits) -> MediaError:
    """The error for a video past `max_frames`."""
    return MediaError(
        f"The video has more than the {limits.max_frames} frames allowed. Cut it into parts.", slug="too-many-frames"
    )


def _is_hidden(media: Media, packet: av.Packet) -> bool:
    # RFC 6386 section 9.1: bit 4 of a frame's first byte is show_frame. Encoders hide alternate references that way.
    return media.codec.name in ("vp8", "libvpx") and not memoryview(packet)[0] & 0x10
