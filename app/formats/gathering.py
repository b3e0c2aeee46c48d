"""Collects what a reader finds, object by object and frame by frame, and makes objects and anchors of it.

Files of other tools name objects by a number that is one and the same on every frame (`track_id`, `group_id`), or by
nothing but a class. A number from 1 to 254 stays the object's id. Where there is no number, a class that never stands
twice on a frame is one object; where it does, nothing says which is which on another frame, so such a class is only
read where a single frame has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.anchors import MAX_LABEL_PIXELS
from app.formats.base import Imported
from app.formats.reading import bad
from model.labels.types import MAX_OBJECT_ID

if TYPE_CHECKING:
    from app.formats.base import ImportInput

_MAX_NAME = 100


@dataclass
class _Found:
    name: str | None
    number: int | None
    points: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    labels: dict[int, dict[str, Any]] = field(default_factory=dict)


class Gathering:
    """Labels as they are found.

    Args:
        given: the import; its size bounds how many regions are taken.
    """

    def __init__(self, given: ImportInput) -> None:
        self._width, self._height = given.info.width, given.info.height
        self._found: dict[tuple[Any, ...], _Found] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._voids: dict[int, dict[str, Any]] = {}
        self._pixels = 0

    def add(
        self,
        frame: int,
        where: str,
        *,
        name: str | None = None,
        number: int | None = None,
        skeleton: tuple[Sequence[str], Sequence[tuple[int, int]]] | None = None,
        region: Mapping[str, Any] | None = None,
        keypoints: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Takes one object on one frame.

        Args:
            frame: its true index.
            where: the place in the file, for messages.
            name: of the object or its class; None where the format has none.
            number: what tells it from others on every frame; None where the format has none.
            skeleton: names of its points and the lines between them.
            region: one of `mask`, `polygon`, `box` as a label has it.
            keypoints: as a label has them.

        Raises:
            InputError: `bad-annotations`.
        """
        if region is None and not keypoints:
            raise bad(f"{where}: neither a region nor a point that is given. Remove it, or label it.")
        name = None if name is None else checked_name(name, where)
        key: tuple[Any, ...]
        if number is not None:
            key = ("number", number)
        else:
            count = self._seen[(name or "", frame)] = self._seen.get((name or "", frame), 0) + 1
            key = ("class", name, count)
        found = self._found.setdefault(key, _Found(name, number))
        if found.name is None:
            found.name = name
        if name is not None and found.name != name:
            raise bad(f"{where}: object {number} is called {name!r} here and {found.name!r} before. Choose one name.")
        if frame in found.labels:
            raise bad(f"{where}: object {number} stands twice on frame {frame}. Join the two.")
        if skeleton is not None:
            found.points, found.edges = tuple(skeleton[0]), tuple(skeleton[1])
        if region is not None:
            self.spend(where)
        found.labels[frame] = {**(region or {}), **({"keypoints": list(keypoints)} if keypoints else {})}

    def void(self, frame: int, mask: dict[str, Any]) -> None:
        """Takes the pixels of a frame that belong to nothing, as run lengths."""
        self._voids[frame] = mask

    def spend(self, where: str) -> None:
        """Counts one picture of the frame's size against what a job may hold."""
        self._pixels += self._width * self._height
        if self._pixels > MAX_LABEL_PIXELS:
            most = MAX_LABEL_PIXELS // (self._width * self._height)
            raise bad(
                f"{where}: more than {most} regions of this frame size are too many for one job. Give fewer frames."
            )

    def imported(self, where: str) -> Imported:
        """The objects and anchors of everything that was found.

        Args:
            where: the file, for messages.

        Raises:
            InputError: `bad-annotations` where there is nothing, where objects cannot be told apart, or where they are
                more than 254.
        """
        if not self._found:
            raise bad(f"{where} labels no object of this video. Label at least one frame.")
        self._tell_apart(where)
        ids = self._ids(where)
        objects = [_object(ids[key], found) for key, found in self._found.items()]
        frames = sorted({frame for found in self._found.values() for frame in found.labels})
        anchors: list[dict[str, Any]] = []
        for frame in frames:
            labels = [
                {"object": ids[key], **found.labels[frame]}
                for key, found in self._found.items()
                if frame in found.labels
            ]
            anchor: dict[str, Any] = {"frame": frame, "labels": sorted(labels, key=lambda label: label["object"])}
            if frame in self._voids:
                anchor["void"] = self._voids[frame]
            anchors.append(anchor)
        return Imported(sorted(objects, key=lambda object_: object_["id"]), anchors)

    def _tell_apart(self, where: str) -> None:
        by_class: dict[str | None, list[_Found]] = {}
        for key, found in self._found.items():
            if key[0] == "class":
                by_class.setdefault(key[1], []).append(found)
        for name, several in by_class.items():
            frames = {frame for found in several for frame in found.labels}
            if len(several) > 1 and len(frames) > 1:
                raise bad(
                    f"{where}: {name or 'one class'!r} stands {len(several)} times on a frame and is on several frames,"
                    " but nothing says which is which. Give each object a class of its own, or label a single frame."
                )

    def _ids(self, where: str) -> dict[tuple[Any, ...], int]:
        kept = {key: found.number for key, found in self._found.items() if _is_id(found.number)}
        free = iter(sorted(set(range(1, MAX_OBJECT_ID + 1)) - set(kept.values())))
        ids: dict[tuple[Any, ...], int] = {}
        for key in self._found:
            id_ = kept.get(key) or next(free, None)
            if id_ is None:
                raise bad(f"{where}: {len(self._found)} objects, but a job has at most {MAX_OBJECT_ID}. Give fewer.")
            ids[key] = id_
        return ids


