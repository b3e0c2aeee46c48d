from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import given as examples
from hypothesis import strategies as st

from app.formats import FORMATS, ExportInput, ImportInput, label_studio
from app.formats.label_studio_frames import PageFrames
from app.formats.label_studio_video import box_of
from app.jobspec import build_labels, parse_job, resolve
from model.errors import InputError
from model.labels import FrameResult, KeypointResult, LabelObject, ObjectResult
from model.rendered import RenderedClip
from model.video import FrameTable, VideoInfo

SIZE = (96, 64)


def table(times: list[int]) -> FrameTable:
    return FrameTable(np.array(times, np.int64), np.ones(len(times), np.bool_), Fraction(1, 1000))


def facts(times: list[int], fps: Fraction = Fraction(25), container: str = "mp4") -> VideoInfo:
    return VideoInfo(container, "h264", *SIZE, len(times), times[-1] + 40, fps, Fraction(1), 0, 1000)


def box_result(frame: int, box: tuple[float, float, float, float] | None, object_id: int = 1) -> FrameResult:
    return FrameResult(frame, 40 * frame, (ObjectResult(object_id, box is not None, 0.5, None, box, (), "propagated"),))


def page_box(sequence: list[dict], number: int) -> tuple[float, ...] | None:
    """What Label Studio's page draws on its frame `number`: VideoRegion.isInLifespan, VideoRectangleRegion.getShape."""
    before = [k for k in sequence if k["frame"] <= number]
    if not before:
        return None
    a = before[-1]
    if a["frame"] != number and not a["enabled"]:
        return None
    b = next((k for k in sequence if k["frame"] > number), None)
    if a["frame"] == number or b is None:
        return tuple(a[name] for name in ("x", "y", "width", "height"))
    along = (number - a["frame"]) / (b["frame"] - a["frame"])
    return tuple(a[name] + along * (b[name] - a[name]) for name in ("x", "y", "width", "height"))


@pytest.fixture
def write(export_input: Callable, tmp_path: Path) -> Callable[..., list]:
    def do(*args: object, name: str = "label-studio", **changes: object) -> list:
        FORMATS[name].write_file(export_input(*args, **changes), tmp_path / "out.json")
        return json.loads((tmp_path / "out.json").read_text())

    return do


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    def do(document: Any, times: list[int] | None = None, **changes: Any) -> Any:
        path = tmp_path / "in.json"
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        times = times or [40 * i for i in range(50)]
        given = {"path": path, "info": facts(times), "table": table(times), "video_name": "clip.mp4"}
        return label_studio.read(ImportInput(**{**given, **changes}))

    return do


