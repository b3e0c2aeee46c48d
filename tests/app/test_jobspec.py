# ruff: noqa: E501  (tables have one case a line)
from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import app.anchors
from app.jobspec import (
    JobSpec,
    anchor_from_png,
    build_labels,
    default_colour,
    parse_job,
    resolve,
    rgb,
    with_mask,
)
from app.problems import InvalidDocument
from app.schemas.jobs import JOB_EXAMPLE
from model.catalogue import find_model
from model.errors import InputError, LabelError
from model.labels import Keypoint, LabelObject, Skeleton, indexed_png, rle

W, H, N = 32, 24, 10
VIDEO: Any = SimpleNamespace(width=W, height=H, frame_count=N)
BOX = {"object": 1, "box": [4, 4, 8, 8]}


def job(*labels: dict, frame: int = 0, **fields: Any) -> dict:
    return {"anchors": [{"frame": frame, "labels": list(labels)}], **fields}


def resolved(document: dict, **options: Any) -> JobSpec:
    return resolve(parse_job(json.dumps(document)), VIDEO, **options)


def faults(document: dict) -> list[tuple[str, str]]:
    """Slug of the whole and the pointers of all faults."""
    with pytest.raises(InvalidDocument) as caught:
        resolved(document)
    return [(caught.value.slug, fault.pointer) for fault in caught.value.errors]


def png(index_map: np.ndarray) -> str:
    return base64.b64encode(indexed_png.encode(index_map)).decode()


def mask(rows: slice, columns: slice) -> np.ndarray:
    out = np.zeros((H, W), bool)
    out[rows, columns] = True
    return out


# What is accepted


def test_the_contracts_example_is_accepted() -> None:
    spec = resolve(parse_job(json.dumps(JOB_EXAMPLE)), SimpleNamespace(width=854, height=480, frame_count=96))  # type: ignore[arg-type]
    objects, anchors = build_labels(spec)
    assert objects[1] == LabelObject(2, "rider", rgb(default_colour(2)), Skeleton(("head", "hand"), ((0, 1),)))
    assert [anchor.frame for anchor in anchors] == [0, 41]
    assert anchors[0].labels[0].box == (102.0, 80.5, 160.0, 120.0)
    assert anchors[0].labels[1].keypoints == (Keypoint("head", 321.5, 96.0, True),)
    assert anchors[1].labels[0].absent
    assert spec.metadata == JOB_EXAMPLE["metadata"]


def test_every_option_is_resolved_and_the_model_pinned() -> None:
    options = resolved(job(BOX)).options
    assert options.model_dump() == {
        "model": "uvc-r18",
        "model_sha256": find_model("uvc-r18").sha256,
        "preset": "plain",
        "start": 0,
        "end": N,
        "stride": 1,
        "direction": "both",
        "working_size": 480,
    }
    assert resolved(job(BOX, frame=5, options={"start": 2, "end": 9, "stride": 3})).options.frames == range(2, 9, 3)


def test_a_model_in_the_home_directory_hides_the_packaged_one(tmp_path: Path) -> None:
    packaged = find_model("uvc-r18")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.safetensors").write_bytes(packaged.path.read_bytes())
    spec = resolved(job(BOX, options={"model": "mine"}), home=tmp_path)
    assert spec.options.model_sha256 == packaged.sha256


def test_a_spec_survives_its_own_json() -> None:
    document = job(
        {
            "object": 3,
            "mask": rle.encode(mask(slice(2, 9), slice(3, 20))),
            "keypoints": [{"name": "a", "x": 1, "y": 2}],
        },
        metadata={"a": [1, None, {"b": 0.5}]},
    )
    spec = resolved(document)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_objects_are_taken_from_the_labels_where_none_are_declared() -> None:
    spec = resolved(job({"object": 7, "box": [0, 0, 3, 3]}, BOX))
    assert [(object_.id, object_.name) for object_ in spec.objects] == [(1, "object-1"), (7, "object-7")]


def test_the_four_kinds_of_region_mean_the_same_pixels() -> None:
    want = mask(slice(4, 12), slice(4, 12))
    picture = np.where(want, 1, 0).astype(np.uint8)
    regions: list[dict] = [
        {"mask": rle.encode(want)},
        {"mask": {"size": [H, W], "counts": _counts(want)}},
        {"png": png(picture)},
        {"png": png(picture * 255)},
        {"polygon": [[4, 4, 12, 4, 12, 12, 4, 12]]},
        {"box": [4, 4, 8, 8]},
    ]
    for region in regions:
        _, anchors = build_labels(resolved(job({"object": 1, **region})))
        assert np.array_equal(anchors[0].labels[0].mask, want), region


