"""Interactive tracking: the events that Label Studio's page sends through `/predict` while a person draws.

A session is a job of ours and a record of how far its frames were handed out; masks go as PNG data URLs. Whatever goes
wrong is a message of the session (`track_error`, `track_busy`), since the page shows those and not an HTTP error.
"""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from app.accept import Desk
from app.formats.label_studio_frames import PageFrames
from app.formats.label_studio_shapes import shape_label
from app.ids import new_id
from app.integrations.label_studio import jobs
from app.integrations.label_studio.config import VideoConfig
from app.integrations.label_studio.documents import Prediction, answer
from app.integrations.label_studio.media import Fetching, Media
from app.integrations.label_studio.prompts import Prompt
from app.problems import Problem
from app.records.jobs import JobRecord
from app.records.label_studio import LabelStudioRecords, SessionRecord
from app.results import open_results
from model.errors import InputError
from model.labels import raster
from model.labels.jsonio import result_from_json
from model.labels.types import Mask

MAX_FRAMES = 300
MAX_BATCH = 32
LOST_FRAMES = 3
FIRST_WAIT_S = 5.0
BATCH_WAIT_S = 0.25
_FETCH_WAIT_S = 20.0
_LOOK_EVERY_S = 0.05
_OBJECT = 1


class Tracking:
    """Answers the events.

    Args:
        service: the service.
        media: fetches the files of tasks.
        max_sessions: how many jobs of sessions may be at work at the same time.
    """

    def __init__(self, service: Desk, media: Media, *, max_sessions: int) -> None:
        self._service = service
        self._media = media
        self._max_sessions = max_sessions

    def capabilities(self, model: str) -> Prediction:
        """What can be asked for: boxes in, masks of every frame out."""
        targets = [
            {"tag": "VideoRectangle", "output": "bbox", "features": ["track"]},
            {"tag": "VideoVectorLabels", "output": "polygon", "features": ["track"]},
        ]
        value = {"prompts": ["box"], "targets": targets, "model_info": {"name": "Labelprop", "version": model}}
        return answer("capabilities", value)

    def prewarm(self, records: LabelStudioRecords, owner: str, task: dict, config: VideoConfig) -> Prediction:
        """Begins to fetch the task's file, so that tracking can start at once."""
        video = self._media.video(records, owner, config.media(task), task.get("id"), wait_s=0.0)
        value = {"status": "ok", "cached": [], "pending": [], "frame_count": 0}
        if isinstance(video, Fetching):
            value["status"] = "fetching"
        else:
            value["frame_count"] = video.frame_count
        return answer("prewarm_ack", value, config.controls)

    def predict(
        self, records: LabelStudioRecords, owner: str, task: dict, config: VideoConfig, context: dict[str, Any]
    ) -> Prediction:
        """The mask that a box starts as on its frame: the box, filled. Points alone say nothing to this model."""
        shown = _boxes(context)
        if not shown:
            return {"result": []}
        video = self._media.video(records, owner, config.media(task), task.get("id"), wait_s=_FETCH_WAIT_S)
        if isinstance(video, Fetching):
            return answer("track_busy", {"error": _on_its_way(video)}, config.controls)
        size = (video.width, video.height)
        label = shape_label(shown[-1], size, "the box")
        if label is None:
            return {"result": []}
        if "box" in label:
            x, y, w, h = label["box"]
            region = raster.box(x, y, w, h, video.height, video.width)
        else:
            region = raster.polygon(label["polygon"], video.height, video.width)
        return answer("bitmask", _picture(region), config.controls)

    def track(
        self,
        records: LabelStudioRecords,
        owner: str,
        task: dict,
        config: VideoConfig,
        context: dict[str, Any],
        *,
        options: dict[str, Any],
        project: str,
    ) -> Prediction:
        """Starts a session: `track_started`, or `track_busy` or `track_error` with a reason."""
        try:
            return self._track(records, owner, task, config, context, options=options, project=project)
        except (Problem, InputError) as error:
            return answer("track_error", {"error": error.detail}, config.controls)

    def progress(self, records: LabelStudioRecords, owner: str, context: dict[str, Any]) -> Prediction:
        """The frames that are new since the last call, after a wait for the first of them."""
        session = records.session(str(context.get("session_id", ""))[:64])
        if session is None:
            gone = {"frames": [], "produced": 0, "total": 0, "done": True, "error": "session not found"}
            return answer("track_progress", gone)
        deadline = time.monotonic() + FIRST_WAIT_S
        frames: list[dict[str, Any]] = []
        while True:
            job = self._service.jobs.get(owner, session.job_id)
            # Read after the state, so that a job that has ended has all of its results here.
            new = self._hand_out(session, job, MAX_BATCH - len(frames)) if job is not None else []
            if new and not frames:
                deadline = min(deadline, time.monotonic() + BATCH_WAIT_S)
            frames += new
            done = self._done(session, job, new)
            if done or len(frames) >= MAX_BATCH or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_EVERY_S)
        session.produced += len(frames)
        if done and max(session.lost.values(), default=0) >= LOST_FRAMES:
            self._service.jobs.request_cancel(owner, session.job_id)  # the object is gone; the rest is not needed
        records.save_session(session)
        value = {
            "frames": frames,
            "produced": session.produced,
            "total": _total(session),
            "done": done,
            "error": session.error,
        }
        return answer("track_progress", value)

    def cancel(self, records: LabelStudioRecords, owner: str, context: dict[str, Any]) -> Prediction:
        """Ends a session before its next frame does."""
        session = records.session(str(context.get("session_id", ""))[:64])
        if session is not None:
            self._end(records, owner, session)
        return answer("track_cancel_ack", {"status": "cancelled"})

    def release(self, records: LabelStudioRecords, owner: str, task: dict) -> Prediction:
        """Ends every session on a task; its video stays."""
        for session in records.sessions():
            if session.task == str(task.get("id")):
                self._end(records, owner, session)
        return answer("release_ack", {"status": "released"})

    def _track(
        self,
        records: LabelStudioRecords,
        owner: str,
        task: dict,
        config: VideoConfig,
        context: dict[str, Any],
        *,
        options: dict[str, Any],
        project: str,
    ) -> Prediction:
        shown = _boxes(context)
        if not shown:
            detail = "Labelprop follows boxes. Draw one around the object; points alone do not say how far it reaches."
            return answer("track_error", {"error": detail}, config.controls)
        video = self._media.video(records, owner, config.media(task), task.get("id"), wait_s=_FETCH_WAIT_S)
        if isinstance(video, Fetching):
            return self._busy(_on_its_way(video), self._resident(records, owner), config)
        clip = jobs.open_clip(self._service, owner, video)
        frame = _frame(context, PageFrames(clip.table, clip.info.duration_ms, config.rate(task)))
        label = shape_label(shown[-1], (video.width, video.height), "The box")
        if label is None:
            return answer("track_error", {"error": "The box lies outside the picture."}, config.controls)
        direction = context.get("direction")
        direction = direction if direction in ("forward", "backward", "both") else "forward"
        most = _most_frames(context, clip)
        start = frame if direction == "forward" else max(0, frame - most)
        end = frame + 1 if direction == "backward" else min(video.frame_count, frame + most + 1)
        anchors = [{"frame": frame, "labels": [{"object": _OBJECT, **label}]}]
        with records.alone("track"):
            resident = self._resident(records, owner)
            if resident >= self._max_sessions:
                return self._busy(f"{resident} sessions are at work, which is as many as may be.", resident, config)
            job = jobs.submit(
                self._service,
                records,
                owner,
                Prompt([{"id": _OBJECT}], anchors, {}),
                video.id,
                options={**options, "start": start, "end": end, "direction": direction, "stride": 1},
                metadata={"source": "label-studio", "project": project, "task": task.get("id"), "session": True},
            )
            session = SessionRecord(id=new_id("s_"), task=str(task.get("id")), job_id=job.id, start=start, end=end)
            if direction != "backward":
                session.forward = frame
            if direction != "forward":
                # In both directions the frame of the box itself is handed out once.
                session.backward = frame if direction == "backward" else frame - 1 if frame > start else None
            records.save_session(session)
        value = {
            "session_id": session.id,
            "total_frames": _total(session),
            "fps": None if clip.info.fps is None else round(float(clip.info.fps), 6),
            "duration_ms": clip.info.duration_ms,
        }
        return answer("track_started", value, config.controls)

    def _busy(self, reason: str, resident: int, config: VideoConfig) -> Prediction:
        value = {"error": reason, "resident_sessions": resident, "max_sessions": self._max_sessions}
        return answer("track_busy", value, config.controls)

    def _resident(self, records: LabelStudioRecords, owner: str) -> int:
        found = {session.job_id for session in records.sessions()}
        stand = (self._service.jobs.get(owner, job_id) for job_id in found)
        return sum(job is not None and not job.final for job in stand)

    def _end(self, records: LabelStudioRecords, owner: str, session: SessionRecord) -> None:
        self._service.jobs.request_cancel(owner, session.job_id)
        records.drop_session(session.id)

    def _hand_out(self, session: SessionRecord, job: JobRecord, most: int) -> list[dict[str, Any]]:
        results = open_results(self._service.store, job)
        found: list[dict[str, Any]] = []
        for name, step in (("forward", 1), ("backward", -1)):
            frame: int | None = getattr(session, name)
            while frame is not None and len(found) < most:
                document = results.read_json(frame)
                if document is None:
                    break
                mask = _mask(document)
                if mask is None:
                    session.lost[name] = session.lost.get(name, 0) + 1
                else:
                    session.lost[name] = 0
                    found.append({"frame": frame, "time_ms": document["time_ms"], **_picture(mask)})
                frame += step
                if not session.start <= frame < session.end or session.lost[name] >= LOST_FRAMES:
                    frame = None
            setattr(session, name, frame)
        return found

    @staticmethod
    def _done(session: SessionRecord, job: JobRecord | None, new: list[dict[str, Any]]) -> bool:
        if session.handed_out:
            return True
        if job is not None and (not job.final or new):
            return False
        problem = jobs.problem_of(job)
        session.error = session.error or (problem.detail if problem is not None else None)
        return True


