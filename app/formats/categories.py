"""Categories (classes) of objects: what formats name instead of single objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.formats.base import ExportInput


class Category(NamedTuple):
    """Objects of one name and skeleton share it.

    Attributes:
        name: the objects' name.
        points: the names of their keypoints, in order.
        edges: pairs of indices into `points`.
    """

    name: str
    points: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]


def categories_of(given: ExportInput) -> dict[int, Category]:
    """The category of each object by its id.

    Without a skeleton, the names of an object's points are those that its results have; then, and only then, the
    results are gone through once.
    """
    named: dict[int, dict[str, None]] = {object_.id: {} for object_ in given.objects}
    if any(object_.skeleton is None for object_ in given.objects):
        for result in given.results():
            for found in result.objects:
                named.setdefault(found.object, {}).update(dict.fromkeys(point.name for point in found.keypoints))
    categories = {}
    for object_ in given.objects:
        skeleton = object_.skeleton
        points = tuple(named[object_.id]) if skeleton is None else skeleton.points
        categories[object_.id] = Category(object_.name, points, () if skeleton is None else skeleton.edges)
    return categories


def numbered(categories: Iterable[Category], start: int) -> dict[Category, int]:
    """A number for each category that differs, in the order given, from `start` on."""
    return {category: number for number, category in enumerate(dict.fromkeys(categories), start)}