def test_a_png_of_ids_gives_the_labels_own_object_and_its_void() -> None:
    picture = np.zeros((H, W), np.uint8)
    picture[:4], picture[4:8], picture[8:9] = 1, 2, 255
    _, anchors = build_labels(resolved(job({"object": 2, "png": png(picture)})))
    assert np.array_equal(anchors[0].labels[0].mask, picture == 2)
    assert np.array_equal(anchors[0].void, picture == 255)


def test_anchors_come_in_the_order_of_their_frames() -> None:
    document = {"anchors": [{"frame": 5, "labels": [BOX]}, {"frame": 2, "labels": [BOX]}]}
    assert [anchor.frame for anchor in build_labels(resolved(document))[1]] == [2, 5]


def test_default_colours_differ() -> None:
    assert len({default_colour(i) for i in range(1, 21)}) == 20
    assert rgb(default_colour(254)) == indexed_png.colour_of(254)
    assert resolved(job(BOX, objects=[{"id": 1, "colour": "#ABCDEF"}])).objects[0].colour == "#abcdef"


# What is refused


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"anchors": []}, [("no-anchors", "/anchors")]),
        (job(), [("empty-label", "/anchors/0/labels")]),
        (job(BOX, frame=N), [("anchor-outside-video", "/anchors/0/frame")]),
        (job(BOX, frame=1, options={"start": 2}), [("anchor-outside-range", "/anchors/0/frame")]),
        (job(BOX, frame=1, options={"stride": 2}), [("anchor-outside-range", "/anchors/0/frame")]),
        ({"anchors": [{"frame": 0, "labels": [BOX]}] * 2}, [("duplicate-label", "/anchors/1/frame")]),
        (job(BOX, BOX), [("duplicate-label", "/anchors/0/labels/1")]),
        (job({**BOX, "polygon": [[0, 0, 4, 0, 4, 4]]}), [("two-regions", "/anchors/0/labels/0")]),
        (job(BOX, {"object": 2}), [("empty-label", "/anchors/0/labels/1")]),
        (job({**BOX, "absent": True}), [("contradictory-label", "/anchors/0/labels/0")]),
        (job(BOX, objects=[{"id": 2}, {"id": 1}, {"id": 3}]), [("object-unlabelled", "/objects/0"), ("object-unlabelled", "/objects/2")]),
        (job({"object": 1, "absent": True}), [("object-unlabelled", "/objects/0")]),
        (job(BOX, {"object": 2, "box": [0, 0, 2, 2]}, objects=[{"id": 1}]), [("unknown-object", "/anchors/0/labels/1/object")]),
        (job(BOX, objects=[{"id": 1}, {"id": 1}]), [("invalid-request", "/objects/1/id")]),
        (job({"object": 1, "box": [0, 0, W + 1, 4]}), [("bad-box", "/anchors/0/labels/0/box")]),
        (job({"object": 1, "box": [-1, 0, 4, 4]}), [("bad-box", "/anchors/0/labels/0/box")]),
        (job({"object": 1, "box": [4, 4, 0, 4]}), [("bad-box", "/anchors/0/labels/0/box")]),
        (job({"object": 1, "box": [4.1, 4.1, 0.2, 0.2]}), [("empty-mask", "/anchors/0/labels/0/box")]),
        (job({"object": 1, "polygon": []}), [("bad-polygon", "/anchors/0/labels/0/polygon")]),
        (job({"object": 1, "polygon": [[0, 0, 4, 4]]}), [("bad-polygon", "/anchors/0/labels/0/polygon")]),
        (job({"object": 1, "polygon": [[0, 0, 4, 0, 99, 4]]}), [("bad-polygon", "/anchors/0/labels/0/polygon")]),
        (job({"object": 1, "mask": {"size": [H, W], "counts": [5]}}), [("bad-rle", "/anchors/0/labels/0/mask")]),
        (job({"object": 1, "mask": {"size": [H, W], "counts": "\u20ac"}}), [("bad-rle", "/anchors/0/labels/0/mask")]),
        (job({"object": 1, "mask": {"size": [H, W], "counts": [H * W]}}), [("empty-mask", "/anchors/0/labels/0/mask")]),
        (job({"object": 1, "mask": {"size": [W, H], "counts": [W * H]}}), [("mask-size-mismatch", "/anchors/0/labels/0/mask")]),
        (job({"object": 1, "png": "x"}), [("bad-mask", "/anchors/0/labels/0/png")]),
        (job({"object": 1, "png": "\u20ac"}), [("bad-mask", "/anchors/0/labels/0/png")]),
        (job({"object": 1, "png": png(np.ones((4, 4), np.uint8))}), [("mask-size-mismatch", "/anchors/0/labels/0/png")]),
        (job({"object": 1, "png": png(np.full((H, W), 9, np.uint8))}), [("unknown-object", "/anchors/0/labels/0/png")]),
        (job({"object": 1, "keypoints": [{"name": "a", "x": W + 1, "y": 1}]}), [("bad-keypoint", "/anchors/0/labels/0/keypoints/0")]),
        (job({"object": 1, "keypoints": [{"name": "a", "x": 1, "y": 1}] * 2}), [("duplicate-label", "/anchors/0/labels/0/keypoints/1/name")]),
        (
            job({"object": 1, "keypoints": [{"name": "b", "x": 1, "y": 1}]}, objects=[{"id": 1, "skeleton": {"points": ["a"]}}]),
            [("bad-keypoint", "/anchors/0/labels/0/keypoints/0/name")],
        ),
        (job(BOX, options={"model": "../../etc/passwd"}), [("unknown-model", "/options/model")]),
        (job(BOX, options={"preset": "best"}), [("unknown-preset", "/options/preset")]),
        (job(BOX, options={"end": N + 1}), [("invalid-range", "/options/end")]),
        (job(BOX, options={"start": 4, "end": 4}), [("invalid-range", "/options/start")]),
        (job(BOX, options={"start": N}), [("invalid-range", "/options/start")]),
        ({"anchors": [{"frame": 0, "labels": [BOX], "void": {"size": [1, 1], "counts": [1]}}]}, [("mask-size-mismatch", "/anchors/0/void")]),
    ],
)  # fmt: skip
def test_each_fault_has_its_slug_and_pointer(document: dict, expected: list[tuple[str, str]]) -> None:
    assert faults(document) == expected


