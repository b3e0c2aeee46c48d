"""Reading CVAT for video 1.1 and CVAT for images 1.1: keyframes become anchors, interpolated shapes do not.

Frames of the video format are indices of the video, whatever start and step the task has (`app.formats.cvat_write`).
Images are found by name where the video is a zip or a folder of images that has one of that name, and otherwise by
`id`, which counts like the frames of the video format.

CVAT's downloads are zips that hold `annotations.xml`; they are read as they are.
"""

from __future__ import annotations

import io
import re
from pathlib import PurePosixPath
from typing import Any

from app.formats.base import Imported, ImportInput
from app.formats.cvat_objects import Part, assemble, is_name, link, part_of_track
from app.formats.cvat_shapes import Shape
from app.formats.cvat_write import KEYPOINT_ATTRIBUTE
from app.formats.cvat_xml import Element, bad, parse
from app.formats.reading import open_files
from model.errors import LabelError

_SHAPES = ("box", "polygon", "mask", "ellipse", "points", "skeleton")
_REFUSED = {"polyline": "lines", "cuboid": "cuboids"}
_TYPES = {"box": "rectangle"}
_MAX_SHAPES = 1_000_000
_MAX_POINTS, _MAX_EDGES = 256, 4096


def read(given: ImportInput) -> Imported:
    """The objects and anchors of a file.

    Raises:
        LabelError: `bad-annotations`, naming the line and what to do.
    """
    reader = _Reader(given)
    parse(io.BytesIO(_document(given)), reader.start, reader.end)
    if not reader.complete:
        raise bad(1, "the document is no CVAT annotation: its root element must be <annotations>")
    info = given.info
    objects = link(reader.parts)
    return assemble(objects, reader.skeletons(), width=info.width, height=info.height, frame_count=info.frame_count)


