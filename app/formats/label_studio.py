"""Label Studio: predictions to import, and its export in JSON as anchors.

Out, a video is one task with `videorectangle` regions, for `<VideoRectangle name="box" toName="video"/>` on
`<Video name="video" value="$video" framerate="..."/>`, whose rate must be that of the file's `meta` (the video's own);
a zip or folder of images is one task per picture (`app.formats.label_studio_images`), which carries masks and points
too. `label-studio-images` writes the latter for a video as well, under the names that its frames have as files.

In, the export `JSON`, a list of tasks or one of them: of each task the first annotation that was not skipped, else its
prediction. Every keyframe becomes an anchor; what the page drew between keyframes does not. A region is one object.
Regions that we wrote keep their object's id; on pictures the n-th region of a label is the same object on all of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from app.formats import label_studio_images as images
from app.formats import label_studio_video as videos
from app.formats.base import ExportInput, Imported, ImportInput
from app.formats.label_studio_frames import PageFrames, own_page, rate_of
from app.formats.label_studio_gather import Gathered, Naming
from app.formats.label_studio_shapes import labels_of, page_id
from model.errors import InputError

MAX_BYTES = 512 << 20
_STILLS = ("zip", "folder")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts eight digits before the name of an uploaded file


def write(given: ExportInput, path: Path) -> None:
    """The predictions, as UTF-8 JSON, the same bytes whenever they are built."""
    if given.info.container in _STILLS:
        write_images(given, path)
        return
    page = own_page(given.table, given.info)
    named = {object_.id: videos.Named(page_id(object_.id), (object_.name,)) for object_ in given.objects}
    gathered = videos.Sequences((given.info.width, given.info.height), named).add(given.results())
    task = {
        "data": {"video": given.video_name},
        "meta": {"job": given.job_id, "framerate": round(float(page.rate), 6)},
        "predictions": [
            {
                "model_version": "labelprop",
                "score": gathered.score,
                "result": gathered.regions(page, videos.Controls()),
            }
        ],
    }
    path.write_text(f"[{_json(task)}]\n", encoding="utf-8")


def write_images(given: ExportInput, path: Path) -> None:
    """One task per frame, written as it is made."""
    size = (given.info.width, given.info.height)
    objects = {object_.id: object_ for object_ in given.objects}
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, result in enumerate(given.results()):
            regions = list(images.results_of(result, objects, size))
            seen = [found.confidence for found in result.objects if found.visible]
            score = round(math.fsum(seen) / len(seen), 3) if seen else 0.0
            task = {
                "data": {"image": given.image_name(result.frame)},
                "meta": {"job": given.job_id, "frame": result.frame, "time_ms": result.time_ms},
                "predictions": [{"model_version": "labelprop", "score": score, "result": regions}],
            }
            file.write((",\n" if number else "\n") + _json(task))
        file.write("\n]\n")


def read(given: ImportInput) -> Imported:
    """The anchors of an export.

    Raises:
        InputError: `bad-annotations`, naming the task and the result.
    """
    tasks = _tasks(_document(given.path))
    named = [(f"task {_name_of(task, i)}", task, _results(task, f"task {_name_of(task, i)}")) for i, task in tasks]
    of_video = [entry for entry in named if any(result["type"] == videos.TYPE for result in entry[2])]
    gathered = Gathered()
    if of_video:
        if len(of_video) > 1:
            of_video = [entry for entry in of_video if given.video_name in _names(entry[1])]
        if len(of_video) != 1:
            raise _bad(
                f"The file holds several tasks with regions of video, and {len(of_video)} of them are of"
                f" {given.video_name!r}. Export the one task of this video."
            )
        read_video(of_video[0][2], given, gathered, where=of_video[0][0])
    else:
        _read_images(named, given, gathered)
    if not gathered.anchors():
        raise _bad("The file holds no region that can be used: no VideoRectangle, brush, rectangle, polygon or point.")
    return Imported(gathered.objects(), gathered.anchors())


def read_video(
    results: list[dict[str, Any]], given: ImportInput, gathered: Gathered, *, where: str, page: PageFrames | None = None
) -> list[videos.Track]:
    """Gathers the `videorectangle` results of one annotation.

    Args:
        results: the annotation's results.
        given: the video that they are for.
        gathered: where objects and labels go.
        where: what messages call the annotation.
        page: the page's frames; None finds the rate in the regions themselves.

    Returns:
        The tracks, in the order of `gathered`'s objects of this call.
    """
    size = (given.info.width, given.info.height)
    elsewhere = _labels_by_region(results)
    pages: dict[Any, PageFrames] = {}
    tracks = []
    for j, result in enumerate(results):
        if result["type"] != videos.TYPE:
            continue
        at = f"{where}, result {j}"
        value = result.get("value")
        here = page
        if here is None:
            rate = rate_of(value if isinstance(value, dict) else {}, given.info)
            here = pages.setdefault(rate, PageFrames(given.table, given.info.duration_ms, rate))
        track = videos.read_track(result, here, size, at, labels=elsewhere.get(str(result.get("id"))))
        if not any(shape is not None for shape in track.shapes.values()):
            continue
        key = Naming(track.region or f"#{j}", track.labels[0] if track.labels else None)
        for frame, shape in track.shapes.items():
            gathered.add(key, frame, shape, at)
        tracks.append(track)
    return tracks


def _read_images(named: list[tuple[str, dict, list[dict]]], given: ImportInput, gathered: Gathered) -> None:
    size = (given.info.width, given.info.height)
    frame_of = _frames_by_name(given)
    for where, task, results in named:
        if not any(result["type"] in (*images.REGION_TYPES, *images.POINT_TYPES) for result in results):
            continue
        frame = next((frame_of[name] for name in _names(task) if name in frame_of), None)
        if frame is None:
            shown = ", ".join(sorted(_names(task))[:3]) or "no file"
            raise _bad(
                f"{where.capitalize()} shows {shown}, which is none of the frames of {given.video_name!r}. Its picture"
                " must have the name of the image in the zip, or the frame's index, such as 00012.jpg."
            )
        elsewhere = _labels_by_region(results)
        counts: dict[str, int] = {}
        keys: dict[str, Naming] = {}
        for j, result in enumerate(results):
            if result["type"] in images.REGION_TYPES:
                at = f"{where}, result {j}"
                labels = labels_of(result) or elsewhere.get(str(result.get("id"))) or []
                name = labels[0] if labels else ""
                counts[name] = counts.get(name, 0) + 1
                region = str(result.get("id") or "")
                own = videos.object_id_of(region) is not None
                key = Naming(region if own else f"{name}#{counts[name]}", name or None)
                keys[region] = key
                gathered.add(key, frame, images.read_region(result, size, at), at)
        for j, result in enumerate(results):
            if result["type"] in images.POINT_TYPES:
                at = f"{where}, result {j}"
                point = images.read_point(result, labels_of(result), size, at)
                gathered.add_point(_owner(result, keys, point), frame, point.document(), at)


def _owner(result: Mapping[str, Any], keys: dict[str, Naming], point: images.Point) -> Naming:
    """The object of a keypoint: its parent's, or that of the id that we gave it, or one of its own."""
    parent = str(result.get("parentID") or "")
    if parent and parent in keys:
        return keys[parent]
    object_id = videos.object_id_of(str(result.get("id") or ""))
    if object_id is not None:
        return Naming(page_id(object_id), next(iter(images.meta_text(result)), None))
    return Naming(f"point {point.name}", point.name)