def region(*sequence: dict, **result: Any) -> dict:
    keyframes = [{"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "enabled": True, **k} for k in sequence]
    return {"id": "abc", "type": "videorectangle", "value": {"sequence": keyframes, "labels": ["dog"]}, **result}


def task(*results: dict, **fields: Any) -> dict:
    return {
        "id": 7,
        "data": {"video": "/data/upload/1/0a1b2c3d-clip.mp4"},
        "annotations": [{"result": list(results)}],
    } | fields


def test_every_box_is_on_its_frame(write: Callable, clip: RenderedClip, results: list[FrameResult]) -> None:
    (document,) = write()
    assert document["data"] == {"video": "clip.mp4"}
    assert document["meta"] == {"job": "j_1", "framerate": 25.0}
    (prediction,) = document["predictions"]
    assert prediction["score"] == 0.875
    assert [r["value"]["labels"] for r in prediction["result"]] == [[o.name] for o in clip.objects]
    for number, found in enumerate(prediction["result"]):
        assert (found["type"], found["from_name"], found["to_name"]) == ("videorectangle", "box", "video")
        assert found["value"]["framesCount"] == clip.frame_count
        assert all(k["time"] == k["frame"] / 25 for k in found["value"]["sequence"])
        for frame, result in enumerate(results):
            box = box_of(result.objects[number])
            assert box is not None
            expected = [100 * v / side for v, side in zip(box, (96, 64, 96, 64), strict=True)]
            assert page_box(found["value"]["sequence"], frame + 1) == pytest.approx(expected, abs=1e-3)


def test_an_object_ends_where_it_leaves(write: Callable) -> None:
    boxes = {
        0: None,
        1: None,
        2: (0, 0, 48, 32),
        3: (0, 0, 48, 32),
        4: (0, 0, 48, 32),
        5: None,
        6: (1, 0, 4, 4),
        7: None,
    }
    ((document),) = write([box_result(frame, box) for frame, box in boxes.items()])
    sequence = document["predictions"][0]["result"][0]["value"]["sequence"]
    assert [(k["frame"], k["enabled"], k["width"]) for k in sequence] == [
        (3, True, 50),
        (5, False, 50),
        (7, False, 4.1667),
    ]


def test_results_that_stop_early_do_not_stay_to_the_end(write: Callable) -> None:
    (document,) = write([box_result(frame, (0, 0, 9, 9)) for frame in range(3)])
    assert [k["enabled"] for k in document["predictions"][0]["result"][0]["value"]["sequence"]] == [True, False]
    (document,) = write([box_result(frame, (0, 0, 9, 9)) for frame in range(12)])
    assert [k["enabled"] for k in document["predictions"][0]["result"][0]["value"]["sequence"]] == [True, True]


def test_objects_without_a_place_are_left_out(write: Callable) -> None:
    point = KeypointResult("a", 3.0, 4.0, True, 0.5)
    other = KeypointResult("b", 9.0, 8.0, True, 0.5)
    results = [
        FrameResult(
            0,
            0,
            (
                ObjectResult(1, True, 0.5, None, None, (point,), "propagated"),
                ObjectResult(2, True, 0.25, None, None, (point, other), "propagated"),
            ),
        )
    ]
    (document,) = write(results)
    (found,) = document["predictions"][0]["result"]
    assert (found["id"], found["score"], document["predictions"][0]["score"]) == ("labelprop-2", 0.25, 0.25)
    assert found["value"]["sequence"][0]["width"] == pytest.approx(6 / 96 * 100, abs=1e-4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@examples(
    st.lists(st.integers(5, 130), min_size=1, max_size=25),
    st.data(),
    st.sampled_from([Fraction(25), Fraction("29.97"), Fraction(10), Fraction(60)]),
)
def test_the_page_shows_each_picture_with_its_own_box(
    tmp_path: Path, gaps: list[int], data: Any, rate: Fraction
) -> None:
    """On clips of variable frame rate at any configured rate, and back again as anchors."""
    times = [0, *np.cumsum(gaps).tolist()]
    info, frame_table = facts(times, fps=rate), table(times)
    box = st.one_of(st.none(), st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 40)] * 2))
    boxes = data.draw(st.lists(box, min_size=len(times), max_size=len(times)))
    results = [box_result(frame, None if b is None else tuple(map(float, b)), 9) for frame, b in enumerate(boxes)]
    objects = (LabelObject(9, "dög", (1, 2, 3)),)
    export = ExportInput(info, frame_table, objects, lambda: iter(results), lambda first: iter(()), "clip.mp4", "j_1")
    label_studio.write(export, tmp_path / "out.json")
    (document,) = json.loads((tmp_path / "out.json").read_text())
    page = PageFrames(frame_table, info.duration_ms, Fraction(str(document["meta"]["framerate"])))
    regions = document["predictions"][0]["result"]
    sequence = regions[0]["value"]["sequence"] if regions else []
    for number in range(1, page.count + 1):
        truth = boxes[page.index(number)]
        shown = page_box(sequence, number)
        if truth is None:
            assert shown is None
        else:
            assert shown == pytest.approx([100 * v / s for v, s in zip(truth, SIZE * 2, strict=True)], abs=1e-3)
    assume(regions)
    back = label_studio.read(ImportInput(tmp_path / "out.json", info, frame_table, "clip.mp4"))
    assert back.objects == [{"id": 9, "name": "dög"}]
    for anchor in back.anchors:
        (label,) = anchor["labels"]
        if label.get("absent"):
            assert boxes[anchor["frame"]] is None or not page.numbers(anchor["frame"])
        else:
            assert label["box"] == pytest.approx(boxes[anchor["frame"]], abs=1e-3)
    job = resolve(parse_job(json.dumps({"objects": back.objects, "anchors": back.anchors})), info)
    assert len(build_labels(job)[1]) == len(back.anchors)


def test_pictures_carry_masks_and_points_and_come_back(
    write: Callable, clip: RenderedClip, results: list[FrameResult], read: Callable
) -> None:
    document = write(name="label-studio-images")
    assert [entry["data"]["image"] for entry in document[:2]] == ["00000.jpg", "00001.jpg"]
    assert document[3]["meta"] == {"job": "j_1", "frame": 3, "time_ms": 120}
    points = [r for r in document[0]["predictions"][0]["result"] if r["type"] == "keypointlabels"]
    assert {r["parentID"] for r in points} == {"labelprop-2"}
    times = [40 * i for i in range(clip.frame_count)]
    back = read(document, times, info=facts(times))
    assert back.objects == [{"id": o.id, "name": o.name} for o in clip.objects]
    job = resolve(parse_job(json.dumps({"objects": back.objects, "anchors": back.anchors})), facts(times))
    _, anchors = build_labels(job)
    assert len(anchors) == clip.frame_count
    for anchor, result in zip(anchors, results, strict=True):
        for label, truth in zip(anchor.labels, result.objects, strict=True):
            assert label.mask is not None
            assert truth.mask is not None
            assert np.array_equal(label.mask, truth.mask)
            assert [(p.name, p.visible) for p in label.keypoints] == [(p.name, p.visible) for p in truth.keypoints]
            for point, true in zip(label.keypoints, truth.keypoints, strict=True):
                assert (point.x, point.y) == pytest.approx((true.x, true.y), abs=1e-3)


