"""Results of a job, as JSON and as masks; also while it runs."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api.caching import not_modified
from app.api.context import Context, Owner, Service
from app.api.errors import problems
from app.files import JobFiles
from app.jobspec import JobSpec
from app.problems import Problem
from app.records.jobs import JobRecord
from app.results import open_results
from app.schemas.jobs import ResultList
from model.labels import indexed_png

router = APIRouter(prefix="/v1/jobs", tags=["results"])


@router.get(
    "/{job_id}/frames",
    operation_id="list_results",
    summary="Get results",
    response_model=ResultList,
    responses=problems("job-not-found", "invalid-request"),
)
def list_results(
    job_id: str,
    service: Service,
    owner: Owner,
    start: Annotated[int, Query(ge=0, lt=2**31, description="The first frame (its index in the video).")] = 0,
    limit: Annotated[int, Query(ge=1, le=500, description="How many frames at most.")] = 50,
) -> Response:
    """The results that exist from frame `start` on, in the order of frames; also while the job runs.

    A job that runs both ways from its anchors may add frames before those already returned: read again from the start
    once it has ended, or watch `progress`.
    """
    record = service.job(owner, job_id)
    documents = list(open_results(service.store, record).iter_json(start, limit + 1))
    more = len(documents) > limit
    documents = documents[:limit]
    following = None
    if more or not record.final:
        following = documents[-1]["frame"] + record.options["stride"] if documents else start
        following = following if following < record.options["end"] or not record.final else None
    return JSONResponse(
        {
            "frames": documents,
            "next_start": following,
            "status": record.status,
            "progress": record.progress.model_dump(),
        }
    )


@router.get(
    "/{job_id}/frames/{n}/mask.png",
    operation_id="get_result_mask",
    summary="Get a frame's masks as a PNG",
    response_class=Response,
    responses={
        200: {
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "description": "Indexed, with the DAVIS palette: a pixel's value is the id of its object. Higher ids win.",
        },
        304: {"description": "Not modified."},
        **problems("job-not-found", "frame-not-found", "not-ready", "invalid-request"),
    },
)
def get_result_mask(job_id: str, n: int, request: Request, service: Service, owner: Owner) -> Response:
    """The masks of frame `n`, as soon as that frame is done."""
    record = service.job(owner, job_id)
    results = open_results(service.store, record)
    if n not in results.frame_indices:
        first, last, step = results.frame_indices.start, results.frame_indices[-1], results.frame_indices.step
        raise Problem("frame-not-found", f"The job covers the frames {first} to {last} in steps of {step}.")
    headers = {"ETag": f'"{record.id}-{record.revision}-{n}"', "Cache-Control": "private, no-cache"}
    result = results.read(n)
    if result is None:
        raise not_ready(record, f"Frame {n} has no result.")
    if not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    masks = {object_.object: object_.mask for object_ in result.objects if object_.mask is not None}
    index_map = indexed_png.flatten(masks) if masks else np.zeros(_size(service, record), np.uint8)
    return Response(indexed_png.encode(index_map), media_type="image/png", headers=headers)


def not_ready(record: JobRecord, what: str) -> Problem:
    """The problem of something that lies beyond what a job has done."""
    progress = record.progress
    done = f"{progress.frames_done} of {progress.frames_total} frames are done"
    advice = "the job has ended" if record.final else "ask again later"
    headers = {} if record.final else {"Retry-After": "1"}
    return Problem(
        "not-ready",
        f"{what} The job is {record.status}: {done}; {advice}.",
        headers=headers,
        job_status=record.status,
        progress=progress.model_dump(),
    )


def _size(service: Context, record: JobRecord) -> tuple[int, int]:
    files = JobFiles(service.store, record.owner, record.id, record.revision)
    video = JobSpec.model_validate_json(service.store.read(files.spec)).video
    return video.height, video.width
