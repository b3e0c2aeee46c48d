"""From results to the JSON of CVAT's annotations, job by job of a task.

Boxes and polygons are tracks; masks are shapes, one a frame, since CVAT has no tracks of masks (`app.formats
.cvat_tracks`); keypoints are tracks of points or of skeletons. Where two jobs of a task overlap, both get the tracks of
boxes and polygons, which CVAT joins by what it finds in the overlap; everything else would stand there twice, and goes
to the first job alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.formats.cvat_tracks import Keyframe, Region, SkeletonTrack, Track, point_shapes, region_shape
from app.integrations.cvat.marks import SOURCE, group_of
from app.integrations.cvat.task import Segment, Task
from model.labels import FrameResult, ObjectResult

JOINED = ("rectangle", "polygon")
"""What CVAT joins over the frames that two jobs share."""

Annotations = dict[str, list[dict[str, Any]]]


def build(
    task: Task, segment: Segment, objects: Mapping[int, Mapping[str, Any]], results: Iterable[FrameResult]
) -> dict[int, Annotations]:
    """An object's annotations in one job, for every object that has any.

    Args:
        task: the task.
        segment: the job.
        objects: how each goes back; `app.integrations.cvat.pull.Pulled.objects`.
        results: in the order of frames, on the video's.

    Returns:
        By object `{"shapes": [...], "tracks": [...]}` as `PATCH /api/jobs/{id}/annotations` takes them.
    """
    earlier = max((other.stop for other in task.segments if other.start < segment.start), default=-1)
    writers = {id_: _ObjectWriter(id_, back, task) for id_, back in objects.items()}
    for result in results:
        number = task.frames.to_task(result.frame)
        if number is None or not segment.start <= number <= segment.stop:
            continue
        found = {entry.object: entry for entry in result.objects}
        for id_, writer in writers.items():
            writer.at(number, found.get(id_), shared=number <= earlier)
    after = next((number for number in task.frames.kept if number > max(w.last for w in writers.values())), None)
    for writer in writers.values():
        if after is not None and after <= segment.stop:
            writer.end(after)
    built = {id_: writer.annotations() for id_, writer in writers.items()}
    return {id_: made for id_, made in built.items() if made["shapes"] or made["tracks"]}


class _ObjectWriter:
    """Collects what one object is in one job."""

    def __init__(self, id_: int, back: Mapping[str, Any], task: Task) -> None:
        self._group = group_of(id_)
        self._region, self._points = back["region"], back["points"]
        self._names: dict[str, int] = {}
        if self._points is not None and self._points["type"] == "skeleton":
            label = task.label(self._points["label_id"])
            self._names = {sub["name"]: sub["id"] for sub in label["sublabels"]}
        self._region_track, self._points_track = Track(), Track()
        self._skeleton_track = SkeletonTrack(list(self._names))
        self._keyframes: dict[str, list[Keyframe]] = {"region": [], "points": [], "skeleton": []}
        self.last = -1

    def at(self, number: int, found: ObjectResult | None, *, shared: bool) -> None:
        """Takes what one frame says; `shared` frames belong to an earlier job too."""
        self.last = number
        if self._region is not None and (not shared or self._region["type"] in JOINED):
            kind: Region = self._region["type"]
            shape = None if found is None else region_shape(found, kind, number)
            self._keep("region", self._region_track.at(number, shape))
        if self._points is None or shared:
            return
        points = {} if found is None else point_shapes(found, number)
        if self._names:
            known = {name: point for name, point in points.items() if name in self._names}
            self._keep("skeleton", self._skeleton_track.at(number, known))
        else:
            self._keep("points", self._points_track.at(number, _joined(number, points)))

    def end(self, number: int) -> None:
        """Ends what is still seen on the frame after the last."""
        self._keep("region", self._region_track.end(number))
        self._keep("points", self._points_track.end(number))
        self._keep("skeleton", self._skeleton_track.end(number))

    def annotations(self) -> Annotations:
        """What was collected, as CVAT's JSON."""
        made: Annotations = {"shapes": [], "tracks": []}
        region, points, skeleton = self._keyframes["region"], self._keyframes["points"], self._keyframes["skeleton"]
        if region and self._region["type"] == "mask":
            made["shapes"] = [self._shape(keyframe) for keyframe in region if not keyframe.outside]
        elif region:
            made["tracks"].append(self._track(self._region["label_id"], region))
        if points:
            made["tracks"].append(self._track(self._points["label_id"], points))
        if skeleton:
            track = self._track(self._points["label_id"], skeleton)
            for name, id_ in self._names.items():
                own = [dict(keyframe.elements)[name] for keyframe in skeleton]
                shapes = [_tracked(keyframe) for keyframe in own]
                element = {"label_id": id_, "frame": own[0].frame, "group": 0, "source": SOURCE, "attributes": []}
                track["elements"].append({**element, "shapes": shapes})
            made["tracks"].append(track)
        return made

    def _keep(self, kind: str, keyframe: Keyframe | None) -> None:
        if keyframe is not None:
            self._keyframes[kind].append(keyframe)

    def _shape(self, keyframe: Keyframe) -> dict[str, Any]:
        tracked = _tracked(keyframe)
        return {"label_id": self._region["label_id"], "group": self._group, "source": SOURCE, **tracked, "elements": []}

    def _track(self, label_id: int, keyframes: list[Keyframe]) -> dict[str, Any]:
        return {
            "label_id": label_id,
            "frame": keyframes[0].frame,
            "group": self._group,
            "source": SOURCE,
            "attributes": [],
            "shapes": [_tracked(keyframe) for keyframe in keyframes],
            "elements": [],
        }


def _joined(number: int, points: Mapping[str, Keyframe]) -> Keyframe | None:
    """Points of one CVAT shape, which has no names: they keep their order."""
    if not points:
        return None
    flat = tuple(value for point in points.values() for value in point.points)
    return Keyframe(number, "points", flat, occluded=all(point.occluded for point in points.values()))


def _tracked(keyframe: Keyframe) -> dict[str, Any]:
    exact = keyframe.type == "mask"
    return {
        "type": keyframe.type,
        "frame": keyframe.frame,
        "occluded": keyframe.occluded,
        "outside": keyframe.outside,
        "z_order": 0,
        "rotation": 0.0,
        "points": [float(value) if exact else round(float(value), 2) for value in keyframe.points],
        "attributes": [],
    }
