"""The one reader of media: which frames a video has, when they are shown, and their pixels as shown.

Torch-free. Everything hostile is refused with a `MediaError` that says what to do; see `probe` for the kinds.
"""

from __future__ import annotations

from model.video.backward import read_backward
from model.video.encode import encode_video
from model.video.forward import read_forward
from model.video.limits import Limits
from model.video.reader import VideoSource, open_video, probe
from model.video.table import FrameTable
from model.video.types import Frame, VideoInfo

__all__ = [
    "Frame",
    "FrameTable",
    "Limits",
    "VideoInfo",
    "VideoSource",
    "encode_video",
    "open_video",
    "probe",
    "read_backward",
    "read_forward",
]
