"""`/v1/jobs`: submit, list, watch, cancel, delete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.accept import Submission, accept_job, accept_with_video
from app.annotations import MAX_ANNOTATIONS, Annotations
from app.api.caching import not_modified
from app.api.context import Owner, Service
from app.api.errors import problems
from app.api.videos import (
    FORM_OVERHEAD,
    MEDIA_PROBLEMS,
    MULTIPART,
    Cursor,
    Fps,
    Limit,
    content_type,
    open_upload,
    rate_of,
)
from app.files import JobFiles
from app.multipart import MemorySink, batches, read_form
from app.problems import FieldFault, Problem
from app.records.jobs import JobRecord
from app.schemas.jobs import JOB_EXAMPLE, JobList, JobOut, Status
from app.uploads import check_announced

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MAX_JSON = 32 << 20
MAX_MASK = 32 << 20
MAX_NAME = 100
POLL_S = 1
LABEL_PROBLEMS = (
    "invalid-json", "invalid-labels", "bad-rle", "bad-polygon", "bad-box", "bad-mask", "mask-size-mismatch",
    "empty-mask", "two-regions", "empty-label", "contradictory-label", "duplicate-label", "unknown-object",
    "object-unlabelled", "bad-keypoint", "no-anchors", "anchor-outside-video", "anchor-outside-range",
    "too-many-labels", "bad-annotations", "invalid-range", "unknown-model", "unknown-preset", "bad-model",
    "request-too-large",
)  # fmt: skip
_SUBMIT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/JobIn"},
                "examples": {"masks and keypoints": {"value": JOB_EXAMPLE}},
            },
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "video": {
                            "type": "string",
                            "format": "binary",
                            "description": "The file; or leave it out and name a `video_id` in `spec`.",
                        },
                        "mask": {
                            "type": "string",
                            "format": "binary",
                            "description": "A PNG of the job's first frame, indexed or grey: values are object ids.",
                        },
                        "annotations": {
                            "type": "string",
                            "format": "binary",
                            "description": "Labels of another tool: a JSON, XML, text or PNG file, or a zip. Where a"
                            " format has one file a frame, the file's name says which frame it is.",
                        },
                        "format": {
                            "type": "string",
                            "description": "The format of `annotations`, as `GET /v1/formats` lists them. Left out, it"
                            " is recognised.",
                        },
                        "spec": {"$ref": "#/components/schemas/JobIn"},
                    },
                },
                "encoding": {
                    "video": {"contentType": "video/*, application/zip"},
                    "mask": {"contentType": "image/png"},
                    "spec": {"contentType": "application/json"},
                },
            },
        },
    }
}
_RETRY_AFTER = {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
_ETAG = {"description": "Changes whenever the answer does.", "schema": {"type": "string"}}


@router.post(
    "",
    operation_id="create_job",
    summary="Submit a job",
    status_code=202,
    response_model=JobOut,
    responses={
        202: {
            "description": "Accepted, and durable: it will be worked on.",
            "headers": {
                "Location": {"description": "The job's address.", "schema": {"type": "string"}},
                "Retry-After": _RETRY_AFTER,
            },
        },
        **problems("video-not-found", *MEDIA_PROBLEMS, *LABEL_PROBLEMS),
    },
    openapi_extra=_SUBMIT_BODY,
)
async def create_job(request: Request, response: Response, service: Service, owner: Owner, fps: Fps = None) -> JobOut:
    """Carries labels through a video.

    As JSON, the video was uploaded before. As one multipart call, `video` is the file, `mask` a PNG of the first frame
    that the job covers, `annotations` labels of another tool, and `spec` the same JSON without `video_id`; a mask,
    annotations or a spec with anchors must be there.
    All faults that are found in the labels are listed in `errors`, and then nothing is stored.
    """
    kind = content_type(request)
    if kind == MULTIPART:
        record = await _from_form(request, service, owner, rate_of(fps))
    elif kind == "application/json" or kind.endswith("+json"):
        body = MemorySink("the body", MAX_JSON)
        async for batch in batches(request):
            body.write(batch)
        record = await run_in_threadpool(accept_job, service, owner, Submission(spec=bytes(body.data)))
    else:
        detail = f"Send the job as application/json or as {MULTIPART}, not as {kind or 'an untyped body'}."
        raise Problem("unsupported-media-type", detail)
    response.headers["Location"] = f"/v1/jobs/{record.id}"
    response.headers["Retry-After"] = str(POLL_S)
    return job_out(record)


@router.get("", operation_id="list_jobs", summary="List jobs", responses=problems("invalid-request"))
def list_jobs(
    service: Service,
    owner: Owner,
    cursor: Cursor = None,
    limit: Limit = 50,
    status: Annotated[Status | None, Query(description="Only jobs in this state.")] = None,
) -> JobList:
    """Jobs, newest first, a page at a time."""
    records, following = service.jobs.list(owner, cursor, limit, status)
    return JobList(jobs=[job_out(record) for record in records], next_cursor=following)


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_model=JobOut,
    responses={
        200: {"headers": {"ETag": _ETAG, "Retry-After": _RETRY_AFTER}},
        304: {"description": "Not modified."},
        **problems("job-not-found", "invalid-request"),
    },
)
def get_job(job_id: str, request: Request, service: Service, owner: Owner) -> Response:
    """Where the job stands. `Retry-After` says when to ask again; it is absent once the job has ended."""
    record = service.job(owner, job_id)
    body = job_out(record).model_dump_json().encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    if not record.final:
        headers["Retry-After"] = str(POLL_S)
    if not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    status_code=202,
    responses=problems("job-not-found", "job-final", "invalid-request"),
)
def cancel_job(job_id: str, service: Service, owner: Owner) -> JobOut:
    """Ends a job before its next frame does. What is done stays readable and exportable."""
    service.job(owner, job_id)
    found = service.jobs.request_cancel(owner, job_id)
    if found not in ("queued", "running", None):
        raise Problem("job-final", f"The job is {found} and cannot be cancelled any more.", job_status=found)
    return job_out(service.job(owner, job_id))


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Delete a job",
    status_code=204,
    response_class=Response,
    responses=problems("job-not-found", "job-running", "invalid-request"),
)
def delete_job(
    job_id: str,
    service: Service,
    owner: Owner,
    force: Annotated[bool, Query(description="Cancel it first, where it is queued or running.")] = False,
) -> Response:
    """Removes a job with its results and exports. The video stays."""
    record = service.job(owner, job_id)
    if force:
        service.jobs.request_cancel(owner, job_id)
    found = service.jobs.delete(owner, job_id, force=force)
    if found in ("queued", "running") and not force:
        detail = f"The job is {found}. Cancel it first, or add `?force=true`."
        raise Problem("job-running", detail, job_status=found)
    service.exports.forget(owner, job_id)
    service.store.delete_tree(JobFiles(service.store, owner, job_id, record.revision).job_prefix)
    return Response(status_code=204)


def job_out(record: JobRecord) -> JobOut:
    """The record as it is shown."""
    document = record.model_dump(include=set(JobOut.model_fields))
    return JobOut.model_validate(document)


async def _from_form(request: Request, service: Service, owner: str, fps: Fraction | None) -> JobRecord:
    spec, mask = MemorySink("spec", MAX_JSON), MemorySink("mask", MAX_MASK)
    annotations, format_ = MemorySink("annotations", MAX_ANNOTATIONS), MemorySink("format", MAX_NAME)
    sinks = {"mask": mask, "spec": spec, "annotations": annotations, "format": format_}
    with open_upload(service) as upload:
        check_announced(request, upload.max_bytes, extra=FORM_OVERHEAD + sum(sink.max_bytes for sink in sinks.values()))
        parts = await read_form(request, {"video": upload, **sinks})
        if not parts.keys() & {"mask", "spec", "annotations"}:
            detail = "Send labels too: a `mask` (PNG of the first frame), `annotations`, or a `spec` with anchors."
            raise Problem("invalid-request", detail, errors=[FieldFault("/mask", detail)])
        given = Submission(
            spec=bytes(spec.data) if "spec" in parts else None,
            mask=bytes(mask.data) if "mask" in parts else None,
            annotations=_annotations(annotations, format_, parts),
            prefix="/spec",
        )
        if "video" in parts:
            return await run_in_threadpool(accept_with_video, service, owner, given, upload, fps)
        return await run_in_threadpool(accept_job, service, owner, given)


def _annotations(data: MemorySink, format_: MemorySink, parts: Mapping[str, str]) -> Annotations | None:
    if "annotations" not in parts:
        if "format" in parts:
            detail = "`format` names the format of `annotations`, which are not there."
            raise Problem("invalid-request", detail, errors=[FieldFault("/format", detail)])
        return None
    name = bytes(format_.data).decode("utf-8", "replace").strip() or None
    return Annotations(bytes(data.data), parts["annotations"], name)
