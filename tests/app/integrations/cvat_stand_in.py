"""A stand-in for a CVAT server: one task, held in memory, behind a real socket.

It answers a request only if cvat-sdk's generated client could have made it: the address and method are one of its
endpoints, every query parameter is one of that endpoint's with an allowed value, and the body has the endpoint's type,
field by field. Its own answers are held to the generated models likewise. Beyond the types it keeps the rules that a
real server or its page keeps: a track's frames ascend and lie in their job, labels exist, no track is of masks.
"""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cvat_sdk import models
from cvat_sdk.api_client import ApiClient, Configuration
from cvat_sdk.api_client.exceptions import ApiTypeError, ApiValueError
from cvat_sdk.api_client.model_utils import ModelNormal, ModelSimple

TOKEN = "secret-token"
CREATED = "2026-11-25T12:00:00Z"


class RefusedError(Exception):
    """A request that a CVAT server would refuse."""


class StandIn:
    """One task with its jobs and annotations.

    Attributes:
        annotations: by job, as the API has them.
        requests: every request: method, path, query.
        fail_next: how many requests that change something end in an error 500 from now on.
    """

    def __init__(
        self,
        *,
        pictures: dict[int, bytes],
        size: tuple[int, int],
        labels: list[dict[str, Any]],
        segments: list[tuple[int, int]],
        start_frame: int = 0,
        step: int = 1,
        deleted: tuple[int, ...] = (),
        chunks: bool = True,
    ) -> None:
        self.pictures, self.labels, self.deleted, self.chunks = pictures, labels, deleted, chunks
        self.size, self.start_frame, self.step = size, start_frame, step
        self.jobs = {100 + number: segment for number, segment in enumerate(segments)}
        self.annotations: dict[int, dict[str, list[Any]]] = {job: {"shapes": [], "tracks": []} for job in self.jobs}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.fail_next = 0
        self._next_id = 1
        self._lock = threading.Lock()
        self.endpoints = list(_endpoints())
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                status, kind, data = stand_in.answer(
                    self.command, self.path, self.rfile.read(length), self.headers.get("Authorization")
                )
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = do_POST = do_DELETE = do_PUT = _serve  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def draw_shape(self, job: int, **shape: Any) -> dict[str, Any]:
        """Puts a shape there as a person would."""
        given = {"source": "manual", "group": 0, "attributes": [], "occluded": False, "outside": False, "z_order": 0}
        return self.change(job, "create", {"shapes": [given | {"rotation": 0.0, "elements": []} | shape]})[0]

    def draw_track(self, job: int, **track: Any) -> dict[str, Any]:
        """Puts a track there as a person would."""
        given = {"source": "manual", "group": 0, "attributes": [], "elements": []}
        return self.change(job, "create", {"tracks": [given | track]})[0]

    def changes(self) -> list[str]:
        """The actions that were asked for, in order."""
        return [query["action"] for method, _, query in self.requests if method == "PATCH"]

    def answer(self, method: str, target: str, body: bytes, token: str | None) -> tuple[int, str, bytes]:
        """The answer to one request: status, type and body."""
        address = urlsplit(target)
        query = dict(parse_qsl(address.query, keep_blank_values=True, strict_parsing=bool(address.query)))
        with self._lock:
            self.requests.append((method, address.path, query))
            try:
                if token != f"Bearer {TOKEN}":
                    return 401, "application/json", b'{"detail": "no"}'
                endpoint, values = self._matched(method, address.path)
                _check_query(endpoint, query)
                document = json.loads(body) if body else None
                _check_body(endpoint, document)
                if method != "GET" and self.fail_next:
                    self.fail_next -= 1
                    return 500, "text/plain", b"out of order"
                return self._serve(endpoint, values, query, document)
            except RefusedError as error:
                return 400, "text/plain", f"{method} {target}: {error}".encode()

    def change(self, job: int, action: str, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Creates or deletes annotations; returns what was created."""
        made = []
        for kind in ("shapes", "tracks"):
            for entry in data.get(kind, []):
                if action == "delete":
                    present = [known["id"] for known in self.annotations[job][kind]]
                    if entry.get("id") not in present:
                        raise RefusedError(f"there is no {kind} {entry.get('id')} in job {job}")
                    del self.annotations[job][kind][present.index(entry["id"])]
                    continue
                self._check(job, kind, entry)
                stored = {**deepcopy(entry), "id": self._id()}
                if kind == "shapes":
                    stored["score"] = 1.0
                for shape in stored.get("shapes", []):
                    shape["id"] = self._id()
                self.annotations[job][kind].append(stored)
                made.append(stored)
        return made

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _matched(self, method: str, path: str) -> tuple[Any, dict[str, str]]:
        for endpoint in self.endpoints:
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", endpoint.settings["endpoint_path"])
            match = re.fullmatch(pattern, path)
            if match and endpoint.settings["http_method"] == method:
                return endpoint, match.groupdict()
        raise RefusedError("the generated client has no such endpoint")

    def _serve(
        self, endpoint: Any, values: dict[str, str], query: dict[str, str], document: Any
    ) -> tuple[int, str, bytes]:
        path = endpoint.settings["endpoint_path"]
        number = int(values.get("id", 0))
        if "/tasks/{id}" in path and number != 7:
            return 404, "application/json", b'{"detail": "Not found."}'
        match path:
            case "/api/server/about":
                about = {"name": "CVAT", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}
                return _json(models.About, about)
            case "/api/tasks/{id}":
                return _json(models.TaskRead, self.task())
            case "/api/tasks/{id}/data/meta":
                return _json(models.DataMetaRead, self.meta())
            case "/api/tasks/{id}/data/":
                return self._data(query)
            case "/api/tasks/{id}/annotations/" if endpoint.settings["http_method"] == "GET":
                merged = {
                    kind: [entry for job in self.annotations.values() for entry in job[kind]]
                    for kind in ("shapes", "tracks")
                }
                return _json(models.LabeledData, {"version": 0, "tags": [], **merged})
            case "/api/jobs":
                jobs = [self.job(id_) for id_ in self.jobs]
                jobs.append({**self.job(next(iter(self.jobs))), "id": 900, "type": "ground_truth"})
                return _page(models.PaginatedJobReadList, jobs, query)
            case "/api/labels":
                return _page(models.PaginatedLabelList, self.labels, query)
            case "/api/jobs/{id}/annotations/":
                if number not in self.jobs:
                    raise RefusedError("no such job")
                if endpoint.settings["http_method"] == "GET":
                    return _json(models.LabeledData, {"version": 0, "tags": [], **self.annotations[number]})
                made = self.change(number, query["action"], document)
                return 200, "application/json", json.dumps({"version": 0, "created": len(made)}).encode()
        raise RefusedError("the stand-in does not know this endpoint")

    def task(self) -> dict[str, Any]:
        return {
            "id": 7, "name": "street <1>", "url": f"{self.url}/api/tasks/7", "mode": "interpolation", "dimension": "2d",
            "size": len(self.pictures), "data_chunk_size": 4, "overlap": 0, "segment_size": 0, "subset": "",
            "data_original_chunk_type": "imageset" if self.chunks else "video", "created_date": CREATED,
            "updated_date": CREATED, "labels": {"url": "http://x"},
            "jobs": {"count": len(self.jobs), "completed": 0, "url": "http://x", "validation": 0},
            "project_id": None, "organization": None, "bug_tracker": "",
        }  # fmt: skip

    def meta(self) -> dict[str, Any]:
        count, (width, height) = len(self.pictures), self.size
        # CVAT names a task's pictures one by one, and a video once.
        names = [f"{index}.png" for index in range(count)] if self.chunks else ["clip.mp4"]
        return {
            "chunk_size": 4, "size": count, "image_quality": 70, "start_frame": self.start_frame,
            "stop_frame": self.start_frame + (count - 1) * self.step, "deleted_frames": list(self.deleted),
            "frame_filter": f"step={self.step}" if self.step > 1 else "", "chunks_updated_date": CREATED,
            "frames": [{"name": name, "width": width, "height": height, "related_files": 0} for name in names],
        }  # fmt: skip

    def job(self, id_: int) -> dict[str, Any]:
        start, stop = self.jobs[id_]
        return {
            "id": id_, "task_id": 7, "type": "annotation", "start_frame": start, "stop_frame": stop,
            "frame_count": stop - start + 1, "url": f"{self.url}/api/jobs/{id_}", "mode": "interpolation",
            "dimension": "2d", "issues": {"count": 0, "url": "http://x"}, "labels": {"url": "http://x"},
            "project_id": None, "guide_id": None, "bug_tracker": None,
        }  # fmt: skip

    def _data(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        if query.get("quality") != "original":
            raise RefusedError("only the original pictures are right for labels")
        number = int(query["number"])
        if query["type"] == "frame":
            if number in self.deleted or number not in self.pictures:
                raise RefusedError(f"no frame {number}")
            return 200, "image/png", self.pictures[number]
        if not self.chunks:
            raise RefusedError("chunks of this task are videos")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for index in range(4 * number, min(4 * number + 4, len(self.pictures))):
                archive.writestr(f"{index:06d}.png", self.pictures[index])
        return 200, "application/zip", packed.getvalue()

    def _check(self, job: int, kind: str, entry: dict[str, Any]) -> None:
        """What a real server, or the page that shows its jobs, insists on."""
        start, stop = self.jobs[job]
        labels = {label["id"]: label for label in self.labels}
        if entry["label_id"] not in labels:
            raise RefusedError(f"no label {entry['label_id']}")
        label = labels[entry["label_id"]]
        tracks = [entry] if kind == "tracks" else []
        shapes = [entry] if kind == "shapes" else list(entry["shapes"])
        for element in entry.get("elements") or ():
            if element["label_id"] not in {sub["id"] for sub in label.get("sublabels", [])}:
                raise RefusedError(f"no sublabel {element['label_id']} in label {label['name']}")
            if kind == "tracks":
                tracks.append(element)
                shapes += element["shapes"]
        for track in tracks:
            frames = [shape["frame"] for shape in track["shapes"]]
            if not frames or frames != sorted(set(frames)) or track["frame"] != frames[0]:
                raise RefusedError(f"the frames of a track must ascend from its own: {track['frame']}, {frames}")
            if any(shape["type"] == "mask" for shape in track["shapes"]):
                raise RefusedError("a track of masks breaks the job's page")
        for shape in shapes:
            if not start <= shape["frame"] <= stop:
                raise RefusedError(f"frame {shape['frame']} lies outside job {job}")
            wanted = "points" if shape not in entry.get("shapes", [entry]) else label["type"]
            if wanted not in ("any", shape["type"]):
                raise RefusedError(f"label {label['name']} takes {wanted}, not {shape['type']}")
            count = len(shape["points"])
            odd = {
                "rectangle": count != 4,
                "polygon": count < 6 or count % 2,
                "points": count < 2 or count % 2,
                "mask": count < 5,
            }
            if odd.get(shape["type"]):
                raise RefusedError(f"{count} numbers are no {shape['type']}")


def _endpoints() -> Iterator[Any]:
    client = ApiClient(Configuration("http://localhost"))
    for api in (client.tasks_api, client.jobs_api, client.labels_api, client.server_api):
        yield from (value for name, value in vars(api).items() if name.endswith("_endpoint"))


def _check_query(endpoint: Any, query: dict[str, str]) -> None:
    wires, places = endpoint.attribute_map, endpoint.location_map
    names = {wires[name]: name for name, where in places.items() if where == "query"}
    for name in endpoint.params_map["required"]:
        if places.get(name) == "query" and wires[name] not in query:
            raise RefusedError(f"the query lacks {name}")
    for wire, text in query.items():
        if wire not in names:
            raise RefusedError(f"the endpoint has no parameter {wire}")
        (kind, *_) = endpoint.openapi_types[names[wire]]
        try:
            value = kind(text) if kind in (int, float, str) else text
        except ValueError:
            raise RefusedError(f"{wire} must be {kind.__name__}") from None
        allowed = endpoint.allowed_values.get((names[wire],))
        if allowed and value not in allowed.values():
            raise RefusedError(f"{wire} must be one of {list(allowed.values())}")


def _check_body(endpoint: Any, document: Any) -> None:
    body = next((name for name, where in endpoint.location_map.items() if where == "body"), None)
    if body is None:
        if document is not None:
            raise RefusedError("the endpoint takes no body")
        return
    (model, *_) = endpoint.openapi_types[body]
    check_model(model, document)


def check_model(model: Any, document: Any, path: str = "") -> None:
    """Holds a document to a generated model: no unknown field anywhere, every value of its type.

    Raises:
        RefusedError: naming the field.
    """
    if isinstance(model, type) and issubclass(model, ModelSimple):
        try:
            model(document)
        except (ApiValueError, ApiTypeError) as error:
            raise RefusedError(f"{path}: {error}") from None
        return
    if not (isinstance(model, type) and issubclass(model, ModelNormal)) or document is None:
        return
    known = {wire: model.openapi_types[name] for name, wire in model.attribute_map.items()}
    if unknown := set(document) - set(known):
        raise RefusedError(f"{model.__name__} has no fields {sorted(unknown)} ({path or 'body'})")
    for name, value in document.items():
        for kind in known[name]:
            if isinstance(kind, list) and isinstance(value, list):
                for number, entry in enumerate(value):
                    check_model(kind[0], entry, f"{path}/{name}/{number}")
            else:
                check_model(kind, value, f"{path}/{name}")
    try:
        model._from_openapi_data(**document, _configuration=Configuration("http://localhost"))
    except Exception as error:
        raise RefusedError(f"{path or 'body'} is no {model.__name__}: {error}") from None


def _json(model: Any, document: Any) -> tuple[int, str, bytes]:
    check_model(model, document)
    return 200, "application/json", json.dumps(document).encode()


def _page(model: Any, entries: list[Any], query: dict[str, str]) -> tuple[int, str, bytes]:
    """Two entries a page, so that a reader that forgets the second page is found out."""
    page = int(query.get("page", 1))
    more = 2 * page < len(entries)
    document = {"count": len(entries), "results": entries[2 * page - 2 : 2 * page], "previous": None}
    return _json(model, {**document, "next": f"http://x?page={page + 1}" if more else None})


Make = Callable[..., StandIn]