def test_all_faults_are_found_at_once() -> None:
    found = faults(
        {
            "objects": [{"id": 1}, {"id": 2}],
            "anchors": [
                {"frame": 99, "labels": [{"object": 1, "box": [0, 0, 99, 99]}]},
                {"frame": 1, "labels": [{"object": 1, "keypoints": [{"name": "a", "x": -1, "y": 0}]}, {"object": 5, "absent": True}]},
            ],
        }
    )  # fmt: skip
    assert found == [
        ("invalid-request", "/anchors/0/frame"),
        ("invalid-request", "/anchors/0/labels/0/box"),
        ("invalid-request", "/anchors/1/labels/0/keypoints/0"),
        ("invalid-request", "/anchors/1/labels/1/object"),
        ("invalid-request", "/objects/1"),
    ]


def test_a_mask_of_another_size_names_both_sizes() -> None:
    with pytest.raises(InvalidDocument, match=rf"16 x 12 .* {W} x {H}"):
        resolved(job({"object": 1, "mask": {"size": [12, 16], "counts": [192]}}))


def test_an_empty_mask_says_what_to_send_instead() -> None:
    with pytest.raises(InvalidDocument, match='"absent": true'):
        resolved(job({"object": 1, "mask": {"size": [H, W], "counts": [H * W]}}))


def test_labels_that_would_not_fit_in_memory_are_refused_before_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app.anchors, "MAX_LABEL_PIXELS", 3 * W * H)
    boxes = [{"object": i, "box": [0, 0, 4, 4]} for i in range(1, 5)]
    assert resolved(job(*boxes[:3]))
    assert faults(job(*boxes)) == [("too-many-labels", "/anchors")]