class _Reader:
    """Builds parts while elements come."""

    def __init__(self, given: ImportInput) -> None:
        self._given = given
        self.parts: list[Part] = []
        self.complete = False
        self._path: list[str] = []
        self._step = 1
        self._labels: list[dict[str, str]] = []
        self._track: Element | None = None
        self._keyframes: dict[int, Shape] = {}
        self._image: int | None = None
        self._task: str | None = None
        self._skeleton: list[tuple[str, Shape]] | None = None
        self._keypoint: str | None = None
        self._count = 0
        self._names = _image_names(given)

    def start(self, element: Element) -> None:
        """Takes the start of an element."""
        if not self._path and element.name != "annotations":
            raise bad(element.line, "the root element must be <annotations>. Is this a CVAT file (version 1.1)?")
        self._path.append(element.name)
        if self._path[:2] == ["annotations", "meta"]:
            if element.name == "label":
                self._labels.append({})
        elif element.name in ("track", "image"):
            self._check_task(element)
        if self._path == ["annotations", "track"]:
            self._track, self._keyframes = element, {}
            _named(element, _required(element, "label"))
        elif self._path == ["annotations", "image"]:
            self._image = self._frame_of(element)
        elif element.name in _REFUSED and self._inside:
            raise bad(element.line, f"{_REFUSED[element.name]} cannot be carried. Delete the {element.name} in CVAT")
        elif element.name == "skeleton" and self._inside:
            self._skeleton = []

    def end(self, element: Element) -> None:
        """Takes the end of an element."""
        self._path.pop()
        if self._path[:2] == ["annotations", "meta"]:
            self._end_of_meta(element)
        elif element.name == "annotations" and not self._path:
            self.complete = True
        elif element.name == "attribute" and element.attributes.get("name") == KEYPOINT_ATTRIBUTE:
            self._keypoint = _named(element, element.text) if element.text.strip() else None
        elif element.name in _SHAPES and self._inside:
            self._end_of_shape(element)
        elif element.name == "track" and self._track is not None:
            part = part_of_track(element.attributes["label"].strip(), _group(element), self._keyframes, self._step)
            self.parts += [] if part is None else [part]
            self._track = None
        elif element.name == "image":
            self._image = None

    def skeletons(self) -> dict[str, dict[str, Any]]:
        """The skeletons that the labels declare, by label."""
        found = {}
        for label in self._labels:
            name = label.get("name")
            if name and label.get("type") == "skeleton":
                names = [other.get("name", "") for other in self._labels if other.get("parent") == name]
                skeleton = skeleton_of(label.get("svg", ""), names)
                if skeleton is not None:
                    found[name] = skeleton
        return found

    @property
    def _inside(self) -> bool:
        return self._track is not None or self._image is not None

    def _end_of_meta(self, element: Element) -> None:
        text = element.text.strip()
        if self._path[-1] == "label" and element.name in ("name", "type", "parent", "svg"):
            self._labels[-1][element.name] = text
        elif element.name == "frame_filter":
            match = re.search(r"step\s*=\s*(\d{1,9})", text)
            self._step = max(1, int(match[1])) if match else 1
        elif self._path[-1] == "original_size" and element.name in ("width", "height"):
            self._check_size(element, element.name, text)

    def _end_of_shape(self, element: Element) -> None:
        self._count += 1
        if self._count > _MAX_SHAPES:
            raise bad(element.line, f"there are more than {_MAX_SHAPES} shapes. Split the file")
        keypoint, self._keypoint = self._keypoint, None
        in_skeleton = self._path[-1] == "skeleton" and self._skeleton is not None
        if in_skeleton and element.name != "points":
            raise bad(element.line, f"a skeleton is read with points, not with a {element.name} in it")
        shape = _shape(element, keypoint, () if in_skeleton else self._skeleton)
        if in_skeleton:
            assert self._skeleton is not None
            if element.attributes.get("keyframe", "1") == "1" or self._track is None:
                self._skeleton.append((_named(element, _required(element, "label")), shape))
            return
        elements, self._skeleton = self._skeleton, None
        if self._track is None:
            assert self._image is not None
            label = _named(element, _required(element, "label"))
            self.parts.append(Part(label, _group(element), {self._image: shape}, single=True))
        elif element.attributes.get("keyframe", "1") == "1" and (elements is None or elements):
            frame = _whole(element, "frame")
            if frame in self._keyframes:
                raise bad(element.line, f"frame {frame} stands twice in one track")
            self._keyframes[frame] = shape

    def _frame_of(self, image: Element) -> int:
        for name in ("width", "height"):
            if name in image.attributes:
                self._check_size(image, name, image.attributes[name])
        name = image.attributes.get("name", "")
        for key in (name, str(PurePosixPath(name).with_suffix("")) if name else ""):
            if key in self._names:
                return self._names[key]
        if self._names and "id" not in image.attributes:
            raise bad(image.line, f"the video has no image {name[:100]!r}")
        return _whole(image, "id")

    def _check_task(self, element: Element) -> None:
        task = element.attributes.get("task_id")
        if task is not None and self._task not in (None, task):
            raise bad(element.line, "the file holds several tasks. Export the task of this video alone")
        self._task = task if task is not None else self._task

    def _check_size(self, element: Element, side: str, text: str) -> None:
        expected = getattr(self._given.info, side)
        if text and text != str(expected):
            raise bad(
                element.line,
                f"the annotations are for frames with a {side} of {text[:20]} pixels, but the video's is {expected}."
                " Choose the video that was labelled",
            )


def skeleton_of(svg: str, names: list[str], ids: dict[str, str] | None = None) -> dict[str, Any] | None:
    """A skeleton from the picture that CVAT's labels carry: its lines are the edges, its circles the points.

    Args:
        svg: the picture's elements.
        names: the names of the points where the picture does not say them.
        ids: names by id, for pictures that speak of ids (CVAT's REST API).

    Returns:
        As `skeleton` of an object in `POST /v1/jobs`; None without any point, and for more than such a skeleton holds.
    """
    nodes: dict[str, str] = {}
    edges: list[tuple[str, str]] = []

    def start(element: Element) -> None:
        given = element.attributes
        if element.name == "circle" and "data-node-id" in given:
            name = given.get("data-label-name") or (ids or {}).get(given.get("data-label-id", ""))
            if name:
                nodes[given["data-node-id"]] = name
        elif element.name == "line" and "data-node-from" in given and "data-node-to" in given:
            edges.append((given["data-node-from"], given["data-node-to"]))

    try:
        parse(io.BytesIO(f"<svg>{svg}</svg>".encode("utf-8", "replace")), start, lambda element: None)
    except LabelError:
        nodes, edges = {}, []  # a picture is drawn by hand at times: the points' names are known without it
    points = [name for name in dict.fromkeys([*nodes.values(), *names]) if is_name(name)]
    if not points or len(points) > _MAX_POINTS or len(edges) > _MAX_EDGES:
        return None
    index = {name: number for number, name in enumerate(points)}
    known = {node: index[name] for node, name in nodes.items() if name in index}
    pairs = [[known[a], known[b]] for a, b in edges if a in known and b in known]
    return {"points": points, "edges": pairs}


