"""Every way a request can fail becomes a problem details answer."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import redis
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.problems import KINDS, MEDIA_TYPE, FieldFault, Problem, problem_document
from app.records.paging import BadCursorError
from app.schemas.base import pointer_of, sentence_of
from model.errors import InputError

_SLUG_OF_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "request-too-large", 415: "unsupported-media-type"}
_RETRY = {"Retry-After": "5"}
# Full, not able to write its log, a replica, without its master; from within a script, the type does not say it.
_REDIS_CANNOT = ("OOM ", "MISCONF ", "READONLY ", "MASTERDOWN ", "NOREPLICAS ", "BUSY ")


class ProblemResponse(JSONResponse):
    """An answer of the media type `application/problem+json`."""

    media_type = MEDIA_TYPE


def install(app: FastAPI) -> None:
    """Registers the handlers."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(BadCursorError, _bad_cursor)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for error in (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
        app.add_exception_handler(error, _redis_error)
    app.add_exception_handler(OSError, _os_error)
    app.add_exception_handler(Exception, _unhandled)


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The error answers of an operation, for its `responses=`: one per status, with an example per slug."""
    documented: dict[int | str, dict[str, Any]] = {}
    for slug in slugs:
        kind = KINDS[slug]
        answer = documented.setdefault(
            kind.status,
            {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}, "examples": {}}}},
        )
        example = problem_document(slug, kind.explanation.split("\n")[0])
        answer["content"][MEDIA_TYPE]["examples"][slug] = {"summary": kind.title, "value": example}
        answer["description"] = "; ".join(
            entry["summary"] for entry in answer["content"][MEDIA_TYPE]["examples"].values()
        )
    return documented


def _answer(problem: Problem, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    document = problem.document()
    if status is not None:
        document["status"] = status
    return ProblemResponse(document, document["status"], {**problem.headers, **(headers or {})})


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(error)


def _input_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    return _answer(Problem.of(error))


def _bad_cursor(request: Request, error: Exception) -> Response:
    return _answer(Problem("invalid-request", f"{error}.", errors=[FieldFault("/query/cursor", f"{error}.")]))


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [FieldFault(pointer_of(tuple(fault["loc"])), sentence_of(fault)) for fault in error.errors()]
    return _answer(Problem("invalid-request", faults[0].detail, errors=faults))


def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = _SLUG_OF_STATUS.get(error.status_code, "http-error" if error.status_code < 500 else "internal-error")
    match slug:
        case "not-found":
            detail = f"There is nothing at {request.url.path[:200]}. See /docs for the calls."
        case "method-not-allowed":
            allowed = (error.headers or {}).get("Allow", "")
            detail = f"{request.method} is not allowed here. Use: {allowed}."
        case _:
            detail = f"{error.detail}."
    return _answer(Problem(slug, detail), status=error.status_code, headers=error.headers)


def _redis_error(request: Request, error: Exception) -> Response:
    if isinstance(error, redis.ResponseError) and not any(word in str(error) for word in _REDIS_CANNOT):
        raise error  # a fault of ours
    return _answer(Problem("service-unavailable", "The service's records cannot be reached.", headers=_RETRY))


def _os_error(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _answer(Problem("storage-full", "There is no room left in the store. Nothing was changed."))
    raise error


def _unhandled(request: Request, error: Exception) -> Response:
    # The server logs the error itself; nothing of it leaves here.
    return _answer(Problem("internal-error", "The service failed on this request. Its log says why; try again later."))
