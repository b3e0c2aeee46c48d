from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from app.formats import youtube_vos
from model.labels import FrameResult, LabelObject, ObjectResult
from model.rendered import RenderedClip


def test_the_layout_is_the_data_sets_own(export_input: Callable, clip: RenderedClip, tmp_path: Path) -> None:
    youtube_vos.write(export_input(video_name="my/clip 1.mp4"), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        pictures = [f"Annotations/my_clip_1/{frame:05d}.png" for frame in range(12)]
        assert archive.namelist() == [*pictures, "meta.json"]
        for frame, name in enumerate(pictures):
            image = Image.open(io.BytesIO(archive.read(name)))
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), clip.mask(frame))
        meta = json.loads(archive.read("meta.json"))
    frames = [f"{frame:05d}" for frame in range(12)]
    seen = {id_: [name for name in frames if (clip.mask(int(name)) == id_).any()] for id_ in (1, 2)}
    objects = {"1": {"category": "flower", "frames": seen[1]}, "2": {"category": "puppet", "frames": seen[2]}}
    assert meta == {"videos": {"my_clip_1": {"objects": objects}}}


def test_an_object_is_on_the_frames_where_it_is_seen(export_input: Callable, tmp_path: Path) -> None:
    full = np.ones((64, 96), bool)
    hidden = tuple(ObjectResult(id_, True, 1.0, full, None, (), "propagated") for id_ in (1, 2))
    results = [FrameResult(0, 0, hidden), FrameResult(1, 40, hidden[:1])]
    objects = (LabelObject(1, "a", (0, 0, 0)), LabelObject(2, "b", (0, 0, 0)))
    youtube_vos.write(export_input(results, objects=objects), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        found = json.loads(archive.read("meta.json"))["videos"]["clip"]["objects"]
    assert {id_: entry["frames"] for id_, entry in found.items()} == {"1": ["00001"], "2": ["00000"]}
