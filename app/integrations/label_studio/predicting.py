"""Predictions for whole tasks: every region of every task carried through its video."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from app.accept import Desk
from app.formats.label_studio_frames import PageFrames
from app.formats.label_studio_video import Sequences
from app.integrations.label_studio import jobs
from app.integrations.label_studio.config import VideoConfig
from app.integrations.label_studio.documents import Prediction
from app.integrations.label_studio.media import LONGEST_FETCH_S, Fetching, Media
from app.integrations.label_studio.prompts import Prompt, drawn_regions, prediction_of, read_prompt
from app.problems import Problem, problem_document
from app.records.jobs import JobRecord
from app.records.label_studio import LabelStudioRecords
from app.results import open_results
from model.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """A task whose job is there."""

    clip: jobs.Clip
    prompt: Prompt
    job_id: str
    rate: Fraction


Outcome = Begun | Fetching | Problem | None
"""None: there is nothing to carry; nobody drew on the task."""


class Predicting:
    """Answers requests for predictions.

    Args:
        service: the service.
        media: fetches the files of tasks.
    """

    def __init__(self, service: Desk, media: Media) -> None:
        self._service = service
        self._media = media

    def predict(
        self,
        records: LabelStudioRecords,
        owner: str,
        tasks: list[dict[str, Any]],
        config: VideoConfig,
        *,
        context: dict[str, Any],
        options: dict[str, Any],
        project: str,
        wait_s: float,
    ) -> dict[str, Any]:
        """The answer to a request: one list of predictions per task, empty where there is none yet.

        An empty list makes Label Studio store nothing, so that it may ask again. What is missing, and why, stands in
        `pending` and `problems` beside it.

        Raises:
            Problem: the only task of a request cannot be worked on.
        """
        deadline = time.monotonic() + wait_s
        outcomes = [
            self._begin(records, owner, task, config, context=context, options=options, project=project, by=deadline)
            for task in tasks
        ]
        begun = [outcome.job_id for outcome in outcomes if isinstance(outcome, Begun)]
        stand = jobs.wait_for(self._service, owner, begun, deadline)
        answer: dict[str, Any] = {"results": [], "pending": [], "problems": []}
        for task, outcome in zip(tasks, outcomes, strict=True):
            job = stand.get(outcome.job_id) if isinstance(outcome, Begun) else None
            if isinstance(outcome, Begun) and job is not None and job.status == "succeeded":
                answer["results"].append([self._prediction(owner, outcome, job, config)])
                continue
            answer["results"].append([])
            problem = jobs.problem_of(job) if isinstance(outcome, Begun) else outcome
            if isinstance(problem, Problem):
                if len(tasks) == 1:
                    raise problem
                answer["problems"].append(
                    {"task": task.get("id"), **problem_document(problem.kind.slug, problem.detail)}
                )
            elif isinstance(problem, Fetching):
                answer["pending"].append({"task": task.get("id"), "bytes": problem.bytes})
            elif job is not None:
                progress = job.progress.model_dump()
                answer["pending"].append({"task": task.get("id"), "job": job.id, "status": job.status, **progress})
        return answer

    def prepare(
        self,
        records: LabelStudioRecords,
        owner: str,
        task: dict[str, Any],
        config: VideoConfig,
        *,
        options: dict[str, Any],
        project: str,
    ) -> None:
        """Begins a task's job, however long its file takes, for a request that may come later."""
        by = time.monotonic() + LONGEST_FETCH_S
        outcome = self._begin(records, owner, task, config, context={}, options=options, project=project, by=by)
        if isinstance(outcome, Problem):
            # Whoever drew cannot do anything about it here; a request for predictions will say it again.
            _log.info("task %s: no job: %s", task.get("id"), outcome.detail)

    def _begin(
        self,
        records: LabelStudioRecords,
        owner: str,
        task: dict[str, Any],
        config: VideoConfig,
        *,
        context: dict[str, Any],
        options: dict[str, Any],
        project: str,
        by: float,
    ) -> Outcome:
        drawn = drawn_regions(task, context)
        if not drawn:
            return None
        where = f"task {task.get('id')}"
        try:
            wait_s = max(0.0, by - time.monotonic())
            video = self._media.video(records, owner, config.media(task), task.get("id"), wait_s=wait_s)
            if isinstance(video, Fetching):
                return video
            clip = jobs.open_clip(self._service, owner, video)
            rate = config.rate(task)
            prompt = read_prompt(drawn, clip.info, clip.table, rate=rate, where=where)
            metadata = {"source": "label-studio", "project": project, "task": task.get("id")}
            job = jobs.submit(self._service, records, owner, prompt, video.id, options=options, metadata=metadata)
            return Begun(clip, prompt, job.id, rate)
        except InputError as error:
            return Problem.of(error)
        except Problem as problem:
            return problem

    def _prediction(self, owner: str, begun: Begun, job: JobRecord, config: VideoConfig) -> Prediction:
        info = begun.clip.info
        gathered = Sequences((info.width, info.height), begun.prompt.named)
        gathered.add_json(open_results(self._service.store, job).iter_json())
        page = PageFrames(begun.clip.table, info.duration_ms, begun.rate)
        return prediction_of(gathered, page, config.controls, job.model.name)
