"""Writing CVAT for video 1.1 as a stream: one pass over the results to plan, one to write.

Frame numbers are indices of the video, which is how CVAT counts in this format: it takes a task's own numbers to the
video's by `start_frame` and the step of `frame_filter`, in both directions. A task of the same video takes the file
whatever frames of it the task has, as long as the job's frames are among them.

Source of the layout: https://docs.cvat.ai/docs/other/xml_format and what CVAT's own exporter writes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from app.formats.base import ExportInput
from app.formats.cvat_objects import SKELETON_SUFFIX
from app.formats.cvat_tracks import (
    Keyframe,
    Plan,
    SkeletonTrack,
    Track,
    attributes_of,
    plan,
    point_shapes,
    region_shape,
)
from model.labels import LabelObject, ObjectResult, Skeleton

KEYPOINT_ATTRIBUTE = "keypoint"
"""The attribute that names a point where no skeleton does."""

_TAGS = {"rectangle": "box"}


def write(given: ExportInput, path: Path, *, polygons: bool = False) -> None:
    """The document, UTF-8, the same bytes whenever it is built.

    Args:
        given: the results.
        path: the file.
        polygons: write masks as tracks of polygons instead of one mask a frame.
    """
    planned = plan(given.objects, given.results(), polygons=polygons)
    with path.open("w", encoding="utf-8", newline="\n") as file, ExitStack() as stack:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        file.writelines(_meta(given, planned))
        writers = [_ObjectWriter(object_, planned, given, stack) for object_ in given.objects]
        for result in given.results():
            found = {entry.object: entry for entry in result.objects}
            for writer in writers:
                writer.at(result.frame, found.get(writer.object.id))
        number = 0
        for writer in writers:
            number = writer.copy_to(file, number)
        file.write("</annotations>\n")


class _ObjectWriter:
    """Collects the tracks of one object while the results go by; what is large waits on the disk."""

    def __init__(self, object_: LabelObject, planned: Plan, given: ExportInput, stack: ExitStack) -> None:
        self.object = object_
        self._plan = plan = planned.objects[object_.id]
        self._step, self._frame_count = planned.step, given.info.frame_count
        self._tolerance = given.options.tolerance
        self._last = -1
        self._region = Track()
        self._skeleton = SkeletonTrack(plan.points)
        self._points = {name: Track() for name in plan.points}
        names = [] if plan.skeleton else list(plan.points)
        kinds = ["region", *(["skeleton"] if plan.skeleton else names)]
        self._files: dict[str, IO[str]] = {
            kind: stack.enter_context(
                tempfile.SpooledTemporaryFile(1 << 20, "w+", encoding="utf-8", newline="\n")  # noqa: SIM115
            )
            for kind in kinds
        }

    def at(self, frame: int, found: ObjectResult | None) -> None:
        """Takes what one frame says of the object; None where its result is missing there."""
        plan, self._last = self._plan, frame
        if plan.region is not None:
            shape = None if found is None else region_shape(found, plan.region, frame, self._tolerance)
            self._write("region", self._region.at(frame, shape))
        points = {} if found is None else point_shapes(found, frame)
        if plan.skeleton:
            self._write("skeleton", self._skeleton.at(frame, points))
        else:
            for name, track in self._points.items():
                self._write(name, track.at(frame, points.get(name)))

    def copy_to(self, file: IO[str], number: int) -> int:
        """Writes the object's tracks, numbered from `number` on; returns the next number."""
        after = self._last + self._step
        if after < self._frame_count:
            if self._plan.region is not None:
                self._write("region", self._region.end(after))
            self._write("skeleton", self._skeleton.end(after))
            for name, track in self._points.items():
                self._write(name, track.end(after))
        for kind, spool in self._files.items():
            if spool.tell() == 0:
                continue
            spool.seek(0)
            label = self.object.name
            if kind == "skeleton" and self._plan.region is not None:
                label += SKELETON_SUFFIX
            for block in _blocks(spool) if kind == "region" and self._plan.region == "mask" else [spool]:
                file.write(
                    f'  <track id="{number}" label={quoteattr(label)} source="auto" group_id="{self.object.id}">\n'
                )
                file.writelines(block)
                file.write("  </track>\n")
                number += 1
        return number

    def _write(self, kind: str, keyframe: Keyframe | None) -> None:
        if keyframe is None:
            return
        file = self._files[kind]
        if self._plan.region == "mask" and kind == "region" and not keyframe.outside:
            # One single-frame track for each mask: a line without a shape parts them.
            if file.tell():
                file.write("\n")
            file.writelines(_lines(keyframe, None))
            after = keyframe.frame + self._step
            if after < self._frame_count:
                file.writelines(_lines(replace(keyframe, frame=after, outside=True), None))
        elif self._plan.region != "mask" or kind != "region":
            file.writelines(_lines(keyframe, None if self._plan.skeleton or kind == "region" else kind))


