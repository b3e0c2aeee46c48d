"""Whatever is sent, the answer is one that was foreseen: a server error raises out of the client and fails the test."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.labels import indexed_png

PNG = base64.b64encode(indexed_png.encode(np.ones((64, 96), np.uint8))).decode()
FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BASE: dict[str, Any] = {
    "video_id": "",
    "objects": [{"id": 1, "name": "a", "colour": "#123456", "skeleton": {"points": ["p", "q"], "edges": [[0, 1]]}}],
    "anchors": [
        {
            "frame": 0,
            "labels": [{"object": 1, "box": [1, 1, 5, 5], "keypoints": [{"name": "p", "x": 1, "y": 1}]}],
            "void": {"size": [64, 96], "counts": [0, 5, 6139]},
        },
        {"frame": 3, "labels": [{"object": 1, "mask": {"size": [64, 96], "counts": [5, 5, 6134]}}]},
        {"frame": 5, "labels": [{"object": 1, "polygon": [[1, 1, 5, 1, 5, 5]]}]},
        {"frame": 6, "labels": [{"object": 1, "png": PNG}]},
    ],
    "options": {"model": "uvc-r18", "preset": "plain", "start": 0, "end": 12, "stride": 1, "direction": "both"},
    "metadata": {"k": [1, 2.5, None]},
}
NUMBERS = st.sampled_from([-1, 0, 1, 254, 255, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, 1e308, -0.0, 1e-320])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


def put(document: Any, path: tuple, value: Any) -> Any:
    """The document with one place changed."""
    if not path:
        return value
    document[path[0]] = put(document[path[0]], path[1:], value)
    return document


def test_the_document_that_is_changed_is_a_job(client: TestClient, stored_video: Callable[[], str]) -> None:
    assert client.post("/v1/jobs", json={**BASE, "video_id": stored_video()}).status_code == 202


@FUZZ
@given(changes=st.lists(st.tuples(st.sampled_from(places(BASE)), JSON), min_size=1, max_size=3))
def test_jobs(client: TestClient, stored_video: Callable[[], str], changes: list[tuple[tuple, Any]]) -> None:
    document: Any = {**copy.deepcopy(BASE), "video_id": _video(client, stored_video)}
    for path, value in changes:
        if path in places(document):
            document = put(document, path, value)
    answer = client.post("/v1/jobs", content=json.dumps(document), headers={"Content-Type": "application/json"})
    check(answer)
    if answer.status_code == 202:
        assert client.get(answer.headers["location"]).json() == answer.json()


@FUZZ
@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=b"]))
def test_bytes(client: TestClient, body: bytes, kind: str) -> None:
    for prefix in (b"", b"{", b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name="spec"\r\n\r\n'):
        check(client.post("/v1/jobs", content=prefix + body, headers={"Content-Type": kind}))


@FUZZ
@given(
    path=st.sampled_from(
        ["/v1/videos/{}", "/v1/jobs/{}", "/v1/jobs/{}/frames", "/v1/jobs/{}/exports/davis", "/problems/{}"]
    ),
    name=st.text(min_size=1, max_size=30),
    query=st.dictionaries(
        st.sampled_from(["cursor", "limit", "start", "status", "force", "fps"]), st.text(max_size=12), max_size=3
    ),
)
def test_addresses(client: TestClient, path: str, name: str, query: dict[str, str]) -> None:
    check(client.get(path.format(quote(name, safe="")), params=query))
    check(client.get("/v1/videos", params=query))
    check(client.get("/v1/jobs", params=query))


def check(answer: Any) -> None:
    """Foreseen: done, accepted or moved, or a problem below 500."""
    if answer.status_code >= 400:
        assert answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def _video(client: TestClient, stored_video: Callable[[], str]) -> str:
    found = client.get("/v1/videos").json()["videos"]
    return found[0]["id"] if found else stored_video()
