"""One open video file: container, stream and decoder, opened so that hostile input cannot reach beyond its own bytes.

FFmpeg picks a demuxer by content: a text file called `clip.mp4` may be a playlist that reads other files. Only the
containers of `CONTAINERS` are ever opened, by the `file` protocol alone, whatever the name says.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import av.error
import numpy as np
from av.codec.context import ThreadType
from av.stream import Discard, Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from model.cores import available_cores
from model.errors import MediaError
from model.video.limits import Limits
from model.video.orientation import Orientation
from model.video.table import FrameTable

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
CODECS = frozenset(
    {
        "h264",
        "hevc",
        "vp8",
        "vp9",
        "libvpx",
        "libvpx-vp9",
        "av1",
        "libdav1d",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "mjpeg",
    }
    | {
        "h263",
        "msmpeg4",
        "msmpeg4v2",
        "msmpeg4v3",
        "flv",
        "vc1",
        "wmv3",
        "theora",
        "cinepak",
        "svq3",
        "dvvideo",
        "qtrle",
    }
    | {"prores", "dnxhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "rawvideo", "png", "jpeg2000"}
)
ACCEPTED = "MP4, MOV, MKV, WebM, AVI, MPEG-TS or a zip of images"
_ADVICE = "Re-encode it (for example `ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4`) and try again."
_MAX_THREADS = 8
_SEEK_LEAD_FRAMES = 8
_TS_PACKET = 188
_OPENING_PIXELS = 1 << 26


class Media:
    """An open video file and the decoder of its video stream.

    Attributes:
        path: the file.
        container, stream, codec: PyAV's own.
        exact: whether it decodes without frame threads.
        bytes: size of the file.
        size: stored (width, height) of the first decoded frame; every later frame must have it.
        errors: packets refused by the decoder, between others that it took, since it last started.
        tail_errors: packets refused after the last one that it took.
        started_at: pts of the packet that decoding last started from, None before the first one.
    """

    def __init__(self, path: Path, limits: Limits, *, exact: bool = False, skip_to_keyframe: bool = True) -> None:
        """Open `path`.

        Args:
            path: an existing regular file.
            limits: `max_bytes` and `max_pixels` are checked here, `max_pixels` again on every frame.
            exact: decode without frame threads, so that an error costs exactly the frame it belongs to.
            skip_to_keyframe: leave out packets before the first keyframe; a decoder makes rubbish of them, or nothing.

        Raises:
            MediaError: `file-too-large`, `not-a-video`, `no-video-stream`, `frame-too-large` or `damaged-video`.
        """
        self.path = path
        self.size: tuple[int, int] | None = None
        self.errors = self.tail_errors = 0
        self.started_at: int | None = None
        self._limits = limits
        self.exact = exact
        self._skip_to_keyframe = skip_to_keyframe
        self._reformatter = VideoReformatter()
        self.bytes = _checked_bytes(path, limits)
        self.container = _open_container(path)
        try:
            self.stream = _video_stream(self.container)
            self.codec = self.stream.codec_context
            _check_pixels(self.codec.width, self.codec.height, limits)
            self.codec.options = {"max_pixels": _decoder_pixels(limits)}
            self.codec.thread_type = ThreadType.SLICE if exact else ThreadType.AUTO
            self.codec.thread_count = min(_MAX_THREADS, available_cores())
        except BaseException:
            self.container.close()
            raise

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick of the stream's timestamps."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def format_name(self) -> str:
        """FFmpeg's name of the container, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
        return self.container.format.name

    @property
    def is_broadcast(self) -> bool:
        """Whether the container is made for streams that begin and end anywhere and lose packets."""
        return "mpegts" in self.format_name

    def packets(self) -> Iterator[av.Packet]:
        """Packets of the video stream from here on, without empty ones.

        Raises:
            MediaError: `damaged-video`.
        """
        try:
            for packet in self.container.demux(self.stream):
                # An empty packet repeats a frame in AVI, but ends the stream for a decoder, which must not see it.
                if packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError) as error:
            raise damaged(self.path, f"Reading it stops with an error: {_reason(error)}.") from error

    def decode(self) -> Generator[av.VideoFrame]:
        """Decoded frames from here on, in the order shown; packets that the decoder refuses are counted.

        Raises:
            MediaError: `damaged-video`, `frame-size-changed` or `frame-too-large`.
        """
        self.errors = self.tail_errors = 0
        self.started_at = None
        started = accepted = False
        for packet in self.packets():
            if not started and not packet.is_keyframe and self._skip_to_keyframe:
                continue
            if not started:
                started, self.started_at = True, packet.pts
            frames = self._decode(packet)
            if frames is None:
                self.tail_errors += 1
                continue
            # A broadcast is cut anywhere, and what it starts with need not decode; that is no damage.
            self.errors += self.tail_errors if accepted or not self.is_broadcast else 0
            self.tail_errors, accepted = 0, True
            yield from frames
        yield from self._decode(None) or ()

    def seek(self, table: FrameTable, keyframe: int) -> None:
        """Go to frame `keyframe` of the table, or as near to it as the container can; `started_at` tells where it led.

        Raises:
            MediaError: `damaged-video`.
        """
        # MPEG-TS has no index: it looks for a decoding time, which is earlier than the presentation time asked for.
        lead = _SEEK_LEAD_FRAMES if self.is_broadcast else 0
        pts = int(table.pts[max(0, keyframe - lead)])
        try:
            self.container.seek(pts, stream=self.stream, backward=True)
        except (av.error.FFmpegError, OSError) as error:
            raise damaged(self.path, f"Seeking in it fails: {_reason(error)}.") from error

    def reopened(self, *, exact: bool) -> Media:
        """The same file opened anew, at its beginning; this one is closed."""
        self.close()
        fresh = Media(
            self.path,
            self._limits,
            exact=exact,
            skip_to_keyframe=self._skip_to_keyframe,
        )
        fresh.size = self.size
        return fresh

    def to_rgb(self, frame: av.VideoFrame, orientation: Orientation) -> NDArray[np.uint8]:
        """A decoded frame as (height, width, 3) uint8 RGB as shown, C-contiguous and owned by the caller."""
        # One reformatter for all frames: a fresh one each, as in `to_ndarray(format=...)`, costs three times as much.
        image = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return orientation.apply(image.astype(np.uint8, copy=False))

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame] | None:
        try:
            frames = self.codec.decode(packet)
        except EOFError:
            return []
        except (av.error.FFmpegError, OSError, ValueError):
            return None
        for frame in frames:
            self._check_size(frame)
        return frames

    def _check_size(self, frame: av.VideoFrame) -> None:
        size = (frame.width, frame.height)
        if self.size is None:
            _check_pixels(*size, self._limits)
            self.size = size
        elif size != self.size:
            old, new = (f"{width}x{height}" for width, height in (self.size, size))
            raise MediaError(
                f"The frame size of {self.path.name} changes from {old} to {new}. Cut or scale it to one size.",
                slug="frame-size-changed",
            )