def checked_name(name: str, where: str) -> str:
    """A name as a job may have it.

    Raises:
        InputError: `bad-annotations` for one that is empty, too long or not printable.
    """
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise bad(f"{where}: {name[:50]!r} is no name; it needs 1 to {_MAX_NAME} printable characters on one line.")
    return name


def polygon_region(rings: Sequence[Sequence[float]], given: ImportInput, where: str) -> dict[str, Any]:
    """The region of an outline: points up to a pixel beyond the frame's edge are put onto it.

    Raises:
        InputError: `bad-annotations` for too few numbers and for points further out.
    """
    placed = []
    for ring in rings:
        if len(ring) % 2 or len(ring) < 6:
            raise bad(f"{where}: {len(ring)} numbers are no outline; it needs an x and a y for at least three points.")
        limits = (given.info.width, given.info.height)
        placed.append([within(value, limits[k % 2], where) for k, value in enumerate(ring)])
    return {"polygon": placed}


def box_region(x: float, y: float, width: float, height: float, given: ImportInput, where: str) -> dict[str, Any]:
    """The region of a box: edges up to a pixel beyond the frame's are put onto them.

    Raises:
        InputError: `bad-annotations` for a box without extent or further out.
    """
    left, right = (within(value, given.info.width, where) for value in (x, x + width))
    top, bottom = (within(value, given.info.height, where) for value in (y, y + height))
    if right <= left or bottom <= top:
        raise bad(f"{where}: the box from ({x:g}, {y:g}) of {width:g} x {height:g} has no extent. Draw it larger.")
    return {"box": [left, top, round(right - left, 4), round(bottom - top, 4)]}


def within(value: float, limit: int, where: str) -> float:
    """A coordinate on the frame.

    Raises:
        InputError: `bad-annotations` for one more than a pixel beyond it.
    """
    if not -1 <= value <= limit + 1:
        raise bad(f"{where}: {value:g} lies outside the frame (0 to {limit}). Is this the video that was labelled?")
    return min(max(float(value), 0.0), float(limit))


def point(name: str, x: float, y: float, visible: bool, given: ImportInput, where: str) -> dict[str, Any]:
    """A keypoint as a label has it."""
    x, y = within(x, given.info.width, where), within(y, given.info.height, where)
    return {"name": checked_name(name, where), "x": x, "y": y, "visible": visible}


def _is_id(number: int | None) -> bool:
    return number is not None and 1 <= number <= MAX_OBJECT_ID


def _object(id_: int, found: _Found) -> dict[str, Any]:
    document: dict[str, Any] = {"id": id_}
    if found.name is not None:
        document["name"] = found.name
    if found.points:
        document["skeleton"] = {"points": list(found.points), "edges": [list(edge) for edge in found.edges]}
    return document
