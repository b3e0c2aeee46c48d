"""Every error the service can answer with: one table, one exception, one shape (RFC 9457).

`KINDS` is the only list of slugs. A slug that is raised anywhere in `model`, `app` or `worker` must stand here; a test
holds that. The address `/problems/<slug>`, which every answer gives as its `type`, renders the explanation.
"""

# ruff: noqa: E501  (the table has one row a line)
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from model.errors import InputError

MEDIA_TYPE = "application/problem+json"


class FieldFault(NamedTuple):
    """One fault in a document the caller sent: a JSON pointer (RFC 6901) to it and what to do about it."""

    pointer: str
    detail: str


@dataclass(frozen=True)
class Kind:
    """One kind of error: its stable slug, HTTP status, title and an explanation for a person, in plain paragraphs."""

    slug: str
    status: int
    title: str
    explanation: str

    @property
    def type(self) -> str:
        """The relative address that explains this kind."""
        return f"/problems/{self.slug}"


class Problem(Exception):  # noqa: N818  (it is an answer, by the name that RFC 9457 gives it)
    """An answer that is an error. Raise it anywhere below an endpoint.

    Attributes:
        kind: the row of the table.
        detail: what is wrong here and what to do about it.
        errors: faults in single fields, when there are any.
        headers: extra headers of the answer, such as `Retry-After`.
        extra: extension members of the problem document, such as the ids of the jobs that are in the way.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Iterable[FieldFault] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = KINDS[slug]
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = extra

    @classmethod
    def of(cls, error: InputError) -> Problem:
        """The problem that an error of the lower layers is, slug for slug."""
        slug = error.slug if error.slug in KINDS else "invalid-input"
        faults: Sequence[FieldFault] = getattr(error, "errors", ())
        if not faults and error.pointer is not None:
            faults = [FieldFault(error.pointer, error.detail)]
        return cls(slug, error.detail, errors=faults)

    def document(self) -> dict[str, Any]:
        """The problem details object, ready for JSON; also what a failed job keeps as its `error`."""
        return problem_document(self.kind.slug, self.detail, self.errors, **self.extra)


class InvalidDocument(InputError):  # noqa: N818
    """A document (a job, its labels, its options) with one or more faults, each with a pointer.

    Its slug is the faults' own where they agree, `invalid-request` otherwise.
    """

    default_slug: ClassVar[str] = "invalid-request"

    def __init__(self, faults: Sequence[InputError]) -> None:
        slugs = {fault.slug for fault in faults}
        detail = faults[0].detail
        if len(faults) > 1:
            detail += f" ({len(faults)} faults in all; see `errors`.)"
        super().__init__(detail, slug=slugs.pop() if len(slugs) == 1 else None, pointer=faults[0].pointer)
        self.errors = tuple(FieldFault(fault.pointer or "", fault.detail) for fault in faults)


def problem_document(slug: str, detail: str, errors: Iterable[FieldFault] = (), **extra: Any) -> dict[str, Any]:
    """A problem details object: `type`, `title`, `status`, `detail`, and `errors` where there are any."""
    kind = KINDS[slug]
    document: dict[str, Any] = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": detail}
    faults = [fault._asdict() for fault in errors]
    if faults:
        document["errors"] = faults
    return document | extra


_LABELS = "Coordinates are pixels, x right, y down; the centre of the top-left pixel is (0.5, 0.5)."
_CAPS = "The limits are settings of the service (`LABELPROP_MAX_UPLOAD_BYTES`, `LABELPROP_MAX_PIXELS`, `LABELPROP_MAX_FRAMES`, `LABELPROP_MAX_SECONDS`); its operator can raise them."
_STATES = "A job goes from `queued` to `running` and ends `succeeded`, `failed` or `cancelled`. It never leaves an end."

KINDS: dict[str, Kind] = {
    kind.slug: kind
    for kind in (
        # Media
        Kind("not-a-video", 422, "Not a video", "The file is not a video in a container that is accepted: MP4 or MOV, Matroska or WebM, AVI, MPEG-TS, or a zip of images. Playlists and other texts that point at files are never followed. Convert the file, for instance with `ffmpeg -i in -c:v libx264 out.mp4`."),
        Kind("no-video-stream", 422, "No picture in the file", "The file has no video stream, only sound, subtitles or data."),
        Kind("no-frames", 422, "No frames", "The file opens, but no frame of it decodes. It is empty, cut off before its first frame, or its codec is not supported."),
        Kind("damaged-video", 422, "Damaged video", "The check on acceptance found damage: packets that do not decode, or an index that disagrees with the file. Re-encode or re-download the file. Nothing was stored."),
        Kind("frame-size-changed", 422, "The frame size changes", "Every frame of a video must have one size; labels are pixels. Split the file where the size changes, or scale it to one size."),
        Kind("frame-unreadable", 422, "A frame does not decode", "One frame of the video cannot be decoded. Results of the frames before it stay readable. Re-encode the video, or let the job's range end before that frame."),
        Kind("file-too-large", 413, "The file is too large", "The file has more bytes than this service accepts.\n\n" + _CAPS),
        Kind("frame-too-large", 422, "The frames are too large", "A frame has more pixels than this service accepts.\n\n" + _CAPS),
        Kind("too-many-frames", 422, "Too many frames", "The video has more frames than this service accepts. Cut it into parts.\n\n" + _CAPS),
        Kind("video-too-long", 422, "The video is too long", "The video lasts longer than this service accepts. Cut it into parts.\n\n" + _CAPS),
        Kind("bad-archive", 422, "The zip cannot be used", "A video may be a zip of images: PNG or JPEG, all of one size, no links, no encryption, no paths that leave the archive, no entry that expands without measure."),
        Kind("check-timed-out", 422, "The check took too long", "The file is opened in a process of its own, which was stopped because it did not finish in time. Files that do so are usually damaged. Re-encode the file."),
        # Labels
        Kind("invalid-input", 422, "The input cannot be used", "The request is well formed, but what it holds cannot be used; `detail` says why."),
        Kind("invalid-labels", 422, "The labels cannot be used", "A label cannot be used; `errors` points at it."),
        Kind("bad-rle", 422, "The run lengths do not add up", "A mask in run lengths is COCO's: column by column, starting with the count of zeros, either as a list of counts or in COCO's compressed text. The counts must add up to height times width."),
        Kind("bad-polygon", 422, "The polygon cannot be used", "A polygon is a list of rings; a ring is a flat list `[x0, y0, x1, y1, ...]` of three points or more, every one a finite number inside the frame.\n\n" + _LABELS),
        Kind("bad-box", 422, "The box cannot be used", "A box is `[x, y, width, height]`, of positive size and inside the frame.\n\n" + _LABELS),
        Kind("bad-mask", 422, "The mask cannot be used", "A mask picture is a PNG: indexed, or grey with 8 bits. Where its only values are 0 and 255 it marks one object; otherwise 255 is void and every other value is an object's id."),
        Kind("mask-size-mismatch", 422, "The mask has another size than the frame", "A mask covers the frame pixel for pixel. Sizes are as the frame is shown, after rotation metadata is applied: compare with the video's `width` and `height`."),
        Kind("empty-mask", 422, "The region has no pixels", "A region must have at least one pixel. To say that the object is gone on that frame, send `\"absent\": true` and no region."),
        Kind("two-regions", 422, "Two regions in one label", "One label holds at most one of `mask`, `png`, `polygon` and `box`. Keypoints may stand beside it."),
        Kind("empty-label", 422, "The label says nothing", "A label holds a region, keypoints, or `\"absent\": true`. Leave out objects that you know nothing about on that frame."),
        Kind("contradictory-label", 422, "The label contradicts itself", "`\"absent\": true` says that the object is gone on that frame; such a label holds neither a region nor keypoints."),
        Kind("duplicate-label", 422, "Labelled twice", "An anchor labels an object once, a frame is an anchor once, and a keypoint's name stands once in a label."),
        Kind("unknown-object", 422, "The object is not declared", "A label, or a mask's pixel value, names an object that `objects` does not declare. Declare it there, or leave `objects` out altogether: it is then taken from the labels."),
        Kind("object-unlabelled", 422, "The object is labelled nowhere", "Every declared object needs a region or keypoints on at least one anchor; otherwise there is nothing to carry through the video."),
        Kind("bad-keypoint", 422, "The keypoint cannot be used", "A keypoint lies inside the frame, and its name is one of its object's skeleton where the object has one.\n\n" + _LABELS),
        Kind("no-anchors", 422, "No frame is labelled", "A job needs at least one anchor: a frame with labels."),
        Kind("anchor-outside-video", 422, "The anchor lies beyond the video", "Frames count from 0; the last one is `frame_count` - 1."),
        Kind("anchor-outside-range", 422, "The anchor lies outside the job's range", "Anchors must lie on frames that the job covers: `start` <= frame < `end`, in steps of `stride` from `start`."),
        Kind("too-many-labels", 422, "Too many labelled pixels", "The regions of a job together cover more memory than the service grants to one job. Label fewer frames or objects, or split the job."),
        Kind("invalid-range", 422, "The range of frames is empty or leaves the video", "`0 <= start < end <= frame_count`; `end` is exclusive, and null means the end of the video."),
        Kind("bad-label-config", 422, "The labelling configuration cannot be used", "A labelling configuration of Label Studio is not XML, or has no tag that video is labelled with; `detail` says which is missing."),
        Kind("media-unreachable", 422, "The task's media cannot be fetched", "The file that a task of a labelling tool shows could not be fetched; `detail` says why. Addresses inside the network are refused unless the operator allows their host (`LABELPROP_LABEL_STUDIO_MEDIA_HOSTS`)."),
        Kind("bad-annotations", 422, "The annotations cannot be read", "A file of labels from another tool is damaged, is of another format than was said, or does not fit the video; `detail` names the line, element or field. `GET /v1/formats` lists the formats that are read."),
        # Models
        Kind("unknown-model", 422, "Unknown model", "`GET /v1/models` lists the models that can run. A model's name is never a path."),
        Kind("unknown-preset", 422, "Unknown preset", "Presets are named sets of settings; `GET /v1/models` lists them too."),
        Kind("bad-model", 422, "The model's file cannot be used", "The checkpoint is not a safetensors file with the header that this service reads. The operator must replace or remove it."),
        Kind("model-changed", 409, "The model is not the one the job was accepted with", "A job pins its model's SHA-256 when it is accepted. The file of that name has been replaced since. Put the old file back, or submit the job again."),
        Kind("bad-device", 422, "The device cannot be used", "The model is to run on a device that this machine does not have, such as `cuda` without a GPU. The operator sets it (`LABELPROP_DEVICE`); `auto` takes the best there is."),
        # Measuring (on the command line)
        Kind("no-opencv", 422, "OpenCV is not installed", "Optical flow, which `labelprop bench` holds propagation against, needs OpenCV: `pip install 'labelprop[flow]'`, or leave it out with `--no-flow`."),
        # Training (on the command line)
        Kind("unknown-recipe", 422, "Unknown recipe", "`labelprop train --help` lists the recipes."),
        Kind("bad-config", 422, "The training config cannot be used", "A field does not exist, has a value that it cannot have, or does not go with another. `detail` names it; `--set FIELD=VALUE` changes it."),
        Kind("no-footage", 422, "There is nothing to train on", "The footage holds no frame, nothing that moves, or no source of that name. Give videos, or change `--weight`."),
        Kind("bad-state", 422, "The training cannot go on from this state", "The saved state is damaged, or of a run of another kind. Begin anew in another folder; the model that was saved beside it can be its `--base`."),
        Kind("bad-journal", 422, "The training's log cannot be read", "A line of `log.jsonl` is not an entry. Remove that line, or name the file that a training wrote."),
        # Tracking one frame at a time (`labelprop cvat tracker`)
        Kind("unknown-state", 410, "The tracker does not know this state", "States are kept in the memory of the process that began them, for as long as they are used. Begin again: draw the box on this frame."),
        # Requests
        Kind("invalid-request", 422, "The request is not valid", "`errors` lists each faulty field with a JSON pointer into the request (or `/query/...`, `/path/...`, `/header/...`)."),
        Kind("invalid-json", 400, "The body is not JSON", "The body could not be read as JSON. NaN and Infinity are not JSON."),
        Kind("invalid-multipart", 400, "The multipart body cannot be read", "The body is not well-formed `multipart/form-data`, ends early, or holds parts that this call does not know."),
        Kind("upload-incomplete", 400, "The upload ended early", "Fewer bytes arrived than were announced. Nothing was stored; send it again."),
        Kind("empty-upload", 400, "The upload is empty", "The body has no bytes. Send the file as the raw body (`curl --data-binary @clip.mp4`) or as the multipart field `file`."),
        Kind("request-too-large", 413, "The request is too large", "The request, or one of its fields, has more bytes than this call accepts. `detail` names the limit."),
        Kind("unsupported-media-type", 415, "Unsupported content type", "The call does not take a body of this `Content-Type`; `detail` names those that it takes."),
        Kind("http-error", 400, "The request cannot be served", "The request was refused before it reached a call of this service."),
        Kind("unauthorized", 401, "A name and a password are needed", "This part of the service asks for HTTP Basic authentication, as its operator set it (`LABELPROP_LABEL_STUDIO_USER`, `LABELPROP_LABEL_STUDIO_PASSWORD`)."),
        Kind("not-found", 404, "Nothing here", "There is no such address. `/docs` lists the calls."),
        Kind("method-not-allowed", 405, "Method not allowed", "The address exists but does not take this method; the `Allow` header names those it takes."),
        Kind("video-not-found", 404, "No such video", "There is no video of that id, or it is not yours, or it was deleted."),
        Kind("job-not-found", 404, "No such job", "There is no job of that id, or it is not yours, or it was deleted."),
        Kind("frame-not-found", 404, "No such frame", "Frames count from 0; a job has results only for the frames it covers: from `start` in steps of `stride`, `end` excluded."),
        Kind("unknown-format", 404, "Unknown export format", "`detail` lists the formats that exist, and so does `GET /v1/formats`, with what each carries."),
        Kind("unknown-problem", 404, "Unknown kind of problem", "There is no kind of problem of that name."),
        Kind("range-not-satisfiable", 416, "The range lies beyond the file", "The `Range` header asks for bytes that the file does not have; `Content-Range` in the answer gives its size."),
        # States
        Kind("video-in-use", 409, "Jobs are at work on this video", "A video cannot be deleted while a job on it is queued or running. Wait for the jobs that `jobs` names, cancel them, or add `?force=true`, which cancels them."),
        Kind("job-final", 409, "The job has already ended", _STATES),
        Kind("job-running", 409, "The job is still at work", "A job that is queued or running is not deleted unless `?force=true` is given, which cancels it first."),
        Kind("not-ready", 409, "Not there yet", "What was asked for lies beyond what the job has done so far; `progress` says how far it is. `GET /v1/jobs/{id}/frames` returns what exists."),
        # What ends a job
        Kind("attempts-exhausted", 500, "The job was given up", "The job was started several times and each attempt ended without getting further; `detail` has the last reason. Results up to there stay readable."),
        Kind("export-failed", 500, "The export could not be built", "Building the export ended with an error; asking for it again tries again."),
        # The service itself
        Kind("internal-error", 500, "The service failed", "A fault of the service, not of the request. Its log has more, under the time of the answer."),
        Kind("service-unavailable", 503, "Temporarily unavailable", "The service cannot reach what it needs, such as Redis or its store. Try again later."),
        Kind("busy", 503, "Busy", "The service is at work on as many such requests as it takes at once. Try again after the seconds in `Retry-After`."),
        Kind("storage-full", 507, "The store is full", "There is no room left to store this. The operator must make room; nothing was changed."),
    )
}  # fmt: skip
