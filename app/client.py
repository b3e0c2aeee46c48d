"""A client of the service's REST API: upload, submit, wait, read, export. Synchronous, on httpx.

with Client("http://127.0.0.1:8000") as client:
    video = client.upload("clip.mp4")
    job = client.create_job(video["id"], anchors=[{"frame": 0, "labels": [{"object": 1, "box": [10, 20, 80, 60]}]}])
    client.wait(job["id"])
    client.export(job["id"], "overlay", "overlay.mp4")
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx

Document = dict[str, Any]
FINAL = ("succeeded", "failed", "cancelled")
_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(30.0, read=300.0, write=300.0)


class ServiceError(Exception):
    """The service refused a request or could not be reached.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        problem: the problem details document; empty where the answer was none.
    """

    def __init__(self, message: str, *, status: int | None = None, problem: Document | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}

    @property
    def slug(self) -> str:
        """The kind of problem, such as `mask-size-mismatch`; empty where there is none."""
        return str(self.problem.get("type", "")).rsplit("/", 1)[-1]


class Client:
    """One service.

    Args:
        url: its address, such as `http://127.0.0.1:8000`.
        transport: for tests that speak to the application without a socket.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # A service on this very machine is never reached through a proxy from the environment.
        local = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=not local)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets the connections go."""
        self._http.close()

    def upload(
        self,
        path: str | os.PathLike[str],
        *,
        fps: str | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> Document:
        """Uploads a video file or a zip of images, streamed from the disk.

        Args:
            path: the file.
            fps: the frame rate of a zip of images, as `25` or `30000/1001`.
            on_bytes: called with the bytes sent so far and the bytes in all.

        Returns:
            The video.

        Raises:
            ServiceError: it was refused; the message says why.
            OSError: the file cannot be read.
        """
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
            params = {} if fps is None else {"fps": fps}
            return self._json("POST", "/v1/videos", content=_read(file, size, on_bytes), headers=headers, params=params)

    def create_job(
        self,
        video_id: str,
        *,
        anchors: Sequence[Document] = (),
        objects: Sequence[Document] | None = None,
        options: Document | None = None,
        metadata: Document | None = None,
        mask: bytes | None = None,
        annotations: str | os.PathLike[str] | None = None,
        format: str | None = None,
    ) -> Document:
        """Submits a job on an uploaded video.

        Args:
            video_id: the video.
            anchors: labelled frames, as the API takes them.
            objects: the objects; None takes them from the labels.
            options: how to propagate; None takes the defaults.
            metadata: the caller's own.
            mask: a PNG of the job's first frame whose pixel values are object ids; it may stand beside `anchors`.
            annotations: a file of labels of another tool, which become anchors too.
            format: its format, as `GET /v1/formats` lists them; None lets the service recognise it.

        Returns:
            The job, `queued`.
        """
        spec: Document = {"video_id": video_id, "anchors": list(anchors)}
        given = {"objects": objects, "options": options, "metadata": metadata}
        spec |= {name: value for name, value in given.items() if value is not None}
        return self.submit(spec, mask=mask, annotations=annotations, format=format)

    def submit(
        self,
        spec: Document,
        *,
        mask: bytes | None = None,
        annotations: str | os.PathLike[str] | None = None,
        format: str | None = None,
    ) -> Document:
        """Submits the JSON of a job as it is, with or without a mask picture of its first frame and a file of labels.

        Raises:
            ServiceError: it was refused; the message says why.
            OSError: the file cannot be read.
        """
        if mask is None and annotations is None:
            return self._json("POST", "/v1/jobs", json=spec)
        content = httpx.Request("POST", "http://x", json=spec).content
        files = {"spec": ("spec.json", content, "application/json")}
        if mask is not None:
            files["mask"] = ("mask.png", mask, "image/png")
        if annotations is not None:
            path = Path(annotations)
            files["annotations"] = (path.name, path.read_bytes(), "application/octet-stream")
        data = {} if format is None else {"format": format}
        return self._json("POST", "/v1/jobs", files=files, data=data)

    def job(self, job_id: str) -> Document:
        """The job as it stands."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self, *, page: int = 200) -> Iterator[Document]:
        """All jobs, newest first, page by page."""
        cursor: str | None = None
        while True:
            params: Document = {"limit": page} | ({} if cursor is None else {"cursor": cursor})
            answer = self._json("GET", "/v1/jobs", params=params)
            yield from answer["jobs"]
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    def video(self, video_id: str) -> Document:
        """The facts of one video."""
        return self._json("GET", f"/v1/videos/{video_id}")

    def wait(
        self, job_id: str, *, on_progress: Callable[[Document], None] | None = None, timeout_s: float | None = None
    ) -> Document:
        """Polls until the job has ended, as often as the service asks for.

        Args:
            job_id: the job.
            on_progress: called with the job after each poll.
            timeout_s: give up after so many seconds.

        Returns:
            The job, `succeeded`, `failed` or `cancelled`: the caller looks which.

        Raises:
            TimeoutError: it has not ended in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            answer = self._send("GET", f"/v1/jobs/{job_id}")
            job: Document = answer.json()
            if on_progress is not None:
                on_progress(job)
            if job["status"] in FINAL:
                return job
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is still {job['status']} after {timeout_s:g} seconds")
            time.sleep(_pause(answer))

    def frames(self, job_id: str, *, start: int = 0, page: int = 100) -> Iterator[Document]:
        """The results that exist, in the order of frames, page by page."""
        following: int | None = start
        while following is not None:
            answer = self._json("GET", f"/v1/jobs/{job_id}/frames", params={"start": following, "limit": page})
            yield from answer["frames"]
            following = answer["next_start"] if answer["frames"] else None

    def export(
        self,
        job_id: str,
        name: str,
        path: str | os.PathLike[str],
        *,
        options: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Downloads an export to `path`, waiting until it is built. Nothing half-written is left at `path`.

        Args:
            job_id: the job.
            name: the format, as `GET /v1/formats` lists them.
            path: where the file goes.
            options: the format's options, such as `{"opacity": 0.5, "names": False}` for `overlay`.
            timeout_s: give up after so many seconds.
            on_bytes: called with the bytes received so far and the bytes in all.

        Raises:
            ServiceError: it cannot be built; the message says why.
            TimeoutError: it is not there in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        path = Path(path)
        while True:
            with self._stream("GET", f"/v1/jobs/{job_id}/exports/{name}", params=dict(options or {})) as answer:
                if answer.status_code == 200:
                    _save(answer, path, on_bytes)
                    return path
                pause = _pause(answer)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the export {name} of job {job_id} is not built after {timeout_s:g} seconds")
            time.sleep(pause)

    def cancel(self, job_id: str) -> Document:
        """Asks a job to stop."""
        return self._json("POST", f"/v1/jobs/{job_id}/cancel")

    def delete_job(self, job_id: str, *, force: bool = False) -> None:
        """Removes a job and its results."""
        self._send("DELETE", f"/v1/jobs/{job_id}", params={"force": force})

    def delete_video(self, video_id: str, *, force: bool = False) -> None:
        """Removes a video."""
        self._send("DELETE", f"/v1/videos/{video_id}", params={"force": force})

    def ready(self) -> bool:
        """Whether jobs can be worked on now; False also where nothing answers."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _json(self, method: str, path: str, **request: Any) -> Document:
        document: Document = self._send(method, path, **request).json()
        return document

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self._stream(method, path, **request) as answer:
            answer.read()
            return answer

    def _stream(self, method: str, path: str, **request: Any) -> _Answer:
        return _Answer(self._http, self._http.build_request(method, path, **request))


