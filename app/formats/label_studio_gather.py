"""Labels of several tasks and regions gathered into the objects and anchors of one job."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.formats.label_studio_shapes import PAGE_ID
from model.errors import InputError

_MAX_ID = 254
_MAX_NAME = 100


class Naming(NamedTuple):
    """What tells one object from another, and what it is called."""

    key: str
    name: str | None


class Gathered:
    """Objects in the order in which they were met, and their labels by frame."""

    def __init__(self) -> None:
        self._names: dict[str, str | None] = {}
        self._labels: dict[int, dict[str, dict[str, Any]]] = {}

    def add(self, naming: Naming, frame: int, shape: dict[str, Any] | None, where: str) -> None:
        """One region of an object on a frame; None says that it is gone there."""
        label = self._label(naming, frame)
        if label.keys() - {"keypoints"}:
            raise _bad(f"{where}: the object {naming.name or naming.key!r} has two regions on frame {frame}.")
        label.update({"absent": True} if shape is None else shape)

    def add_point(self, naming: Naming, frame: int, point: dict[str, Any], where: str) -> None:
        """One keypoint of an object on a frame."""
        points = self._label(naming, frame).setdefault("keypoints", [])
        if any(known["name"] == point["name"] for known in points):
            raise _bad(f"{where}: the keypoint {point['name']!r} stands twice on one object on frame {frame}.")
        points.append(point)

    def ids(self) -> dict[str, int]:
        """The object ids by key: those that we once gave, then the lowest that are free.

        Raises:
            InputError: `bad-annotations`: there are more objects than ids.
        """
        given: dict[str, int] = {}
        for key in self._names:
            found = PAGE_ID.fullmatch(key)
            if found and 1 <= int(found[1]) <= _MAX_ID and int(found[1]) not in given.values():
                given[key] = int(found[1])
        free = iter(sorted(set(range(1, _MAX_ID + 1)) - set(given.values())))
        for key in self._names:
            if key not in given:
                number = next(free, None)
                if number is None:
                    raise _bad(f"The annotations hold {len(self._names)} objects; a job follows at most {_MAX_ID}.")
                given[key] = number
        return given

    def objects(self) -> list[dict[str, Any]]:
        """As `objects` of a job, by id. Raises as `ids` does."""
        rows = sorted((id_, self._names[key]) for key, id_ in self.ids().items())
        return [{"id": id_, **({"name": name} if name else {})} for id_, name in rows]

    def anchors(self) -> list[dict[str, Any]]:
        """As `anchors` of a job, by frame. Raises as `ids` does."""
        ids = self.ids()
        return [
            {"frame": frame, "labels": [{"object": ids[key], **_agreed(label)} for key, label in labels.items()]}
            for frame, labels in sorted(self._labels.items())
        ]

    def _label(self, naming: Naming, frame: int) -> dict[str, Any]:
        name = "".join(c for c in naming.name or "" if c.isprintable()).strip()[:_MAX_NAME]
        if not self._names.get(naming.key):
            self._names[naming.key] = name or None
        return self._labels.setdefault(frame, {}).setdefault(naming.key, {})


def _agreed(label: dict[str, Any]) -> dict[str, Any]:
    # A region that lies wholly outside the frame says "gone"; points that are placed say otherwise.
    return {name: value for name, value in label.items() if name != "absent"} if label.get("keypoints") else label


def _bad(detail: str) -> InputError:
    return InputError(detail, slug="bad-annotations")
