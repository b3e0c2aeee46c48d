from __future__ import annotations

import json

import numpy as np
import pytest

from model.errors import LabelError
from model.labels import FrameResult, KeypointResult, ObjectResult
from model.labels.jsonio import result_from_json, result_to_json


@pytest.fixture
def result() -> FrameResult:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    return FrameResult(
        frame=41,
        time_ms=1640,
        objects=(
            ObjectResult(
                object=1,
                visible=True,
                confidence=0.98765,
                mask=mask,
                box=None,
                keypoints=(KeypointResult("head", 3.14159, -0.001, True, 0.5004),),
                source="propagated",
            ),
            ObjectResult(
                object=2,
                visible=True,
                confidence=1.0,
                mask=mask,
                box=(1.2345, 0.98765, 3.3333, 2.6666),
                keypoints=(KeypointResult("hand", 3.14159, 2.71828, False, 1.0),),
                source="anchor",
            ),
            ObjectResult(3, False, 0.0, None, None, (), "propagated"),
            ObjectResult(4, False, 0.25, np.zeros((6, 8), bool), None, (), "propagated"),
        ),
    )


def test_the_json_is_the_contracts(result: FrameResult) -> None:
    document = json.loads(json.dumps(result_to_json(result), allow_nan=False))
    assert list(document) == ["frame", "time_ms", "objects"]
    assert (document["frame"], document["time_ms"]) == (41, 1640)
    first, second, third, fourth = document["objects"]
    assert list(first) == ["object", "visible", "confidence", "mask", "box", "keypoints", "source"]
    assert first["mask"]["size"] == [6, 8]
    assert isinstance(first["mask"]["counts"], str)
    assert first["box"] == [2.0, 1.0, 5.0, 3.0]
    assert first["confidence"] == 0.988
    assert first["keypoints"] == [{"name": "head", "x": 3.14, "y": 0.0, "visible": True, "confidence": 0.5}]
    assert (first["source"], second["source"]) == ("propagated", "anchor")
    assert (third["mask"], third["box"], third["visible"]) == (None, None, False)
    assert (fourth["mask"], fourth["box"]) == ({"size": [6, 8], "counts": "`1"}, None)


def test_minus_zero_is_written_as_zero(result: FrameResult) -> None:
    assert "-0.0" not in json.dumps(result_to_json(result))


def test_an_anchors_coordinates_are_exactly_those_given(result: FrameResult) -> None:
    anchor = result_to_json(result)["objects"][1]
    assert anchor["box"] == [1.2345, 0.98765, 3.3333, 2.6666]
    assert (anchor["keypoints"][0]["x"], anchor["keypoints"][0]["y"]) == (3.14159, 2.71828)


def test_what_was_written_reads_back_exactly(result: FrameResult) -> None:
    text = json.dumps(result_to_json(result))
    once = result_from_json(json.loads(text))
    assert json.dumps(result_to_json(once)) == text
    assert result_from_json(json.loads(json.dumps(result_to_json(once)))) == once
    assert once.objects[1] == result.objects[1]
    assert np.array_equal(once.objects[0].mask, result.objects[0].mask)


def test_numpy_values_are_written_as_plain_json() -> None:
    entry = ObjectResult(
        np.uint8(1),  # type: ignore[arg-type]
        np.bool_(True),  # type: ignore[arg-type]
        np.float32(0.1),  # type: ignore[arg-type]
        None,
        (np.float32(1.5), np.int64(2), 3, 4),  # type: ignore[arg-type]
        (KeypointResult("a", np.float32(1.25), np.float64(2), np.bool_(False), np.float32(1)),),  # type: ignore[arg-type]
        "propagated",
    )
    document = result_to_json(FrameResult(np.int64(3), np.int64(120), (entry,)))  # type: ignore[arg-type]
    assert json.loads(json.dumps(document)) == {
        "frame": 3,
        "time_ms": 120,
        "objects": [
            {
                "object": 1,
                "visible": True,
                "confidence": 0.1,
                "mask": None,
                "box": [1.5, 2.0, 3.0, 4.0],
                "keypoints": [{"name": "a", "x": 1.25, "y": 2.0, "visible": False, "confidence": 1.0}],
                "source": "propagated",
            }
        ],
    }


def test_a_frame_larger_than_the_cap_on_foreign_masks_is_still_read() -> None:
    mask = np.zeros((4000, 4000), bool)
    mask[5, 5] = True
    result = FrameResult(0, 0, (ObjectResult(1, True, 1.0, mask, (5.0, 5.0, 1.0, 1.0), (), "propagated"),))
    assert result_from_json(result_to_json(result)) == result


def test_a_damaged_mask_is_a_label_error(result: FrameResult) -> None:
    document = result_to_json(result)
    document["objects"][0]["mask"]["counts"] = "0"
    with pytest.raises(LabelError):
        result_from_json(document)