def _blocks(file: IO[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in file:
        if line == "\n":
            yield block
            block = []
        else:
            block.append(line)
    yield block


def _lines(keyframe: Keyframe, keypoint: str | None) -> Iterator[str]:
    tag = _TAGS.get(keyframe.type, keyframe.type)
    if keyframe.type == "skeleton":
        yield f'    <skeleton frame="{keyframe.frame}" keyframe="1" z_order="0">\n'
        for name, point in keyframe.elements:
            place = _written(attributes_of(point))
            yield (
                f'      <points label={quoteattr(name)} keyframe="1" outside="{int(point.outside)}"'
                f' occluded="{int(point.occluded)}"{place}>\n      </points>\n'
            )
        yield "    </skeleton>\n"
        return
    yield (
        f'    <{tag} frame="{keyframe.frame}" keyframe="1" outside="{int(keyframe.outside)}"'
        f' occluded="{int(keyframe.occluded)}"{_written(attributes_of(keyframe))} z_order="0">\n'
    )
    if keypoint is not None:
        yield f'      <attribute name="{KEYPOINT_ATTRIBUTE}">{escape(keypoint)}</attribute>\n'
    yield f"    </{tag}>\n"


def _written(attributes: Iterable[tuple[str, str]]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in attributes)


def _meta(given: ExportInput, planned: Plan) -> Iterator[str]:
    info, start, stop, step = given.info, planned.start, planned.stop, planned.step
    yield "  <meta>\n    <task>\n"
    for name, value in (
        ("name", given.video_name),
        ("size", len(range(start, stop + 1, step))),
        ("mode", "interpolation"),
        ("overlap", 0),
        ("start_frame", start),
        ("stop_frame", stop),
        ("frame_filter", f"step={step}" if step > 1 else ""),
    ):
        yield f"      <{name}>{escape(str(value))}</{name}>\n"
    yield "      <labels>\n"
    yield from _labels(given.objects, planned)
    yield "      </labels>\n"
    yield "      <original_size>\n"
    yield f"        <width>{info.width}</width>\n        <height>{info.height}</height>\n"
    yield f"      </original_size>\n      <source>{escape(given.video_name)}</source>\n    </task>\n  </meta>\n"


def _labels(objects: Iterable[LabelObject], planned: Plan) -> Iterator[str]:
    types: dict[str, dict[str, None]] = {}
    keypoints: dict[str, dict[str, None]] = {}
    skeletons: dict[str, tuple[LabelObject, Skeleton]] = {}
    for object_ in objects:
        made = planned.objects[object_.id]
        if made.region is not None:
            types.setdefault(object_.name, {})[made.region] = None
        if made.points and object_.skeleton is not None:
            name = object_.name + (SKELETON_SUFFIX if made.region is not None else "")
            skeletons.setdefault(name, (object_, object_.skeleton))
        elif made.points:
            types.setdefault(object_.name, {})["points"] = None
            keypoints.setdefault(object_.name, {}).update(dict.fromkeys(made.points))
    for name, kinds in types.items():
        kind = next(iter(kinds)) if len(kinds) == 1 else "any"
        yield from _label(name, kind, values=list(keypoints.get(name, ())))
    for name, (object_, skeleton) in skeletons.items():
        svg = skeleton_svg(skeleton, planned.places.get(object_.id, {}))
        yield from _label(name, "skeleton", svg=svg)
        for point in skeleton.points:
            yield from _label(point, "points", parent=name)


def _label(
    name: str, kind: str, *, values: list[str] | None = None, svg: str | None = None, parent: str | None = None
) -> Iterator[str]:
    yield f"        <label>\n          <name>{escape(name)}</name>\n          <type>{kind}</type>\n"
    yield "          <attributes>\n"
    if values:
        yield (
            "            <attribute>\n"
            f"              <name>{KEYPOINT_ATTRIBUTE}</name>\n              <mutable>False</mutable>\n"
            f"              <input_type>text</input_type>\n              <default_value></default_value>\n"
            "              <values></values>\n            </attribute>\n"
        )
    yield "          </attributes>\n"
    if svg is not None:
        yield f"          <svg>{escape(svg)}</svg>\n"
    if parent is not None:
        yield f"          <parent>{escape(parent)}</parent>\n"
    yield "        </label>\n"


def skeleton_svg(skeleton: Skeleton, places: Mapping[str, tuple[float, float]]) -> str:
    """A skeleton as CVAT's labels have it: lines between numbered circles, on a square of 100.

    Args:
        skeleton: the skeleton.
        places: where its points are, in any unit; those that are missing go on a circle.
    """
    if places:
        xs, ys = [x for x, _ in places.values()], [y for _, y in places.values()]
        left, top, span = min(xs), min(ys), max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    nodes = []
    for number, name in enumerate(skeleton.points):
        if name in places:
            x, y = 10 + 80 * (places[name][0] - left) / span, 10 + 80 * (places[name][1] - top) / span
        else:
            turn = 2 * math.pi * number / len(skeleton.points)
            x, y = 50 + 40 * math.cos(turn), 50 + 40 * math.sin(turn)
        nodes.append((x, y))
    lines = [
        f'<line x1="{nodes[a][0]:.2f}" y1="{nodes[a][1]:.2f}" x2="{nodes[b][0]:.2f}" y2="{nodes[b][1]:.2f}"'
        f' data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in skeleton.edges
    ]
    circles = [
        f'<circle r="0.75" cx="{x:.2f}" cy="{y:.2f}" data-type="element node" data-element-id="{number}"'
        f' data-node-id="{number}" data-label-name={quoteattr(name)}></circle>'
        for number, (name, (x, y)) in enumerate(zip(skeleton.points, nodes, strict=True), start=1)
    ]
    return "".join(lines + circles)
