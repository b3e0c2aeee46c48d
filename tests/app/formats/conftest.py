"""Fixtures for the formats' tests: true results of the rendered clip as what an export gets."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.anchors import Faults, read_anchors
from app.formats import FORMATS, ExportInput, Imported, ImportInput
from app.formats.packing import write_zip
from app.schemas.labels import AnchorIn, ObjectIn
from model.labels import FrameResult, KeypointResult, Label, LabelObject, ObjectResult, Skeleton
from model.labels.raster import tight_box
from model.rendered import RenderedClip
from model.video import FrameTable, VideoInfo, open_video


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


def _name(data: st.DataObject) -> str:
    letters = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
    return data.draw(st.text(letters | st.just(" "), min_size=1, max_size=6).map(str.strip).filter(_is_name))


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable()


@pytest.fixture(scope="session")
def scene() -> Callable[..., ExportInput]:
    """Draws results of a job that never ran: a few small frames, objects with any of masks, boxes and keypoints."""

    def draw(data: st.DataObject, *, kinds: tuple[str, ...] = ("mask", "box", "keypoints")) -> ExportInput:
        height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
        count = data.draw(st.integers(1, 40))
        ids = data.draw(st.lists(st.integers(1, 254), min_size=1, max_size=3, unique=True))
        objects = []
        for id_ in ids:
            points = tuple(data.draw(st.lists(st.sampled_from("abcde"), unique=True, max_size=3)))
            skeleton = Skeleton(points, ((0, len(points) - 1),)) if len(points) > 1 else None
            objects.append(LabelObject(id_, _name(data), (1, 2, 3), skeleton))
        frames = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3)))
        results = []
        for frame in frames:
            found = [_found(data, object_, (height, width), kinds) for object_ in objects]
            results.append(FrameResult(frame, 33 * frame, tuple(found)))
        info = VideoInfo(
            "mp4", "h264", width, height, count, 33 * count, Fraction(30000, 1001), Fraction(1), 0, 1
        )  # fmt: skip
        table = FrameTable(np.arange(count, dtype=np.int64) * 1001, np.ones(count, np.bool_), Fraction(1, 30000))
        return ExportInput(info, table, tuple(objects), lambda: iter(results), lambda _: iter(()), "a clip.mp4")

    return draw


def _found(data: st.DataObject, object_: LabelObject, shape: tuple[int, int], kinds: tuple[str, ...]) -> ObjectResult:
    height, width = shape
    kind = data.draw(st.sampled_from(["nothing", *kinds]))
    mask = box = None
    points: tuple[KeypointResult, ...] = ()
    if kind == "mask":
        bits = data.draw(st.integers(1, 2 ** (height * width) - 1))
        mask = np.array([bits >> k & 1 for k in range(height * width)], np.bool_).reshape(shape)
        box = tight_box(mask)
    elif kind == "box":
        left, top = data.draw(st.integers(0, 100 * width - 100)), data.draw(st.integers(0, 100 * height - 100))
        size = data.draw(st.integers(100, 100 * width - left)), data.draw(st.integers(100, 100 * height - top))
        box = (left / 100, top / 100, size[0] / 100, size[1] / 100)
    if kind == "keypoints" or (kind == "mask" and "keypoints" in kinds and data.draw(st.booleans())):
        names = object_.skeleton.points if object_.skeleton is not None else ("p", "q")
        points = tuple(
            KeypointResult(
                name,
                data.draw(st.integers(1, 100 * width)) / 100,
                data.draw(st.integers(1, 100 * height)) / 100,
                data.draw(st.booleans()),
                0.5,
            )
            for name in data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
        )
    visible = mask is not None or box is not None or bool(points)
    return ObjectResult(object_.id, visible, 0.75 * visible, mask, box, points, "anchor")


@pytest.fixture(scope="session")
def reread() -> Callable[..., tuple[Imported, dict[tuple[int, int], Label]]]:
    """Writes results in a format and reads them back: what was read, and the labels as a job takes them."""

    def do(name: str, given: ExportInput, **options: Any) -> tuple[Imported, dict[tuple[int, int], Label]]:
        given = replace(given, options=replace(given.options, **options))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FORMATS[name].filename
            FORMATS[name].write_file(given, path)
            read = FORMATS[name].read
            assert read is not None
            imported = read(ImportInput(path, given.info, given.table, given.video_name))
        return imported, labels_of(imported, given.info)

    return do


@pytest.fixture(scope="session")
def read_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Imported]:
    """Reads files as the labels of a video of 10 frames of 8 x 6 pixels; several are put into a zip."""

    def do(
        name: str,
        files: dict[str, str | bytes],
        *,
        zipped: bool | None = None,
        names: tuple[str, ...] | None = None,
        size: tuple[int, int] = (8, 6),
    ) -> Imported:
        folder = tmp_path_factory.mktemp("labels")
        data = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        if zipped or (zipped is None and len(data) > 1):
            path = folder / "labels.zip"
            write_zip(path, data.items())
        else:
            path = folder / next(iter(data))
            path.write_bytes(data[path.name])
        count = 10 if names is None else len(names)
        info = VideoInfo("mp4", "h264", *size, count, 400, Fraction(25), Fraction(1), 0, 1)
        pts = np.arange(count, dtype=np.int64)
        table = FrameTable(pts, np.ones(count, np.bool_), Fraction(1, 25), names=names)
        read = FORMATS[name].read
        assert read is not None
        return read(ImportInput(path, info, table, "clip"))

    return do


def labels_of(imported: Imported, info: VideoInfo) -> dict[tuple[int, int], Label]:
    """The labels by frame and object, checked and rasterised exactly as those of a job."""
    anchors = TypeAdapter(list[AnchorIn]).validate_json(json.dumps(imported.anchors))
    objects = TypeAdapter(list[ObjectIn]).validate_json(json.dumps(imported.objects))
    faults = Faults()
    skeletons = {object_.id: object_.skeleton for object_ in objects}
    read = list(read_anchors(anchors, skeletons, info, range(info.frame_count), faults))
    faults.stop()
    return {(anchor.frame, label.object): label for anchor in read for label in anchor.labels}
