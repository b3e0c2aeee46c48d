"""Which frame a file of another tool speaks of.

Where the video is a zip or folder of images, a file belongs to the image of its name. Otherwise the number at the end
of its name is the index of the frame, from 0: `00012.png`, `clip_000012.txt` and `frame-12.json` are frame 12.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

from app.formats.reading import bad
from model.errors import InputError
from model.video import FrameTable

_NUMBER = re.compile(r"([0-9]{1,9})$")
_ROBOFLOW = re.compile(r"(_(?:jpg|jpeg|png|bmp))?\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)


class FrameNames:
    """Finds frames by the names of files.

    Args:
        table: of the video.
    """

    def __init__(self, table: FrameTable) -> None:
        self._count = table.frame_count
        self._by_name: dict[str, int] | None = None
        if table.names is not None:
            self._by_name = _index(table.names)

    def find(self, name: str, where: str | None = None) -> int:
        """The frame of a file.

        Args:
            name: the file's name or path, of an image or of what stands beside one; endings do not count.
            where: what to call the place in messages, where that is not the name itself.

        Raises:
            InputError: `bad-annotations`, saying how files must be called.
        """
        where = where or name
        path = PurePosixPath(name.replace("\\", "/"))
        stem = _ROBOFLOW.sub("", path.stem)
        if self._by_name is not None:
            for key in (name, path.name, path.stem, stem):
                if key in self._by_name:
                    return self._by_name[key]
            raise bad(
                f"{where}: no image of the video is called {stem[:100]!r}."
                " Give each file the name of its image, with its own ending."
            )
        found = _NUMBER.search(stem)
        if found is None:
            raise bad(f"{where}: the name has no frame number at its end. Call it by its frame from 0, as 00012.")
        return self.check(int(found[1]), where)

    def check(self, frame: int, where: str) -> int:
        """The frame itself, where the video has it."""
        if not 0 <= frame < self._count:
            raise beyond(frame, self._count, where)
        return frame


def beyond(frame: int, count: int, where: str) -> InputError:
    """The error of a frame that the video does not have."""
    hint = " Frames count from 0 here: number them so." if frame == count else ""
    return bad(f"{where}: frame {frame} is not in the video, whose frames are 0 to {count - 1}.{hint}")


def _index(names: tuple[str, ...]) -> dict[str, int]:
    """Every spelling of an image's name that belongs to it alone."""
    found: dict[str, int] = {}
    spellings = [{name, name.replace("/", "_"), PurePosixPath(name).name, PurePosixPath(name).stem} for name in names]
    times = Counter(spelling for of_one in spellings for spelling in of_one)
    for frame, of_one in enumerate(spellings):
        found.update((spelling, frame) for spelling in of_one if times[spelling] == 1)
    return found