def _document(path: Path) -> Any:
    if path.is_dir():
        raise _bad(f"{path.name} is a folder. Label Studio's export in the format JSON is one file.")
    if path.stat().st_size > MAX_BYTES:
        raise _bad(f"The file has more than the {MAX_BYTES} bytes that are read.")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise _bad("The file is nested too deeply to be an export of Label Studio.") from None
    except json.JSONDecodeError as error:
        raise _bad(f"The file is not JSON (line {error.lineno}: {error.msg}). Export the project as JSON.") from None
    except ValueError:
        raise _bad("The file is not JSON in UTF-8. Export the project as JSON.") from None


def _tasks(document: Any) -> list[tuple[int, dict[str, Any]]]:
    tasks = document if isinstance(document, list) else [document]
    if not tasks or not all(isinstance(task, dict) for task in tasks):
        raise _bad("Label Studio's export is a list of tasks, or one task.")
    return list(enumerate(tasks))


def _name_of(task: Mapping[str, Any], at: int) -> str:
    id_ = task.get("id")
    return str(id_) if isinstance(id_, int) else f"number {at}"


def _results(task: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The results of a task's annotation, each with a `type`."""
    if not any(name in task for name in ("annotations", "completions", "predictions", "result")):
        raise _bad(
            f"{where.capitalize()} has neither `annotations` nor `predictions`. Export as JSON (not JSON-MIN or CSV)."
        )
    for results in annotations_of(task):
        if not isinstance(results, list) or not all(isinstance(entry, dict) for entry in results):
            raise _bad(f"{where.capitalize()} has an annotation whose `result` is no list of results.")
        for j, result in enumerate(results):
            kind = result.get("type")
            if not isinstance(kind, str):
                # Relations between regions have no geometry, but they do have a type; nothing else lacks one.
                raise _bad(f"{where.capitalize()}, result {j} has no `type`.")
            if kind in images.UNREAD_TYPES:
                raise _bad(
                    f"{where.capitalize()}, result {j} is a {kind!r}, which is not read. Use VideoRectangle on videos,"
                    " and brushes, rectangles, polygons or points on pictures."
                )
        if results:
            return results
    return []


def annotations_of(task: Mapping[str, Any]) -> Iterator[Any]:
    """The `result` of what a task has, best first: annotations that were not skipped, drafts, predictions."""
    if "result" in task:
        yield task["result"]
    for name in ("annotations", "completions", "drafts", "predictions"):
        entries = task.get(name)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and not entry.get("was_cancelled"):
                yield entry.get("result")


def _labels_by_region(results: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The labels that stand in results of their own (`<Labels>`), by the region's id."""
    return {str(result.get("id")): labels_of(result) for result in results if result["type"] == "labels"}


def _frames_by_name(given: ImportInput) -> dict[str, int]:
    count = given.table.frame_count
    if given.table.names is None:
        return {f"{frame:05d}": frame for frame in range(count)}
    found: dict[str, int] = {}
    for frame, name in enumerate(given.table.names):
        path = PurePosixPath(name)
        for known in (path.stem, path.name, name.replace("/", "_"), name):
            found.setdefault(known, frame)
    return found


def _names(task: Mapping[str, Any]) -> set[str]:
    """The names of files that a task's data shows, whole and without ending, also as they were before the upload."""
    data = task.get("data")
    found: set[str] = set()
    for value in data.values() if isinstance(data, dict) else ():
        if not isinstance(value, str) or not value:
            continue
        parts = urlsplit(value) if len(value) < 4096 else urlsplit("")
        inner = parse_qs(parts.query).get("d", [""])[0]  # /data/local-files/?d=folder/name
        path = PurePosixPath(inner or unquote(parts.path))
        uploaded = _UPLOADED.fullmatch(path.name)
        for name in (path.name, *([uploaded[1]] if uploaded else [])):
            found |= {name, PurePosixPath(name).stem}
    return found - {""}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _bad(detail: str) -> InputError:
    return InputError(detail, slug="bad-annotations")
