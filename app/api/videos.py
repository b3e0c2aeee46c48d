"""`/v1/videos`: upload, list, look at, remove."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.api.caching import not_modified
from app.api.context import Context, Owner, Service
from app.api.errors import problems
from app.files import VideoFiles
from app.multipart import read_form
from app.problems import FieldFault, Problem
from app.records.videos import VideoRecord
from app.schemas.videos import VideoList, VideoOut
from app.uploads import Upload, check_announced, receive

router = APIRouter(prefix="/v1/videos", tags=["videos"])

MULTIPART = "multipart/form-data"
FORM_OVERHEAD = 1 << 20
MEDIA_PROBLEMS = (
    "not-a-video", "no-video-stream", "no-frames", "damaged-video", "frame-size-changed", "file-too-large",
    "frame-too-large", "too-many-frames", "video-too-long", "bad-archive", "check-timed-out", "empty-upload",
    "upload-incomplete", "unsupported-media-type", "invalid-multipart", "invalid-request", "busy", "storage-full",
)  # fmt: skip
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file: as the raw body, or as the multipart field `file`.",
        "content": {
            "video/*": _BINARY,
            "application/octet-stream": _BINARY,
            "application/zip": _BINARY,
            MULTIPART: {
                "schema": {"type": "object", "properties": {"file": _BINARY["schema"]}, "required": ["file"]},
                "encoding": {"file": {"contentType": "video/*, application/zip"}},
            },
        },
    }
}
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")]
Fps = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,9}(/[1-9][0-9]{0,8}|\.[0-9]{1,6})?$",
        description="Frame rate of a zip of images, as `25`, `29.97` or `30000/1001`; files of video bring their own.",
        examples=["25", "30000/1001"],
    ),
]


@router.post(
    "",
    operation_id="upload_video",
    summary="Upload a video",
    status_code=201,
    response_model=VideoOut,
    responses=problems(*MEDIA_PROBLEMS),
    openapi_extra=_UPLOAD_BODY,
)
async def upload_video(
    request: Request, response: Response, service: Service, owner: Owner, fps: Fps = None
) -> VideoOut:
    """Streams a file to the store, hashes it, checks it in a process of its own, and answers with what it is.

    Containers: MP4 or MOV, Matroska or WebM, AVI, MPEG-TS, and zips of images. Nothing of a refused file is kept.
    """
    rate = rate_of(fps)
    with open_upload(service) as upload:
        kind = content_type(request)
        if kind == MULTIPART:
            check_announced(request, upload.max_bytes, extra=FORM_OVERHEAD)
            if "file" not in await read_form(request, {"file": upload}):
                raise Problem("empty-upload", "The form has no part `file`. Send the video as that part.")
        elif kind == "application/json" or kind.startswith("text/") or kind == "application/x-www-form-urlencoded":
            raise Problem(
                "unsupported-media-type",
                f"A video does not come as {kind}. Send the file's bytes with `Content-Type: video/mp4`,"
                " `application/octet-stream` or `application/zip`, or as the multipart part `file`.",
            )
        else:
            await receive(request, upload)
        record = await run_in_threadpool(_accept, service, owner, upload, rate)
    response.headers["Location"] = f"/v1/videos/{record.id}"
    return video_out(record)


@router.get("", operation_id="list_videos", summary="List videos", responses=problems("invalid-request"))
def list_videos(service: Service, owner: Owner, cursor: Cursor = None, limit: Limit = 50) -> VideoList:
    """Videos, newest first, a page at a time."""
    records, following = service.videos.list(owner, cursor, limit)
    return VideoList(videos=[video_out(record) for record in records], next_cursor=following)


@router.get(
    "/{video_id}",
    operation_id="get_video",
    summary="Get a video",
    responses=problems("video-not-found", "invalid-request"),
)
def get_video(video_id: str, service: Service, owner: Owner) -> VideoOut:
    """The facts of one video."""
    return video_out(service.video(owner, video_id))


@router.head("/{video_id}/frames/{n}.jpg", include_in_schema=False)
@router.get(
    "/{video_id}/frames/{n}.jpg",
    operation_id="get_video_frame",
    summary="Get a frame as a picture",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": _BINARY}, "description": "The frame, at its full size as shown."},
        304: {"description": "Not modified."},
        **problems(
            "video-not-found", "frame-not-found", "frame-unreadable", "invalid-request", "check-timed-out", "busy"
        ),
    },
)
def get_video_frame(video_id: str, n: int, request: Request, service: Service, owner: Owner) -> Response:
    """Frame `n` (0-based): exactly the picture that index `n` means to a job."""
    record = service.video(owner, video_id)
    if not 0 <= n < record.frame_count:
        raise Problem("frame-not-found", f"The video has the frames 0 to {record.frame_count - 1}.")
    headers = {"ETag": f'"{record.sha256[:32]}-{n}"', "Cache-Control": "private, max-age=86400, immutable"}
    if not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    files = VideoFiles(service.store, owner, video_id)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "still.jpg"
        try:
            media, table = service.store.local_path(files.media), service.store.local_path(files.table)
        except FileNotFoundError:
            raise Problem("video-not-found", "The video was deleted.") from None
        service.desk.still(media, table, n, out)
        return Response(out.read_bytes(), media_type="image/jpeg", headers=headers)


@router.delete(
    "/{video_id}",
    operation_id="delete_video",
    summary="Delete a video",
    status_code=204,
    response_class=Response,
    responses=problems("video-not-found", "video-in-use", "invalid-request"),
)
def delete_video(
    video_id: str,
    service: Service,
    owner: Owner,
    force: Annotated[bool, Query(description="Cancel the jobs that are queued or running on it.")] = False,
) -> Response:
    """Removes the video and its file. Results of jobs on it stay."""
    service.video(owner, video_id)
    if force:
        for job_id in service.jobs.active_on_video(owner, video_id):
            service.jobs.request_cancel(owner, job_id)
    active = service.videos.delete(owner, video_id, force=force)
    if active:
        names = ", ".join(active[:5]) + (", …" if len(active) > 5 else "")
        detail = f"{len(active)} jobs on it are queued or running: {names}. Cancel them, or add `?force=true`."
        raise Problem("video-in-use", detail, jobs=active)
    service.store.delete_tree(VideoFiles(service.store, owner, video_id).prefix)
    return Response(status_code=204)


def open_upload(service: Context) -> Upload:
    """A place for one upload, as the settings bound it."""
    return Upload(service.settings.home / "uploads", service.settings.max_upload_bytes)


def content_type(request: Request) -> str:
    """The media type of the request's body, without parameters, in lower case."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def rate_of(fps: str | None) -> Fraction | None:
    """The frame rate of a zip of images from the query.

    Raises:
        Problem: `invalid-request` for 0.
    """
    if fps is None:
        return None
    rate = Fraction(fps)
    if not 0 < rate <= 1000:
        detail = "The frame rate must be above 0 and at most 1000."
        raise Problem("invalid-request", detail, errors=[FieldFault("/query/fps", detail)])
    return rate


def video_out(record: VideoRecord) -> VideoOut:
    """The record as it is shown."""
    return VideoOut.model_validate(record.model_dump(include=set(VideoOut.model_fields)))


def _accept(service: Context, owner: str, upload: Upload, fps: Fraction | None) -> VideoRecord:
    upload.check(service.desk, fps=fps)
    return upload.keep(owner, store=service.store, videos=service.videos)
