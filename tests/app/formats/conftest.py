"""Fixtures for the formats' tests: true results of the rendered clip as what an export gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.formats import ExportInput
from model.labels import FrameResult
from model.rendered import RenderedClip
from model.video import open_video


@pytest.fixture
def results(clip: RenderedClip, truth: Callable[[int], FrameResult]) -> list[FrameResult]:
    """The clip's true labels as results, all frames."""
    return [truth(frame) for frame in range(clip.frame_count)]


@pytest.fixture
def export_input(
    clip: RenderedClip, clip_file: Path, results: list[FrameResult]
) -> Iterator[Callable[..., ExportInput]]:
    """Makes the input of an export of given results (all of the clip's by default), of a given video file."""
    opened = []

    def make(some: list[FrameResult] = results, path: Path = clip_file, **changes: object) -> ExportInput:
        source = open_video(path)
        opened.append(source)
        given = {
            "info": source.info,
            "table": source.table,
            "objects": clip.objects,
            "results": lambda: iter(some),
            "frames": lambda first: source.frames(first),
            "video_name": "clip.mp4",
            "job_id": "j_1",
        }
        return ExportInput(**{**given, **changes})  # type: ignore[arg-type]

    yield make
    for source in opened:
        source.close()