def _document(given: ImportInput) -> bytes:
    """The XML: the file itself, or the only one of a zip or folder."""
    with open_files(given) as files:
        found = files.paths if files.single else files.with_suffix(".xml")
        if len(found) != 1:
            named = ", ".join(map(str, found[:5])) or "none"
            raise LabelError(
                f"There must be one XML file, annotations.xml; found: {named}. Give the annotations of one task.",
                slug="bad-annotations",
            )
        return files.read(found[0])


def _shape(element: Element, keypoint: str | None, elements: list[tuple[str, Shape]] | tuple[()] | None) -> Shape:
    kind = _TYPES.get(element.name, element.name)
    match element.name:
        case "box":
            points = [_number(element, name) for name in ("xtl", "ytl", "xbr", "ybr")]
        case "ellipse":
            cx, cy, rx, ry = (_number(element, name) for name in ("cx", "cy", "rx", "ry"))
            points = [cx, cy, cx + rx, cy - ry]
        case "mask":
            points = _runs(element)
        case "skeleton":
            points = []
        case _:
            points = _pairs(element)
            if element.name == "polygon" and len(points) < 6:
                raise bad(element.line, "a polygon needs three points or more")
    return Shape(
        type=kind,
        points=tuple(points),
        where=f"Line {element.line}",
        rotation=_number(element, "rotation") if "rotation" in element.attributes else 0.0,
        outside=element.attributes.get("outside", "0") == "1",
        occluded=element.attributes.get("occluded", "0") == "1",
        elements=tuple(elements or ()),
        keypoint=keypoint,
    )


def _runs(element: Element) -> list[float]:
    try:
        runs = [int(run) for run in _required(element, "rle").split(",")]
    except ValueError:
        raise bad(element.line, "`rle` must be whole numbers with commas between them") from None
    left, top, width, height = (_whole(element, name) for name in ("left", "top", "width", "height"))
    return [*runs, left, top, left + width - 1, top + height - 1]


def _pairs(element: Element) -> list[float]:
    try:
        pairs = [pair.split(",") for pair in _required(element, "points").split(";")]
        points = [float(value) for x, y in pairs for value in (x, y)]
    except ValueError:
        raise bad(element.line, "`points` must be x,y;x,y;...") from None
    if not all(abs(value) < 1e9 for value in points):
        raise bad(element.line, "`points` holds a number that is no place on a frame")
    return points


def _named(element: Element, text: str) -> str:
    name = text.strip()
    if not is_name(name):
        raise bad(element.line, "a label's or a point's name must have 1 to 100 printable characters")
    return name


def _group(element: Element) -> int:
    return _whole(element, "group_id") if "group_id" in element.attributes else 0


def _whole(element: Element, name: str) -> int:
    text = _required(element, name).strip()
    if not re.fullmatch(r"-?\d{1,12}", text, re.ASCII):
        raise bad(element.line, f"`{name}` of <{element.name}> must be a whole number, not {text[:40]!r}")
    return int(text)


def _number(element: Element, name: str) -> float:
    text = _required(element, name)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise bad(element.line, f"`{name}` of <{element.name}> must be a number, not {text[:40]!r}")
    return value


def _required(element: Element, name: str) -> str:
    if name not in element.attributes:
        raise bad(element.line, f"<{element.name}> lacks `{name}`")
    return element.attributes[name]


def _image_names(given: ImportInput) -> dict[str, int]:
    """Frames by what an image may be called: its path, the path without ending, and both without folders if unique."""
    names: dict[str, int] = {}
    doubtful: set[str] = set()
    for frame, name in enumerate(given.table.names or ()):
        path = PurePosixPath(name)
        for key in {str(path), str(path.with_suffix("")), path.name, path.stem}:
            if names.setdefault(key, frame) != frame:
                doubtful.add(key)
    return {key: frame for key, frame in names.items() if key not in doubtful}
