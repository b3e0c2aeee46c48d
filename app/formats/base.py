"""What a format is, out and in, and what it gets to work with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from app.formats.options import DEFAULTS, ExportOptions
from model.errors import InputError
from model.labels import FrameResult, LabelObject
from model.video import Frame, FrameTable, VideoInfo

LABEL_TYPES = ("mask", "polygon", "box", "keypoints")
"""What a format may carry of a label."""


@dataclass(frozen=True)
class ExportInput:
    """The results of a job and its video, as often as a format wants to go through them.

    Attributes:
        info: the video's facts.
        table: its frame table.
        objects: the job's objects.
        results: starts a new pass over the results that exist, in the order of frames.
        frames: starts a new pass over the job's frames, ascending, at the one given (frames before it may not decode);
            only formats with `needs_frames` call it.
        video_name: what to call the video.
        job_id: the job, or None on the command line.
        options: how to draw or simplify; a format heeds those that it names.
    """

    info: VideoInfo
    table: FrameTable
    objects: tuple[LabelObject, ...]
    results: Callable[[], Iterator[FrameResult]]
    frames: Callable[[int], Iterator[Frame]]
    video_name: str
    job_id: str | None = None
    options: ExportOptions = DEFAULTS

    def stem(self, frame: int) -> str:
        """The file name of a frame without its ending: an image's own for zips and folders of images, else `%05d`."""
        return f"{frame:05d}" if self._stems is None else self._stems[frame]

    def image_name(self, frame: int) -> str:
        """The file name of a frame's image: its own for zips and folders of images, else `%05d.jpg`."""
        names = self.table.names
        return f"{frame:05d}.jpg" if names is None else PurePosixPath(names[frame]).name

    @cached_property
    def _stems(self) -> list[str] | None:
        if self.table.names is None:
            return None
        stems = [PurePosixPath(name).stem for name in self.table.names]
        if max(Counter(stems).values()) == 1:
            return stems
        # Two images share a stem (a.jpg and a.png, or one in each of two folders): the whole name tells them apart.
        return [name.replace("/", "_") for name in self.table.names]


@dataclass(frozen=True)
class ImportInput:
    """Annotations of another tool and the video that they are for.

    Attributes:
        path: the file as it was given (JSON, XML, text, PNG or zip), or on the command line a folder. It is hostile:
            a reader takes nothing in it for granted.
        info: the video's facts.
        table: its frame table: frame counts, times, names of images.
        video_name: what the video is called.
    """

    path: Path
    info: VideoInfo
    table: FrameTable
    video_name: str


@dataclass(frozen=True)
class Imported:
    """What a reader found: the parts of a request that annotations stand for.

    Attributes:
        objects: exactly as `objects` of `POST /v1/jobs`: ids 1 to 254, names, skeletons.
        anchors: exactly as `anchors` of `POST /v1/jobs`: true 0-based frame indices and their labels.
    """

    objects: list[dict[str, Any]]
    anchors: list[dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """One format. Writing is a pure function of the results, and of the frames where it draws on them.

    Attributes:
        name: in addresses and on the command line.
        media_type: of the file.
        filename: of the file.
        write: writes the file, the same bytes every time; None for a format that is only read.
        write_folder: writes the same into a folder, as the command line delivers it; None where that is the file.
        needs_frames: whether writing reads the video's pictures.
        read: turns such a file into anchors; it raises `InputError` with the slug `bad-annotations` and a detail that
            names the line, element or field and says what to do. None for a format that is only written.
        label_types: what it carries, of `LABEL_TYPES`.
        options: the names of the export options that it heeds.
    """

    name: str
    media_type: str
    filename: str
    write: Callable[[ExportInput, Path], None] | None = None
    write_folder: Callable[[ExportInput, Path], None] | None = None
    needs_frames: bool = False
    read: Callable[[ImportInput], Imported] | None = None
    label_types: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def write_file(self, given: ExportInput, path: Path) -> None:
        """Writes the file.

        Raises:
            InputError: `unknown-format` where the format is only read.
        """
        if self.write is None:
            raise InputError(f"{self.name!r} is read, not written.", slug="unknown-format")
        self.write(given, path)

    def write_into(self, given: ExportInput, folder: Path) -> None:
        """Writes into an existing folder what the command line delivers: the file, or what stands for it."""
        if self.write_folder is not None:
            self.write_folder(given, folder)
        else:
            self.write_file(given, folder / self.filename)
