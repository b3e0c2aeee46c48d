from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from model.catalogue import find_model
from model.presets import PRESETS


def test_models_and_presets_are_listed(client: TestClient) -> None:
    document = client.get("/v1/models").json()
    packaged = find_model("uvc-r18")
    assert {"name": "uvc-r18", "sha256": packaged.sha256, "metadata": packaged.metadata} in document["models"]
    assert [preset["name"] for preset in document["presets"]] == list(PRESETS)
    plain = next(preset for preset in document["presets"] if preset["name"] == "plain")
    assert plain["settings"]["working_size"] == 480


def test_a_model_in_the_home_directory_is_listed(client: TestClient, home: Path) -> None:
    (home / "models").mkdir()
    (home / "models" / "mine.safetensors").write_bytes(find_model("uvc-r18").path.read_bytes())
    assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["mine", "uvc-r18"]