@pytest.mark.parametrize(
    ("text", "slug", "pointer"),
    [
        ("", "invalid-json", ""),
        ("{", "invalid-json", ""),
        ("[" * 100_000, "invalid-json", ""),
        ("[]", "invalid-request", ""),
        ('{"anchor": []}', "invalid-request", "/anchor"),
        ('{"anchors": [{"frame": 0, "labels": [{"object": 1, "box": [NaN, 0, 1, 1]}]}]}', "invalid-request", "/anchors/0/labels/0/box/0"),
        ('{"anchors": [{"frame": 0, "labels": [{"object": 255, "absent": true}]}]}', "invalid-request", "/anchors/0/labels/0/object"),
        ('{"anchors": [{"frame": true, "labels": []}]}', "invalid-request", "/anchors/0/frame"),
        ('{"anchors": [{"frame": -1, "labels": []}]}', "invalid-request", "/anchors/0/frame"),
        ('{"options": {"stride": 0}}', "invalid-request", "/options/stride"),
        ('{"options": {"a/b~c": 0}}', "invalid-request", "/options/a~1b~0c"),
        ('{"options": {"direction": "sideways"}}', "invalid-request", "/options/direction"),
        ('{"metadata": {"x": Infinity}}', "invalid-request", "/metadata"),
        ('{"metadata": {"x": "%s"}}' % ("x" * 70_000), "invalid-request", "/metadata"),
        ('{"objects": [{"id": 1, "skeleton": {"points": ["a"], "edges": [[0, 1]]}}]}', "invalid-request", "/objects/0/skeleton"),
        ('{"objects": [{"id": 1, "name": "a\\nb"}]}', "invalid-request", "/objects/0/name"),
    ],
)  # fmt: skip
def test_a_document_that_is_no_job(text: str, slug: str, pointer: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_job(text)
    assert (caught.value.slug, caught.value.errors[0].pointer) == (slug, pointer)
    assert len(caught.value.detail) < 500, "the value itself is not repeated"


# Pictures of masks


def test_a_picture_of_ids_becomes_objects_and_an_anchor() -> None:
    picture = np.zeros((H, W), np.uint8)
    picture[:4], picture[4:8], picture[8:9] = 3, 9, 255
    objects, anchor = anchor_from_png(indexed_png.encode(picture), VIDEO, frame=4)
    assert [object_.id for object_ in objects] == [3, 9]
    assert anchor.frame == 4
    assert [np.array_equal(rle.decode(label.mask.model_dump()), picture == label.object) for label in anchor.labels if label.mask] == [True, True]  # fmt: skip
    assert anchor.void is not None
    assert np.array_equal(rle.decode(anchor.void.model_dump()), picture == 255)


def test_a_black_and_white_picture_is_object_1() -> None:
    picture = mask(slice(3, 6), slice(0, 9)).astype(np.uint8) * 255
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    objects, anchor = anchor_from_png(out.getvalue(), VIDEO)
    assert [object_.id for object_ in objects] == [1]
    assert anchor.void is None


@pytest.mark.parametrize(
    ("picture", "slug"),
    [(np.zeros((H, W)), "empty-mask"), (np.ones((W, H)), "mask-size-mismatch")],
)
def test_a_picture_that_marks_nothing_or_has_another_size(picture: np.ndarray, slug: str) -> None:
    with pytest.raises(LabelError) as caught:
        with_mask(parse_job("{}"), indexed_png.encode(picture.astype(np.uint8)), VIDEO)
    assert (caught.value.slug, caught.value.pointer) == (slug, "/mask")


def test_frames_above_the_usual_cap_can_be_labelled_where_the_operator_raised_it() -> None:
    large: Any = SimpleNamespace(width=4200, height=2400, frame_count=N)
    picture = np.zeros((2400, 4200), np.uint8)
    picture[5:9, 5:9] = 1
    spec = resolve(with_mask(parse_job("{}"), indexed_png.encode(picture), large), large)
    ((label,),) = (anchor.labels for anchor in build_labels(spec)[1])
    assert np.array_equal(label.mask, picture == 1)


def test_a_picture_joins_the_keypoints_of_the_jobs_first_frame() -> None:
    picture = np.zeros((H, W), np.uint8)
    picture[:4], picture[4:8] = 1, 2
    points = {"object": 2, "keypoints": [{"name": "a", "x": 1, "y": 5}]}
    given = parse_job(json.dumps(job(points, frame=3, options={"start": 3})))
    _, anchors = build_labels(resolve(with_mask(given, indexed_png.encode(picture), VIDEO), VIDEO))
    assert len(anchors) == 1
    by_id = {label.object: label for label in anchors[0].labels}
    assert np.array_equal(by_id[2].mask, picture == 2)
    assert by_id[2].keypoints[0].name == "a"
    assert np.array_equal(by_id[1].mask, picture == 1)


def test_a_region_given_both_ways_is_refused() -> None:
    given = with_mask(parse_job(json.dumps(job(BOX))), indexed_png.encode(np.ones((H, W), np.uint8)), VIDEO)
    with pytest.raises(InputError) as caught:
        resolve(given, VIDEO)
    assert caught.value.slug == "duplicate-label"


def test_values_that_no_object_declares_are_named() -> None:
    given = parse_job(json.dumps({"objects": [{"id": 1}]}))
    with pytest.raises(LabelError, match="the values 7") as caught:
        with_mask(given, indexed_png.encode(np.full((H, W), 7, np.uint8)), VIDEO)
    assert (caught.value.slug, caught.value.pointer) == ("unknown-object", "/mask")


def _counts(region: np.ndarray) -> list[int]:
    flat = np.concatenate([[False], region.T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [region.size]])).tolist()
