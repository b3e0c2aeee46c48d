"""The documents of Label Studio's machine learning contract, in and out.

What it sends has more in it than we need, and grows with its versions: unknown fields are passed over.
"""

from __future__ import annotations

import secrets
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.formats.label_studio_video import Controls
from app.problems import Problem
from app.schemas.base import faults_of

MAX_TASKS = 500
Result = dict[str, Any]
Prediction = dict[str, Any]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


_Model = TypeVar("_Model", bound=_Sent)


class Params(_Sent):
    """What goes along with a request for predictions."""

    context: dict[str, Any] | None = None


class PredictIn(_Sent):
    """A request for predictions; events of interactive tracking are such requests too."""

    tasks: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_TASKS)
    project: str | int | None = None
    label_config: str | None = None
    params: Params | None = None

    @property
    def context(self) -> dict[str, Any]:
        """Of an interactive request; empty otherwise."""
        return (self.params.context if self.params is not None else None) or {}


class SetupIn(_Sent):
    """A project is connected, or its connection is looked after."""

    project: str | int
    label_config: str = Field(alias="schema")
    extra_params: str | dict[str, Any] | None = None


class WebhookIn(_Sent):
    """Something happened in a project."""

    action: str
    project: dict[str, Any] = Field(default_factory=dict)
    task: dict[str, Any] | None = None
    annotation: dict[str, Any] | None = None


def parse(kind: type[_Model], body: bytes) -> _Model:
    """A document of that kind.

    Raises:
        Problem: `invalid-json`, or `invalid-request` with a pointer to every faulty field.
    """
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        broken = error.errors(include_url=False)[0]["type"] == "json_invalid"
        faults = faults_of(error)
        raise Problem("invalid-json" if broken else "invalid-request", faults[0].detail, errors=faults) from None


def project_number(project: str | int | None) -> str:
    """The number of a project, which is sent as `<number>.<time of creation>`."""
    return str(project if project is not None else "").split(".")[0][:40]


def answer(kind: str, value: dict[str, Any], controls: Controls | None = None) -> Prediction:
    """A prediction that carries one message of interactive tracking."""
    named = {} if controls is None else {"from_name": controls.from_name, "to_name": controls.to_name}
    message: Result = {"id": secrets.token_hex(4), "type": kind, "origin": "manual", **named, "value": value}
    return {"result": [message]}
