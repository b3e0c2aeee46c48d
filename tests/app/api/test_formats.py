from __future__ import annotations

from fastapi.testclient import TestClient

from app.formats import FORMATS


def test_every_row_of_the_table_is_listed(client: TestClient) -> None:
    answer = client.get("/v1/formats")
    assert answer.status_code == 200
    listed = {entry["name"]: entry for entry in answer.json()["formats"]}
    assert list(listed) == list(FORMATS)
    assert listed["coco"] == {
        "name": "coco",
        "media_type": "application/json",
        "filename": "coco.json",
        "label_types": ["mask", "polygon", "box", "keypoints"],
        "directions": ["export", "import"],
        "options": [],
    }
    assert listed["mots"]["directions"] == ["export"]
    assert listed["overlay"]["options"] == ["outline", "opacity", "names", "confidence"]
