"""Random access by index in a video file: always the frame that the table means, or an error that names it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import av

from model.errors import MediaError
from model.video.limits import Limits
from model.video.media import Media
from model.video.table import FrameTable


class Cursor:
    """One position in one open file. Reading forwards decodes every frame once; jumps start at a keyframe.

    Not safe for use by two threads at once.
    """

    def __init__(self, path: Path, table: FrameTable, limits: Limits) -> None:
        """Open `path` at its beginning. Raises as `Media` does."""
        self._table = table
        # Counting frames is exact only where an error costs exactly its own frame.
        self._media = Media(path, limits, exact=not table.by_pts, skip_to_keyframe=bool(table.keyframe.any()))
        self._frames: Generator[av.VideoFrame]
        self._from_beginning: bool
        self._restart()

    @property
    def media(self) -> Media:
        """The open file (it changes when the cursor has to reopen it)."""
        return self._media

    def read(self, index: int) -> av.VideoFrame:
        """The decoded frame `index`, not yet turned or converted.

        Raises:
            MediaError: `frame-unreadable` naming the index; `frame-size-changed` or `damaged-video` naming it as well.
        """
        if not 0 <= index < self._table.frame_count:
            raise IndexError(f"frame {index} of {self._table.frame_count}")
        try:
            frame = self._scan(index) if self._worth_going_on(index) else None
            starts = self._starts(index)
            while frame is None:
                start = next(starts, None)
                if start is None:
                    raise self._unreadable(index)
                self._go(*start)
                frame = self._scan(index)
        except MediaError as error:
            if error.slug == "frame-unreadable":
                raise
            raise MediaError(f"Frame {index} cannot be read: {error.detail}", slug=error.slug) from error
        return frame

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._frames.close()
        self._media.close()

    def _worth_going_on(self, index: int) -> bool:
        if index < self._next:
            return False
        if not self._table.by_pts:
            return True
        # Decoding on is cheaper than a jump unless a keyframe lies between here and there.
        keyframe = self._table.keyframe_at_or_before(index)
        return keyframe is None or keyframe <= self._next

    def _starts(self, index: int) -> Iterator[tuple[int | None, bool]]:
        """Where to start decoding for `index`, one after the other until one leads to it.

        Yields:
            (keyframe, exact): None is the file's beginning; exact asks for a decoder without frame threads, since one
            that meets an error may take a good frame with it.
        """
        if not self._table.by_pts:
            yield None, True
            return
        nearest = keyframe = self._table.keyframe_at_or_before(index)
        for step in (1, 16, 256):
            if not keyframe:
                break
            yield keyframe, False
            keyframe = self._table.keyframe_at_or_before(max(0, keyframe - step))
        yield (nearest, True) if nearest else (None, False)
        yield None, True

    def _go(self, keyframe: int | None, exact: bool) -> None:
        self._frames.close()
        if keyframe is None or (exact and not self._media.exact):
            self._reopen(exact)
        if keyframe is None:
            return
        try:
            self._media.seek(self._table, keyframe)
        except MediaError:
            self._reopen(exact)
            return
        self._frames = self._media.decode()
        self._next = 0
        self._from_beginning = False

    def _reopen(self, exact: bool) -> None:
        self._media = self._media.reopened(exact=exact or self._media.exact)
        self._restart()

    def _restart(self) -> None:
        self._frames = self._media.decode()
        self._next = 0
        self._count = 0
        self._from_beginning = True

    def _scan(self, index: int) -> av.VideoFrame | None:
        """Decode up to `index`; None where the decoder goes past it or ends without it."""
        for frame in self._frames:
            at = self._index_of(frame)
            if at is None:
                continue
            self._next = at + 1
            if at == index:
                return frame
            if at > index:
                return None
        self._next = self._table.frame_count
        return None

    def _index_of(self, frame: av.VideoFrame) -> int | None:
        if not self._table.by_pts:
            self._count += 1
            return self._count - 1
        if frame.pts is None:
            return None
        # After a jump, frames shown before the keyframe it led to may lack what they refer to.
        started_at = self._media.started_at
        if not self._from_beginning and (started_at is None or frame.pts < started_at):
            return None
        return self._table.index_of(frame.pts)

    def _unreadable(self, index: int) -> MediaError:
        seconds = self._table.time_ms(index) / 1000
        return MediaError(
            f"Frame {index} (at {seconds:.3f} s) of {self._media.path.name} cannot be decoded: the file is damaged "
            "there. Re-encode or cut the video, or end the range before this frame.",
            slug="frame-unreadable",
        )
