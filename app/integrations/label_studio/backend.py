"""The backend as a whole: requests in, answers out, all of it synchronous and meant for a thread."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.accept import Desk
from app.integrations.label_studio.config import VideoConfig, video_config
from app.integrations.label_studio.documents import (
    PredictIn,
    SetupIn,
    WebhookIn,
    parse,
    project_number,
)
from app.integrations.label_studio.media import Media
from app.integrations.label_studio.predicting import Predicting
from app.integrations.label_studio.prompts import version_of
from app.integrations.label_studio.remote import LabelStudio
from app.integrations.label_studio.tracking import Tracking
from app.problems import FieldFault, Problem
from app.records.label_studio import LabelStudioRecords, ProjectRecord
from app.schemas.jobs import OptionsIn
from model.catalogue import find_model

_log = logging.getLogger(__name__)
_OPTIONS = ("model", "preset", "working_size")
_LATER = 2
_DRAWN = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")


class Backend:
    """Label Studio's machine learning contract on this service.

    Args:
        service: what every endpoint works with.
        redis: the Redis of its records.
    """

    def __init__(self, service: Desk, redis: Any) -> None:
        settings = service.settings
        remote = LabelStudio(
            settings.label_studio_url,
            settings.label_studio_token,
            media_hosts=tuple(settings.label_studio_media_hosts.split(",")),
        )
        self._service = service
        self._redis = redis
        self._media = Media(service, remote)
        self._predicting = Predicting(service, self._media)
        self._later = ThreadPoolExecutor(_LATER, thread_name_prefix="label-studio-webhook")
        self._tracking = Tracking(service, self._media, max_sessions=settings.label_studio_max_sessions)

    def close(self) -> None:
        """Begins nothing any more."""
        self._later.shutdown(wait=False, cancel_futures=True)
        self._media.close()

    def setup(self, owner: str, body: bytes) -> dict[str, Any]:
        """A project is connected: its configuration is looked at, so that the page of its settings says what lacks.

        Raises:
            Problem, InputError: the document, the configuration or the extra parameters cannot be used.
        """
        given = parse(SetupIn, body)
        options = _options(given.extra_params)
        model = find_model(options.get("model", OptionsIn().model), self._service.settings.home)
        video_config(given.label_config)
        record = ProjectRecord(label_config=given.label_config, options=options)
        LabelStudioRecords(self._redis, owner).set_project(project_number(given.project), record)
        return {"model_version": version_of(model.name)}

    def versions(self) -> dict[str, Any]:
        """The names that predictions go by."""
        return {"versions": [version_of(OptionsIn().model)]}

    def predict(self, owner: str, body: bytes) -> dict[str, Any]:
        """Predictions of tasks, or an event of interactive tracking.

        Raises:
            Problem, InputError: the request cannot be answered.
        """
        given = parse(PredictIn, body)
        context = given.context
        event = context.get("event")
        records = LabelStudioRecords(self._redis, owner)
        number = project_number(given.project)
        project = records.project(number)
        options = {} if project is None else project.options
        if event is None and not _prompts_a_frame(context):
            return self._tasks(records, owner, given, context, options, number)
        return {"results": [self._event(records, owner, given, event or "predict", options, number)]}

    def webhook(self, owner: str, body: bytes) -> dict[str, Any]:
        """Something happened in a project. An annotation that was drawn starts its job, before anybody asks for it.

        Raises:
            Problem: the document cannot be used.
        """
        given = parse(WebhookIn, body)
        if given.action not in _DRAWN or given.task is None or given.annotation is None:
            return {"status": "ignored", "action": given.action[:100]}
        records = LabelStudioRecords(self._redis, owner)
        number = project_number(given.project.get("id"))
        known = records.project(number)
        label_config = given.project.get("label_config") or (None if known is None else known.label_config)
        if not isinstance(label_config, str):
            return {"status": "ignored", "action": given.action, "reason": "the project was never set up here"}
        task = {**given.task, "annotations": [given.annotation]}
        # Label Studio waits for the answer for one second.
        self._later.submit(
            self._prepare,
            records,
            owner,
            task,
            video_config(label_config),
            {} if known is None else known.options,
            number,
        )
        return {"status": "ok", "action": given.action}

    def _prepare(
        self,
        records: LabelStudioRecords,
        owner: str,
        task: dict[str, Any],
        config: VideoConfig,
        options: dict[str, Any],
        number: str,
    ) -> None:
        try:
            self._predicting.prepare(records, owner, task, config, options=options, project=number)
        except Exception:
            _log.exception("task %s: preparing its job failed", task.get("id"))

    def _tasks(
        self,
        records: LabelStudioRecords,
        owner: str,
        given: PredictIn,
        context: dict[str, Any],
        options: dict[str, Any],
        number: str,
    ) -> dict[str, Any]:
        if not given.tasks:
            detail = "Send at least one task."
            raise Problem("invalid-request", detail, errors=[FieldFault("/tasks", detail)])
        config = self._config(records, given, number)
        if config.tag != "VideoRectangle":
            detail = f"Predictions are boxes, and <{config.tag}> takes none. Add a <VideoRectangle> for the <Video>."
            raise Problem("bad-label-config", detail)
        answer = self._predicting.predict(
            records,
            owner,
            given.tasks,
            config,
            context=context,
            options=options,
            project=number,
            wait_s=self._service.settings.label_studio_wait_s,
        )
        if context.get("result") is not None:
            # An interactive request takes the first result as one prediction, which must have a list of regions.
            answer["results"] = [found[0] if found else {"result": []} for found in answer["results"]]
        return answer

    def _event(
        self,
        records: LabelStudioRecords,
        owner: str,
        given: PredictIn,
        event: str,
        options: dict[str, Any],
        number: str,
    ) -> dict[str, Any]:
        tracking, context = self._tracking, given.context
        match event:
            case "capabilities":
                return tracking.capabilities(options.get("model", OptionsIn().model))
            case "track_progress":
                return tracking.progress(records, owner, context)
            case "track_cancel":
                return tracking.cancel(records, owner, context)
        if not given.tasks:
            detail = f"The event {str(event)[:50]!r} needs its task."
            raise Problem("invalid-request", detail, errors=[FieldFault("/tasks", detail)])
        task = given.tasks[0]
        if event == "release":
            return tracking.release(records, owner, task)
        config = self._config(records, given, number)
        match event:
            case "prewarm":
                return tracking.prewarm(records, owner, task, config)
            case "predict":
                return tracking.predict(records, owner, task, config, context)
            case "track":
                return tracking.track(records, owner, task, config, context, options=options, project=number)
        detail = f"There is no event {str(event)[:50]!r}."
        raise Problem("invalid-request", detail, errors=[FieldFault("/params/context/event", detail)])

    def _config(self, records: LabelStudioRecords, given: PredictIn, number: str) -> VideoConfig:
        label_config = given.label_config
        if not label_config:
            known = records.project(number)
            if known is None:
                detail = "Send the project's `label_config`, or set the project up first."
                raise Problem("invalid-request", detail, errors=[FieldFault("/label_config", detail)])
            label_config = known.label_config
        return video_config(label_config)


def _prompts_a_frame(context: dict[str, Any]) -> bool:
    """Whether an interactive request without a named event shows single shapes of one frame, and no region of video."""
    results = context.get("result")
    kinds = (
        {str(entry.get("type")) for entry in results if isinstance(entry, dict)} if isinstance(results, list) else set()
    )
    return bool(kinds) and "videorectangle" not in kinds and ("frame" in context or "time_ms" in context)


def _options(extra_params: str | dict[str, Any] | None) -> dict[str, Any]:
    """Options of jobs from the "extra parameters" of a connection: JSON with `model`, `preset`, `working_size`.

    Raises:
        Problem: `invalid-request`.
    """
    if isinstance(extra_params, str):
        try:
            extra_params = json.loads(extra_params) if extra_params.strip() else None
        except (ValueError, RecursionError):
            raise _bad_extra("They must be JSON.") from None
    if not extra_params:
        return {}
    if not isinstance(extra_params, dict) or extra_params.keys() - set(_OPTIONS):
        raise _bad_extra(f"They take an object with {', '.join(_OPTIONS)}, and nothing else.")
    try:
        OptionsIn.model_validate(extra_params)
    except ValueError:
        raise _bad_extra("A value is of the wrong kind; `working_size` is a whole number from 64 to 1080.") from None
    return extra_params


def _bad_extra(reason: str) -> Problem:
    detail = f"The extra parameters of the connection cannot be used. {reason}"
    return Problem("invalid-request", detail, errors=[FieldFault("/extra_params", detail)])
