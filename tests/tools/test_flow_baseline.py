from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.rendered import render_clip
from worker.speed import flow

TOOL = Path(__file__).parents[2] / "tools" / "flow_baseline.py"


@pytest.mark.skipif(not flow.available(), reason="OpenCV is not installed (the extra `flow`)")
def test_flow_is_scored_like_a_model(tmp_path: Path) -> None:
    clip = render_clip(width=128, height=96, frame_count=6)
    images, masks = (tmp_path / kind / "480p" / "dance" for kind in ("JPEGImages", "Annotations"))
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for i, image in enumerate(clip.frames()):
        Image.fromarray(image).save(images / f"{i:05}.jpg")
        Image.fromarray(np.where(clip.mask(i) == 2, 255, 0).astype(np.uint8)).save(masks / f"{i:05}.png")
    report = tmp_path / "report.json"
    command = [sys.executable, str(TOOL), "davis", "--root", str(tmp_path), "--json", str(report), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert 0.6 < json.loads(report.read_text())["mean"]["J"] < 1
