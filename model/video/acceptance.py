"""The acceptance check: is this a video that can be read, which frames does it have, and what are its facts?

Packets are read first, which is cheap and gives a table. Then the decoder is asked whether it agrees: about all frames
of a short video, about the beginning, the end and a few places between of a long one. Where it does not, the table is
made from decoded frames instead.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from model.errors import MediaError
from model.video.limits import Limits
from model.video.media import Media, damaged
from model.video.orientation import Orientation
from model.video.scan import Clock, scan_packets, too_long, too_many_frames
from model.video.table import FrameTable, round_half_up
from model.video.types import VideoInfo

# Decoding 480p takes about 1 ms a frame: this is about two seconds.
WHOLE_BUDGET_PIXELS = 600_000_000
_SPOT_BUDGET_PIXELS = 60_000_000
_SPOT_MIN_FRAMES = 4
_SPOTS = (0.25, 0.5, 0.75)
_ASSUMED_FPS = Fraction(25)


def probe_file(path: Path, limits: Limits) -> tuple[VideoInfo, FrameTable]:
    """Check one video file.

    Raises:
        MediaError: with one of the slugs that `probe` names.
    """
    with Media(path, limits) as media:
        scan = scan_packets(media, limits)
    table = scan.table and _confirmed(path, scan.table, limits)
    if table is None:
        table = _decoded_table(path, limits, skip_to_keyframe=scan.any_keyframe)
    with Media(path, limits, exact=True, skip_to_keyframe=scan.any_keyframe) as media:
        return describe(media, first_frame(media), table), table


def first_frame(media: Media) -> av.VideoFrame:
    """The first frame of a freshly opened file.

    Raises:
        MediaError: `no-frames` or `damaged-video` where not even one frame decodes.
    """
    frame = next(media.decode(), None)
    if frame is None:
        raise _no_frames(media)
    return frame


def describe(media: Media, frame: av.VideoFrame, table: FrameTable) -> VideoInfo:
    """The facts of an open file, given its first frame and its table."""
    orientation = Orientation.of_frame(frame)
    width, height = orientation.shown_size(frame.width, frame.height)
    aspect = media.stream.sample_aspect_ratio or Fraction(1)
    aspect = aspect if aspect > 0 else Fraction(1)
    fps = _fps(table, media.stream.average_rate)
    return VideoInfo(
        container=_container_name(media),
        codec=_CODEC_NAMES.get(media.codec.name, media.codec.name),
        width=width,
        height=height,
        frame_count=table.frame_count,
        duration_ms=duration_ms(table, fps),
        fps=fps,
        sample_aspect_ratio=1 / aspect if orientation.transpose else aspect,
        rotation=orientation.rotation,
        bytes=media.bytes,
    )


def duration_ms(table: FrameTable, fps: Fraction | None) -> int:
    """Time of the last frame plus one mean frame interval (of `fps` where there is only one frame)."""
    count = table.frame_count
    if count == 1:
        return 0 if fps is None else round_half_up(1000 / fps)
    span = 1000 * (int(table.pts[-1]) - int(table.pts[0])) * table.time_base
    return round_half_up(span * count / (count - 1))


def _confirmed(path: Path, table: FrameTable, limits: Limits) -> FrameTable | None:
    """The table, less leading frames that do not decode; None where the decoder tells another story."""
    try:
        with Media(path, limits) as media:
            frames = media.decode()
            first = next(frames, None)
            # Leading frames of a stream cut in the middle refer to what is not there: the decoder leaves them out.
            lead = None if first is None or first.pts is None else table.index_of(first.pts)
            if first is None or lead is None:
                return None
            table = _without_lead(table, lead)
            pixels = first.width * first.height
            limit = None if table.frame_count * pixels <= WHOLE_BUDGET_PIXELS else _spot_frames(pixels)
            shown = [first.pts, *(frame.pts for frame in islice(frames, limit))]
            if media.errors or shown != table.pts[: len(shown)].tolist():
                return None
            if limit is None and len(shown) != table.frame_count:
                return None
        size = (first.width, first.height)
        return table if _seeks(path, table, limits, size, whole=limit is not None) else None
    except MediaError as error:
        if error.slug in ("frame-size-changed", "frame-too-large"):
            raise
        return None


def _seeks(path: Path, table: FrameTable, limits: Limits, size: tuple[int, int] | None, *, whole: bool) -> bool:
    """Whether jumps to keyframes give the frames of the table, in order; with `whole` up to the very last frame."""
    spots = {table.keyframe_at_or_before(int(part * table.frame_count)) for part in _SPOTS}
    last = table.keyframe_at_or_before(table.frame_count - 1)
    with Media(path, limits) as media:
        media.size = size
        for keyframe in sorted(spot for spot in spots | {last} if spot):
            media.seek(table, keyframe)
            to_end = whole and keyframe == last
            if not _tells_the_same(media, table, keyframe, to_end=to_end):
                return False
    if not whole or last:
        return True
    # No keyframe but the first: the end can only be reached from the beginning.
    with Media(path, limits) as media:
        return [frame.pts for frame in media.decode()] == table.pts.tolist() and not media.errors


def _tells_the_same(media: Media, table: FrameTable, keyframe: int, *, to_end: bool) -> bool:
    expected: int | None = None
    checked = 0
    for frame in media.decode():
        if frame.pts is None:
            return False
        if media.started_at is None or frame.pts < media.started_at:
            continue
        at = table.index_of(frame.pts)
        # Some containers land a little before or behind; the cursor copes. From there on nothing may be missing.
        if at is None or (expected is not None and at != expected):
            return False
        expected = at + 1
        checked += 1
        if not to_end and expected > keyframe and checked >= _spot_frames(frame.width * frame.height):
            return not media.errors
    return expected == table.frame_count and not media.errors


def _decoded_table(path: Path, limits: Limits, *, skip_to_keyframe: bool) -> FrameTable:
    """Make the table by decoding everything, for files whose packets do not say what will be shown."""
    times: list[int | None] = []
    keyframe: list[bool] = []
    with Media(path, limits, exact=True, skip_to_keyframe=skip_to_keyframe) as media:
        clock = Clock(media.time_base, limits)
        for frame in media.decode():
            if media.errors:
                break
            times.append(frame.pts)
            keyframe.append(bool(frame.key_frame))
            if frame.pts is not None:
                clock.see(frame.pts)
            if len(times) > limits.max_frames:
                raise too_many_frames(limits)
        if not times:
            raise _no_frames(media)
        # A recording of a broadcast ends anywhere; in the other containers a last frame that does not decode is damage.
        if media.errors or (media.tail_errors and not media.is_broadcast):
            raise damaged(path, f"It stops decoding at or soon after frame {len(times)}.")
        rate = media.stream.average_rate or media.stream.base_rate or _ASSUMED_FPS
        time_base, size = media.time_base, media.size
    flags = np.array(keyframe, dtype=np.bool_)
    if any(pts is None for pts in times):
        if len(times) / rate > limits.max_seconds:
            raise too_long(limits)
        return FrameTable(np.arange(len(times), dtype=np.int64), flags, 1 / rate, by_pts=False)
    pts = np.array(times, dtype=np.int64)
    if (np.diff(pts) > 0).all():
        table = FrameTable(pts, flags, time_base)
        return (
            table if _seeks(path, table, limits, size, whole=False) else FrameTable(pts, flags, time_base, by_pts=False)
        )
    return FrameTable(_increasing(pts), flags, time_base, by_pts=False)


def _increasing(pts: np.ndarray) -> np.ndarray:
    """Strictly increasing times for frames in the order shown whose own timestamps are not."""
    ordered = np.sort(pts)
    if (np.diff(ordered) > 0).all():
        return ordered  # the right times on the wrong frames, as H.264 in AVI has it
    steps = np.diff(pts)
    usual = max(1, int(np.median(steps[steps > 0]))) if (steps > 0).any() else 1
    # A repeated or restarted clock goes on where it was.
    return pts[0] + np.concatenate([[0], np.cumsum(np.where(steps > 0, steps, usual))])


def _without_lead(table: FrameTable, lead: int) -> FrameTable:
    return FrameTable(table.pts[lead:], table.keyframe[lead:], table.time_base) if lead else table


def _spot_frames(pixels: int) -> int:
    return max(_SPOT_MIN_FRAMES, _SPOT_BUDGET_PIXELS // pixels)


def _fps(table: FrameTable, stated: Fraction | None) -> Fraction | None:
    stated = stated if stated is not None and 0 < stated <= 1000 else None
    if table.frame_count == 1:
        return stated
    steps = np.diff(table.pts)
    if (steps == steps[0]).all():
        return 1 / (int(steps[0]) * table.time_base)
    mean = (table.frame_count - 1) / (int(table.pts[-1] - table.pts[0]) * table.time_base)
    # Timestamps in whole milliseconds hide a rate such as 30000/1001 that the header states exactly.
    if stated is not None and abs(stated - mean) * 200 <= mean:
        return stated
    return mean.limit_denominator(1001) or mean


def _container_name(media: Media) -> str:
    name = media.format_name
    if "mp4" in name:
        return "mov" if str(media.container.metadata.get("major_brand", "")).startswith("qt") else "mp4"
    if "matroska" in name:
        with media.path.open("rb") as file:
            return "webm" if b"webm" in file.read(64) else "matroska"
    return name


def _no_frames(media: Media) -> MediaError:
    if media.errors or media.tail_errors:
        return damaged(media.path, "None of its frames can be decoded.")
    return MediaError("The video has no frames. Send one with at least one frame.", slug="no-frames")


_CODEC_NAMES = {"libdav1d": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
