"""What a person drew on a task becomes a job of ours, and a job's results become the regions of a prediction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from app.formats.base import ImportInput
from app.formats.label_studio import read_video
from app.formats.label_studio_frames import PageFrames
from app.formats.label_studio_gather import Gathered
from app.formats.label_studio_shapes import PAGE_ID
from app.formats.label_studio_video import TYPE, Controls, Named, Sequences
from model.errors import InputError
from model.video import FrameTable, VideoInfo

MODEL_VERSION = "labelprop"


@dataclass(frozen=True)
class Prompt:
    """Regions as a person left them, ready to be submitted.

    Attributes:
        objects, anchors: as a job takes them.
        named: how each object's region is called on the page, by object id.
    """

    objects: list[dict[str, Any]]
    anchors: list[dict[str, Any]]
    named: dict[int, Named]

    def digest(self, video_id: str, options: Mapping[str, Any]) -> str:
        """The same for the same labels, video and options."""
        document = [video_id, self.objects, self.anchors, dict(options)]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def drawn_regions(task: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results with regions of video that a request speaks of: of the interactive context, else of the task.

    Of a task: the newest annotation that was not skipped and has some, else a draft, else a prediction of another
    model. Our own predictions are no labels.
    """
    if _has_video(context.get("result")):
        return _results(context["result"])
    for results in _candidates(task):
        if _has_video(results):
            return _results(results)
    return []


def read_prompt(
    results: list[dict[str, Any]], info: VideoInfo, table: FrameTable, *, rate: Fraction, where: str
) -> Prompt:
    """The objects and anchors of regions of video; every region is an object, every keyframe an anchor.

    Args:
        results: of one annotation.
        info: the video.
        table: its frame table.
        rate: frames a second of the page, as configured.
        where: what messages call the annotation.

    Raises:
        InputError: `bad-annotations`.
    """
    gathered = Gathered()
    given = ImportInput(Path(), info, table, where)
    page = PageFrames(table, info.duration_ms, rate)
    tracks = read_video(results, given, gathered, where=where, page=page)
    if not tracks:
        detail = f"{where.capitalize()} has no region with a box on the frame. Draw one around each object."
        raise InputError(detail, slug="bad-annotations")
    ids = gathered.ids()
    named = {}
    for track, (_, id_) in zip(tracks, ids.items(), strict=True):
        named[id_] = Named(track.region or f"labelprop-{id_}", tuple(track.labels))
    return Prompt(gathered.objects(), gathered.anchors(), named)


def prediction_of(gathered: Sequences, page: PageFrames, controls: Controls, model: str) -> dict[str, Any]:
    """A prediction as Label Studio takes it: regions, their scores, and the score of all."""
    regions = gathered.regions(page, controls)
    return {"model_version": version_of(model), "score": gathered.score, "result": regions}


def version_of(model: str) -> str:
    """The name that predictions of a model go by in Label Studio."""
    return f"{MODEL_VERSION} {model}"


def is_ours(prediction: Mapping[str, Any]) -> bool:
    """Whether a prediction came from here: by the name of its model, or the ids of regions in a file we wrote."""
    name = str(prediction.get("model_version") or "")
    if name.split(" ")[0] == MODEL_VERSION:
        return True
    results = prediction.get("result")
    ids = [entry.get("id") for entry in results if isinstance(entry, dict)] if isinstance(results, list) else []
    return bool(ids) and all(isinstance(id_, str) and PAGE_ID.fullmatch(id_) for id_ in ids)


def _candidates(task: Mapping[str, Any]) -> Iterator[Any]:
    for name in ("annotations", "drafts", "predictions"):
        entries = task.get(name)
        listed = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        listed.sort(key=lambda entry: str(entry.get("updated_at") or entry.get("created_at") or ""), reverse=True)
        for entry in listed:
            if not entry.get("was_cancelled") and not (name == "predictions" and is_ours(entry)):
                yield entry.get("result")


def _results(results: Any) -> list[dict[str, Any]]:
    return [entry for entry in results if isinstance(entry, dict) and isinstance(entry.get("type"), str)]


def _has_video(results: Any) -> bool:
    return isinstance(results, list) and any(isinstance(r, dict) and r.get("type") == TYPE for r in results)