def damaged(path: Path, what: str) -> MediaError:
    """The error for a file that is a video but cannot be read; `what` is a whole sentence."""
    return MediaError(f"{path.name} is damaged. {what} {_ADVICE}", slug="damaged-video")


def _checked_bytes(path: Path, limits: Limits) -> int:
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise MediaError(
            f"{path.name} has {size} bytes, more than the {limits.max_bytes} allowed. Shorten or compress it.",
            slug="file-too-large",
        )
    return size


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(
            f"Its frames have {width}x{height} = {width * height} pixels, more than the {limits.max_pixels} allowed. "
            "Scale the video down.",
            slug="frame-too-large",
        )


def _open_container(path: Path) -> av.container.InputContainer:
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "file",
        # For the decoders that FFmpeg runs while it opens the file; ours gets the caller's limit. What is found out
        # about a file must not depend on the caller, so this one is fixed.
        "max_pixels": str(_OPENING_PIXELS),
    }
    try:
        return av.open(
            f"file:{path.resolve()}",
            "r",
            # Too short a transport stream is recognised by its name alone, and names mean nothing here.
            format="mpegts" if _is_transport_stream(path) else None,
            options=options,
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        head = _head(path)
        if head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3") or (head[:4], head[8:12]) == (b"RIFF", b"AVI "):
            raise damaged(path, f"It cannot be opened: {_reason(error)}.") from error
        raise MediaError(f"{path.name} is not a video that can be read here. Send {ACCEPTED}.") from error


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaError(
            "The file has no video stream, only sound or other data. Send a video.", slug="no-video-stream"
        )
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        name = "of an unknown kind" if codec is None else repr(codec.name)
        raise MediaError(
            f"The video stream's codec is {name}, which is not decoded here. {_ADVICE}", slug="no-video-stream"
        )
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _decoder_pixels(limits: Limits) -> str:
    # Decoders count padding, so this is a cap on memory; frames are held to the exact limit afterwards.
    return str(2 * limits.max_pixels + 65536)


def _is_transport_stream(path: Path) -> bool:
    head = _head(path, 3 * _TS_PACKET + 1)
    return len(head) > 3 * _TS_PACKET and all(head[i * _TS_PACKET] == 0x47 for i in range(4))


def _head(path: Path, count: int = 16) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