class _Answer:
    """An answer whose body is not read yet; errors are raised as `ServiceError`."""

    def __init__(self, http: httpx.Client, request: httpx.Request) -> None:
        self._http = http
        self._request = request

    def __enter__(self) -> httpx.Response:
        try:
            self._response = self._http.send(self._request, stream=True)
        except httpx.TransportError as error:
            host = f"{self._request.url.scheme}://{self._request.url.netloc.decode()}"
            raise ServiceError(f"{host} does not answer ({error}). Is `labelprop serve` running there?") from error
        if self._response.is_error:
            self._response.read()
            self._response.close()
            raise _error(self._response)
        return self._response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()


def _error(answer: httpx.Response) -> ServiceError:
    try:
        problem = answer.json()
        lines = [f"{problem['title']}: {problem['detail']}"]
        lines += [f"  {fault['pointer'] or '/'}: {fault['detail']}" for fault in problem.get("errors") or ()]
    except (ValueError, KeyError, TypeError):
        problem, lines = {}, [f"the service answered {answer.status_code} {answer.reason_phrase}"]
    return ServiceError("\n".join(lines), status=answer.status_code, problem=problem)


def _pause(answer: httpx.Response) -> float:
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), 30.0) if asked.isascii() and asked.isdigit() else 1.0


def _read(file: BinaryIO, size: int, on_bytes: Callable[[int, int], None] | None) -> Iterator[bytes]:
    sent = 0
    while chunk := file.read(_CHUNK):
        yield chunk
        sent += len(chunk)
        if on_bytes is not None:
            on_bytes(sent, size)


def _save(answer: httpx.Response, path: Path, on_bytes: Callable[[int, int], None] | None) -> None:
    size = int(answer.headers.get("Content-Length", 0))
    part = path.with_name(path.name + ".part")
    got = 0
    try:
        with part.open("wb") as file:
            for chunk in answer.iter_bytes(_CHUNK):
                file.write(chunk)
                got += len(chunk)
                if on_bytes is not None:
                    on_bytes(got, size)
        part.replace(path)
    except httpx.TransportError as error:
        raise ServiceError(f"the download broke off ({error}); try again") from error
    finally:
        part.unlink(missing_ok=True)
