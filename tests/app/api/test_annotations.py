# ruff: noqa: E501
"""Labels of other tools in `POST /v1/jobs`."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.formats import IMPORTS
from app.jobspec import JobSpec, build_labels
from app.settings import Settings
from model.labels import Anchor, LabelObject, indexed_png
from model.rendered import RenderedClip

COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "00003.jpg", "width": 96, "height": 64}],
    "categories": [{"id": 1, "name": "dog"}],
    "annotations": [{"image_id": 7, "category_id": 1, "bbox": [4, 5, 20, 10]}],
}
Labels = Callable[[httpx.Response], tuple[tuple[LabelObject, ...], tuple[Anchor, ...]]]


@pytest.fixture
def labels(settings: Settings) -> Labels:
    """The objects and anchors of the job that an answer speaks of, as the worker gets them."""

    def do(answer: httpx.Response) -> tuple[tuple[LabelObject, ...], tuple[Anchor, ...]]:
        assert answer.status_code == 202, answer.text
        path = settings.store_dir / "jobs" / "local" / answer.json()["id"] / "0" / "spec.json"
        return build_labels(JobSpec.model_validate_json(path.read_bytes()))

    return do


def zip_of(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def refused(answer: httpx.Response, slug: str) -> dict[str, Any]:
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == f"/problems/{slug}"
    return answer.json()


@pytest.mark.parametrize("named", [True, False])
def test_one_call_with_the_video_and_a_file_of_labels(
    client: TestClient, clip_file: Path, labels: Labels, named: bool
) -> None:
    files = {"video": ("clip.mp4", clip_file.read_bytes()), "annotations": ("a.json", json.dumps(COCO))}
    answer = client.post("/v1/jobs", files=files, data={"format": "coco"} if named else {})
    objects, anchors = labels(answer)
    assert [(object_.id, object_.name) for object_ in objects] == [(1, "dog")]
    assert (anchors[0].frame, anchors[0].labels[0].box) == (3, (4, 5, 20, 10))
    assert answer.json()["objects"][0]["name"] == "dog"


def test_a_zip_of_pictures_for_a_video_that_is_there(
    client: TestClient, clip: RenderedClip, stored_video: Callable[[], str], labels: Labels
) -> None:
    data = zip_of({f"Annotations/x/{frame:05d}.png": indexed_png.encode(clip.mask(frame)) for frame in (2, 9)})
    spec = {"video_id": stored_video(), "objects": [{"id": 2, "name": "puppet", "colour": "#010203"}]}
    files = {"annotations": ("a.zip", data), "spec": (None, json.dumps(spec))}
    objects, anchors = labels(client.post("/v1/jobs", files=files))
    assert (objects[0].id, objects[0].name, objects[0].colour) == (2, "puppet", (1, 2, 3))
    assert [anchor.frame for anchor in anchors] == [2, 9]
    for anchor in anchors:
        for label in anchor.labels:
            assert np.array_equal(label.mask, clip.mask(anchor.frame) == label.object)


@pytest.mark.parametrize("name", ["00004.png", "../../../00004.png", "C:\\x\\00004.png"])
def test_the_name_of_a_picture_says_its_frame(
    client: TestClient, clip: RenderedClip, stored_video: Callable[[], str], labels: Labels, name: str
) -> None:
    spec = json.dumps({"video_id": stored_video()})
    files = {"annotations": (name, indexed_png.encode(clip.mask(4))), "spec": (None, spec)}
    _, anchors = labels(client.post("/v1/jobs", files=files))
    assert anchors[0].frame == 4


def test_a_document_within_the_json(client: TestClient, stored_video: Callable[[], str], labels: Labels) -> None:
    body = {"video_id": stored_video(), "annotations": COCO, "format": "coco"}
    assert labels(client.post("/v1/jobs", json=body))[1][0].frame == 3
    body["annotations"] = json.dumps(COCO)
    del body["format"]
    assert labels(client.post("/v1/jobs", json=body))[1][0].frame == 3
    packed = zip_of({"labels/00005.txt": b"0 0.5 0.5 0.2 0.2\n"})
    body["annotations"] = base64.b64encode(packed).decode()
    assert labels(client.post("/v1/jobs", json=body))[1][0].frame == 5


def test_labels_of_both_kinds_are_joined(client: TestClient, stored_video: Callable[[], str], labels: Labels) -> None:
    points = [{"name": "nose", "x": 9, "y": 9}]
    anchors = [
        {"frame": 0, "labels": [{"object": 1, "box": [1, 1, 9, 9]}, {"object": 5, "box": [1, 1, 9, 9]}]},
        {"frame": 3, "labels": [{"object": 1, "keypoints": points}]},
    ]
    answer = client.post("/v1/jobs", json={"video_id": stored_video(), "anchors": anchors, "annotations": COCO})
    objects, read = labels(answer)
    assert [(object_.id, object_.name) for object_ in objects] == [(1, "dog"), (5, "object-5")]
    assert [anchor.frame for anchor in read] == [0, 3]
    (label,) = read[1].labels
    assert (label.box, label.keypoints[0].name) == ((4, 5, 20, 10), "nose")


def test_two_regions_of_one_object_on_one_frame_are_found(client: TestClient, stored_video: Callable[[], str]) -> None:
    anchors = [{"frame": 3, "labels": [{"object": 1, "box": [1, 1, 9, 9]}]}]
    answer = client.post("/v1/jobs", json={"video_id": stored_video(), "anchors": anchors, "annotations": COCO})
    refused(answer, "duplicate-label")


@pytest.mark.parametrize(
    ("annotations", "format_", "slug", "pointer", "detail"),
    [
        ({**COCO, "annotations": [{"image_id": 1}]}, "coco", "bad-annotations", "/annotations/annotations/0/category_id", "Field required"),
        ({"images": []}, "coco", "bad-annotations", "/annotations/annotations", "annotations: /annotations: Field required"),
        ("hello", None, "bad-annotations", "/format", "was not recognised. Name it"),
        ("<annotations/>", "coco", "bad-annotations", "/annotations", "line 1 column 1"),
        (COCO, "gif", "invalid-request", "/format", "Choose one of: davis"),
        (COCO, "mots", "invalid-request", "/format", "Choose one of: davis"),
        ("iVBORw0KGgo", None, "bad-annotations", "/annotations", "base64 without line breaks"),
        ({**COCO, "images": [{"id": 7, "file_name": "00012.jpg"}]}, "coco", "bad-annotations", "/annotations", "frame 12 is not in the video"),
        (None, "coco", "invalid-request", "/format", "which are not there"),
    ],
)  # fmt: skip
def test_faults_point_into_the_annotations(
    client: TestClient,
    stored_video: Callable[[], str],
    annotations: Any,
    format_: str | None,
    slug: str,
    pointer: str,
    detail: str,
) -> None:
    body = {"video_id": stored_video(), "annotations": annotations, "format": format_}
    document = refused(client.post("/v1/jobs", json=body), slug)
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert detail in document["detail"]


def test_what_a_job_cannot_take_is_told_by_frame_and_object(
    client: TestClient, stored_video: Callable[[], str]
) -> None:
    tiny = {**COCO, "annotations": [{**COCO["annotations"][0], "bbox": [4.6, 4.6, 0.1, 0.1]}]}
    anchors = [{"frame": 0, "labels": [{"object": 1, "box": [1, 1, 9, 9]}]}]
    body = {"video_id": stored_video(), "anchors": anchors, "annotations": tiny}
    document = refused(client.post("/v1/jobs", json=body), "empty-mask")
    assert document["errors"][0]["pointer"] == "/annotations"
    assert document["detail"].startswith("Frame 3, object 1: It is smaller than one pixel.")
    body["options"], body["annotations"] = {"end": 2}, COCO
    assert "Frame 3" in refused(client.post("/v1/jobs", json=body), "anchor-outside-range")["detail"]
    body["anchors"] = [{"frame": 99, "labels": [{"object": 1, "box": [1, 1, 9, 9]}]}]
    body["options"] = {}
    document = refused(client.post("/v1/jobs", json=body), "anchor-outside-video")
    assert document["errors"][0]["pointer"] == "/anchors/0/frame", "a fault of the request itself"


def test_parts_of_a_form_that_contradict(client: TestClient, stored_video: Callable[[], str]) -> None:
    spec = json.dumps({"video_id": stored_video(), "annotations": COCO})
    files = {"annotations": ("a.json", json.dumps(COCO)), "spec": (None, spec)}
    document = refused(client.post("/v1/jobs", files=files), "invalid-request")
    assert document["errors"][0]["pointer"] == "/spec/annotations"
    document = refused(
        client.post("/v1/jobs", files={"spec": (None, spec), "format": (None, "coco")}), "invalid-request"
    )
    assert document["errors"][0]["pointer"] == "/format"
    spec = json.dumps({"video_id": stored_video(), "annotations": "hello", "format": "coco"})
    document = refused(client.post("/v1/jobs", files={"spec": (None, spec)}), "bad-annotations")
    assert document["errors"][0]["pointer"] == "/spec/annotations"


def test_nothing_is_kept_of_a_refused_call(client: TestClient, clip_file: Path, settings: Settings) -> None:
    files = {"video": ("clip.mp4", clip_file.read_bytes()), "annotations": ("a.json", b"{}")}
    refused(client.post("/v1/jobs", files=files), "bad-annotations")
    assert client.get("/v1/videos").json()["videos"] == []
    kept = [path for path in settings.home.rglob("*") if path.is_file() and "redis" not in path.parts]
    assert kept == []


ROWS = st.lists(st.sampled_from(["0", "1", "0.5", "-1", "nan", "1e999", "x", "\n", "\x00", "🙂"]), max_size=12)
NODES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "images",
                    "annotations",
                    "categories",
                    "id",
                    "image_id",
                    "category_id",
                    "bbox",
                    "segmentation",
                    "shapes",
                ]
                + [
                    "points",
                    "label",
                    "file_name",
                    "name",
                    "counts",
                    "size",
                    "keypoints",
                    "imagePath",
                    "shape_type",
                    "mask",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*IMPORTS, "", "nonsense"]),
    st.binary(max_size=60)
    | ROWS.map(lambda words: " ".join(words).encode())
    | NODES.map(lambda node: json.dumps(node).encode())
    | st.dictionaries(
        st.sampled_from(["00001.png", "labels/1.txt", "data.yaml", "a.json", "meta.json", "objects.json"]),
        st.binary(max_size=30) | ROWS.map(lambda words: " ".join(words).encode()),
    ).map(zip_of),
)
def test_whatever_is_sent_is_taken_or_refused(
    client: TestClient, stored_video: Callable[[], str], format_: str, data: bytes
) -> None:
    spec = json.dumps({"video_id": stored_video()})
    files = {"annotations": ("00001.x", data), "spec": (None, spec)}
    answer = client.post("/v1/jobs", files=files, data={"format": format_} if format_ else {})
    assert answer.status_code in (202, 422), answer.text