def test_a_zip_of_images_is_written_as_pictures(write: Callable, export_input: Callable) -> None:
    info = facts([0], container="zip")
    named = FrameTable(np.zeros(1, np.int64), np.ones(1, np.bool_), Fraction(1, 1000), names=("in/cat.png",))
    (document,) = write([box_result(0, (0, 0, 48, 32))], info=info, table=named)
    assert document["data"] == {"image": "cat.png"}
    (found,) = document["predictions"][0]["result"]
    assert (found["type"], found["value"]["width"], found["original_width"]) == ("rectanglelabels", 50, 96)


def test_keyframes_become_anchors_and_what_lies_between_does_not(read: Callable) -> None:
    back = read(
        [
            task(
                region(
                    {"frame": 1, "time": 0.04},
                    {"frame": 2, "time": 0.08, "auto": True},
                    {"frame": 11, "time": 0.44, "x": 50, "enabled": False},
                    {"frame": 21, "time": 0.84},
                ),
                region({"frame": 5, "time": 0.2}, id="def"),
            )
        ]
    )
    assert back.objects == [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog"}]
    box = {"box": [9.6, 12.8, 28.8, 25.6]}
    assert back.anchors == [
        {"frame": 0, "labels": [{"object": 1, **box}]},
        {"frame": 4, "labels": [{"object": 2, **box}]},
        {"frame": 10, "labels": [{"object": 1, "box": [48.0, 12.8, 28.8, 25.6]}]},
        {"frame": 11, "labels": [{"object": 1, "absent": True}]},
        {"frame": 20, "labels": [{"object": 1, **box}]},
    ]


def test_a_keyframe_right_after_the_end_or_at_the_videos_end_says_nothing_is_gone(read: Callable) -> None:
    back = read(task(region({"frame": 3, "enabled": False}, {"frame": 4}, {"frame": 50, "enabled": False})))
    assert [anchor["frame"] for anchor in back.anchors] == [2, 3, 49]
    assert all("box" in label for anchor in back.anchors for label in anchor["labels"])


def test_frames_go_by_time_at_the_configured_rate(read: Callable) -> None:
    """The page counted in steps of 1/30 s while the file has 25 frames a second."""
    back = read(task(region({"frame": 1, "time": 1 / 30}, {"frame": 31, "time": 31 / 30})))
    assert [anchor["frame"] for anchor in back.anchors] == [0, 25]
    variable = [0, 40, 80, 1000, 1040]
    back = read(task(region({"frame": 20, "time": 0.8}, {"frame": 26, "time": 1.04})), variable)
    assert [anchor["frame"] for anchor in back.anchors] == [2, 3]


def test_turned_and_protruding_rectangles(read: Callable) -> None:
    back = read(
        task(
            region(
                {"frame": 1, "x": -10, "width": 30},
                {"frame": 2, "x": 120},
                {"frame": 3, "x": 50, "y": 50, "rotation": 90},
                {"frame": 4, "x": 50, "y": 50, "width": 60, "height": 10, "rotation": 45},
            )
        )
    )
    first, second, third, fourth = (anchor["labels"][0] for anchor in back.anchors)
    assert first["box"] == [0, 12.8, 19.2, 25.6]
    assert second["absent"] is True
    assert third["polygon"][0] == pytest.approx([48, 32, 48, 60.8, 22.4, 60.8, 22.4, 32])
    ring = np.array(fourth["polygon"][0]).reshape(-1, 2)
    assert (ring >= 0).all()
    assert (ring <= SIZE).all()


def test_an_annotation_goes_before_a_prediction_and_a_skipped_one_does_not(read: Callable) -> None:
    skipped = {"was_cancelled": True, "result": [region({"frame": 9})]}
    given = task(
        annotations=[skipped, {"result": [region({"frame": 2})]}], predictions=[{"result": [region({"frame": 5})]}]
    )
    assert [anchor["frame"] for anchor in read(given).anchors] == [1]
    assert [anchor["frame"] for anchor in read({**given, "annotations": [skipped]}).anchors] == [4]
    assert [anchor["frame"] for anchor in read({"result": [region({"frame": 3})]}).anchors] == [2]


def test_labels_of_a_tag_of_their_own_name_the_region(read: Callable) -> None:
    bare = region({"frame": 1})
    del bare["value"]["labels"]
    label = {"id": "abc", "type": "labels", "value": {"labels": ["Äpfel"]}}
    relation = {"type": "relation", "from_id": "abc", "to_id": "def"}
    assert read(task(label, bare, relation)).objects == [{"id": 1, "name": "Äpfel"}]


def test_the_task_of_this_video_is_found_among_several(read: Callable) -> None:
    other = task(region({"frame": 9}), data={"video": "/data/upload/1/0a1b2c3d-other.mp4"})
    assert read([other, task(region({"frame": 2}))]).anchors[0]["frame"] == 1
    with pytest.raises(InputError, match=r"0 of them are of 'clip\.mp4'"):
        read([other, other])


def test_pictures_by_name_of_upload_and_local_file(read: Callable) -> None:
    rectangle = {
        "type": "rectanglelabels",
        "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["cat"]},
    }
    polygon = {
        "type": "polygonlabels",
        "value": {"points": [[0, 0], [50, 0], [0, 50]], "polygonlabels": ["dog"]},
    }
    point = {"type": "keypointlabels", "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["nose"]}}
    back = read(
        [
            task(rectangle, {**rectangle}, data={"image": "/data/upload/3/0a1b2c3d-00004.jpg"}),
            task(polygon, rectangle, point, data={"image": "/data/local-files/?d=clip/00007.png"}),
        ]
    )
    assert [o["name"] for o in back.objects] == ["cat", "cat", "dog", "nose"]
    assert [(a["frame"], [label["object"] for label in a["labels"]]) for a in back.anchors] == [
        (4, [1, 2]),
        (7, [3, 1, 4]),
    ]
    assert back.anchors[1]["labels"][2]["keypoints"] == [{"name": "nose", "x": 48, "y": 32, "visible": True}]


BRUSH = {
    "type": "brushlabels",
    "original_width": 50,
    "original_height": 64,
    "value": {"format": "rle", "rle": [1, 2], "brushlabels": ["cat"]},
}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{", "line 1"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "nested"),
        ([], "list of tasks"),
        ([3], "list of tasks"),
        ({"id": 7, "video": "x"}, "Task 7 has neither"),
        (task(), "no region"),
        (task({"value": {}}), "Task 7, result 0 has no `type`"),
        (task(annotations=[{"result": [4]}]), "no list of results"),
        (task({"type": "ellipselabels"}), "result 0 is a 'ellipselabels'"),
        (task({"type": "videorectangle", "value": {}}), "task 7, result 0 has no `value.sequence`"),
        (task({"type": "videorectangle", "value": []}), "task 7, result 0 has no `value.sequence`"),
        (task(region({"frame": "3"})), "result 0, keyframe 0 has no `frame`"),
        (task(region({"frame": 3, "x": None})), "keyframe 0 has no usable `x`"),
        (task(region({"frame": 3, "x": 1e300})), "keyframe 0 has no usable `x`"),
        (task(region({"frame": 3, "width": 0})), "keyframe 0 has no extent"),
        (task(region({"frame": 3, "rotation": "a"})), "keyframe 0 has no usable `rotation`"),
        (task(BRUSH, data={"image": "a.jpg"}), "shows a, a.jpg, which is none of the frames"),
        (task(BRUSH, data={"image": "00001.jpg"}), "50 x 64 pixels"),
        (task({**BRUSH, "original_width": 96}, data={"image": "00001.jpg"}), "result 0: The brush ends"),
        (task({**BRUSH, "value": {"format": "png"}}, data={"image": "00001.jpg"}), "no `rle`"),
        (task({"type": "rectangle"}, data={"image": "00001.jpg"}), "no `value`"),
        (task({"type": "polygon", "value": {"points": [[1, 2]]}}, data={"image": "00001.jpg"}), "three pairs"),
        (task({"type": "polygon", "value": {"points": [[1], 2, 3]}}, data={"image": "00001.jpg"}), "no pair"),
        (task({"type": "keypoint", "value": {"x": 101, "y": 1}}, data={"image": "00001.jpg"}), "0 to 100"),
        (task({"type": "keypoint", "value": {"x": 1, "y": 1}}, data={"image": "00001.jpg"}), "no label"),
        ([task(*[region({"frame": 1}, id=str(i)) for i in range(255)])], "at most 254"),
    ],
)
def test_what_cannot_be_read_is_named(read: Callable, document: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read(document)
    assert error.value.slug == "bad-annotations"


def test_a_folder_and_a_huge_file_are_refused(read: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="folder"):
        read(task(), path=tmp_path)
    monkeypatch.setattr(label_studio, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="10 bytes"):
        read(task(region({"frame": 1})))


@examples(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(
                st.sampled_from(["id", "data", "annotations", "result", "type", "value", "sequence", "frame", "x"]), c
            )
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_foreign_json_is_refused_and_never_crashes(read: Callable, document: Any) -> None:
    with pytest.raises(InputError):
        read(json.dumps(document).encode())
