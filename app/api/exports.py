"""Exports of a job: built once, on the `cpu` queue, then served as files."""

from __future__ import annotations

import logging
from typing import Annotated

import redis
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from kombu.exceptions import OperationalError
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable

from app.api.caching import not_modified
from app.api.context import Context, Owner, Service
from app.api.errors import ProblemResponse, problems
from app.api.results import not_ready
from app.files import JobFiles
from app.formats import EXPORTS, Format, choose_options, find_format, variant_filename, variant_name
from app.formats.options import MAX_TOLERANCE
from app.problems import Problem
from app.records.jobs import JobRecord
from app.schemas.exports import ExportOut

router = APIRouter(prefix="/v1/jobs", tags=["exports"])

_log = logging.getLogger(__name__)
_FILE = {"schema": {"type": "string", "format": "binary"}}


@router.head("/{job_id}/exports/{name}", include_in_schema=False)
@router.get(
    "/{job_id}/exports/{name}",
    operation_id="get_export",
    summary="Export the results",
    response_class=Response,
    responses={
        200: {
            "description": "The file, with `ETag` and byte ranges.",
            "content": {format_.media_type: _FILE for format_ in EXPORTS.values()},
        },
        202: {
            "description": "It is being built; ask again after the seconds in `Retry-After`.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ExportOut"}}},
        },
        206: {"description": "The bytes that `Range` asked for."},
        304: {"description": "Not modified."},
        **problems(
            "job-not-found", "unknown-format", "not-ready", "video-not-found", "export-failed", "range-not-satisfiable",
            "invalid-request",
        ),
    },
)  # fmt: skip
def get_export(
    job_id: str,
    name: str,
    request: Request,
    service: Service,
    owner: Owner,
    outline: Annotated[bool | None, Query(description="`overlay`: draw outlines (true).")] = None,
    opacity: Annotated[float | None, Query(ge=0, le=1, description="`overlay`: of the colour inside (0.38).")] = None,
    names: Annotated[bool | None, Query(description="`overlay`: write the objects' names (true).")] = None,
    confidence: Annotated[bool | None, Query(description="`overlay`: write the confidence (false).")] = None,
    tolerance: Annotated[
        float | None,
        Query(
            ge=0,
            le=MAX_TOLERANCE,
            description="`yolo-seg`, `labelme`: how far outlines may be from the mask's, in pixels (0.5); 0 is exact.",
        ),
    ] = None,
) -> Response:
    """The results of a job that has ended, in a format. Also of a cancelled or failed one, as far as it came.

    `GET /v1/formats` lists the formats and the options that each heeds; another option is refused. An export with
    options is a file of its own beside the one without.
    """
    format_ = find_format(name)
    given = {"outline": outline, "opacity": opacity, "names": names, "confidence": confidence, "tolerance": tolerance}
    options = choose_options(format_, {key: value for key, value in given.items() if value is not None})
    variant = variant_name(format_, options)
    record = service.job(owner, job_id)
    files = JobFiles(service.store, owner, job_id, record.revision)
    if not record.final:
        raise not_ready(record, "Exports are built from all results.")
    key = files.export(variant_filename(format_, options))
    if service.store.exists(key):
        return _file(service, record, format_, variant, key, request)
    if record.progress.frames_done == 0:
        raise not_ready(record, "There is nothing to export.")
    if format_.needs_frames and service.videos.get(owner, record.video_id) is None:
        raise Problem("video-not-found", f"The video was deleted, and {format_.name!r} is drawn on its frames.")
    state = service.exports.request(owner, job_id, record.revision, variant)
    if state.state == "failed":
        if state.error is not None:
            return ProblemResponse(state.error, state.error["status"])
        raise Problem("export-failed", "Building it failed several times. Asking again in a minute tries again.")
    if state.send:
        try:
            service.queue.export(owner, job_id, variant)
        except (OperationalError, redis.RedisError):
            _log.warning("the message for export %s of job %s could not be sent", variant, job_id)
    answer = ExportOut(name=format_.name, state=state.state)
    return Response(
        answer.model_dump_json(), status_code=202, media_type="application/json", headers={"Retry-After": "1"}
    )


class _StoredFile(FileResponse):
    """A file with ranges, whose refusals are problems like all others."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # RFC 9110, 14.2: a range that cannot be understood is ignored
        except RangeNotSatisfiable:
            detail = f"The file has {file_size} bytes."
            headers = {"Content-Range": f"bytes */{file_size}"}
            raise Problem("range-not-satisfiable", detail, headers=headers) from None


def _file(service: Context, record: JobRecord, format_: Format, variant: str, key: str, request: Request) -> Response:
    try:
        path = service.store.local_path(key)
        stat = path.stat()
    except FileNotFoundError:
        raise Problem("job-not-found", "The job was deleted.") from None
    etag = f'"{record.id}-{record.revision}-{variant}-{stat.st_mtime_ns:x}-{stat.st_size:x}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    return _StoredFile(
        path,
        headers=headers,
        media_type=format_.media_type,
        filename=f"{record.id}-{format_.filename}",
        stat_result=stat,
    )