def _boxes(context: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The values of the boxes among the prompts, in per cent."""
    results = context.get("result")
    values = [entry.get("value") for entry in results if isinstance(entry, dict)] if isinstance(results, list) else []
    return [value for value in values if isinstance(value, dict) and {"x", "y", "width", "height"} <= value.keys()]


def _frame(context: Mapping[str, Any], page: PageFrames) -> int:
    """The true frame that a request speaks of: by its time where it has one, else by the page's number."""
    time_ms = _number(context.get("time_ms"))
    if time_ms is not None:
        return page.at(time_ms)
    number = _number(context.get("frame"))
    return page.index(int(number) if number is not None else 1)


def _most_frames(context: Mapping[str, Any], clip: jobs.Clip) -> int:
    duration, count = _number(context.get("max_duration_ms")), _number(context.get("max_frames"))
    if duration is not None and clip.info.fps:
        return max(1, round(duration / 1000 * float(clip.info.fps)))
    return max(1, int(count)) if count is not None else MAX_FRAMES


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(min(max(value, 0), 1e9))
    return None


def _mask(document: dict[str, Any]) -> Mask | None:
    """The object's mask on a frame, or None where it is gone."""
    for found in result_from_json(document).objects:
        if found.object == _OBJECT and found.visible and found.mask is not None and found.mask.any():
            return found.mask
    return None


def _picture(mask: Mask) -> dict[str, Any]:
    """A mask as a black and white PNG in a data URL, with its size."""
    buffer = io.BytesIO()
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(buffer, "PNG")
    height, width = mask.shape
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"imageDataURL": f"data:image/png;base64,{data}", "width": width, "height": height}


def _total(session: SessionRecord) -> int:
    return session.end - session.start


def _on_its_way(video: Fetching) -> str:
    return f"The video is being fetched from Label Studio ({video.bytes} bytes so far). Try again in a moment."
