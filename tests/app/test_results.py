from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.results import ResultStore
from app.storage import LocalStore
from model.labels import FrameResult, KeypointResult, ObjectResult

FRAMES = range(10, 70, 3)


def _result(frame: int) -> FrameResult:
    mask = np.zeros((6, 8), bool)
    mask[1 : 2 + frame % 4, 2:5] = True
    point = KeypointResult(name="tip", x=1.25, y=2.5, visible=True, confidence=0.5)
    found = ObjectResult(
        object=1, visible=True, confidence=0.875, mask=mask, box=None, keypoints=(point,), source="propagated"
    )
    return FrameResult(frame=frame, time_ms=40 * frame, objects=(found,))


def _same(left: FrameResult | None, right: FrameResult) -> bool:
    return left is not None and left.frame == right.frame and (left.objects[0].mask == right.objects[0].mask).all()


@pytest.fixture
def results(tmp_path: Path) -> ResultStore:
    return ResultStore(LocalStore(tmp_path), "jobs/local/j_1/0", FRAMES, 4)


def test_chunks_are_positions_not_frames(results: ResultStore) -> None:
    assert results.chunk_count == 5
    assert list(results.frames_of(0)) == [10, 13, 16, 19]
    assert list(results.frames_of(4)) == [58, 61, 64, 67]
    assert results.chunk_of(22) == 1
    with pytest.raises(ValueError, match="11"):
        results.chunk_of(11)


def test_reads_what_was_written_under_true_indices(results: ResultStore) -> None:
    results.write_chunk("f", 1, [_result(frame) for frame in (31, 22, 25, 28)])
    assert _same(results.read(25), _result(25))
    assert results.read(10) is None
    assert results.read(23) is None
    assert [result.frame for result in results.iter()] == [22, 25, 28, 31]
    assert results.count() == 4


def test_a_chunk_may_have_a_part_from_each_direction(results: ResultStore) -> None:
    results.write_chunk("b", 0, [_result(13), _result(10)])
    results.write_chunk("f", 0, [_result(16), _result(19)])
    assert [result.frame for result in results.iter()] == [10, 13, 16, 19]
    assert _same(results.read(13), _result(13))
    assert results.count() == 4


def test_iterates_a_window(results: ResultStore) -> None:
    for chunk in (0, 1, 3):
        results.write_chunk("f", chunk, [_result(frame) for frame in results.frames_of(chunk)])
    assert [result.frame for result in results.iter(14, 4)] == [16, 19, 22, 25]
    assert [result.frame for result in results.iter(30, 3)] == [31, 46, 49]
    assert [result.frame for result in results.iter(0, 0)] == []
    assert [result.frame for result in results.iter(1000)] == []


def test_what_another_process_writes_is_seen(results: ResultStore) -> None:
    assert results.read(10) is None
    other = ResultStore(results.store, "jobs/local/j_1/0", FRAMES, 4)
    other.write_chunk("f", 0, [_result(10)])
    assert _same(results.read(10), _result(10))


def test_writing_again_replaces(results: ResultStore) -> None:
    results.write_chunk("f", 0, [_result(10)])
    assert results.count() == 1
    results.write_chunk("f", 0, [_result(10), _result(13)])
    assert _same(results.read(13), _result(13))
    assert results.count() == 2


def test_a_result_outside_its_chunk_is_refused(results: ResultStore) -> None:
    for wrong in ([_result(22)], [_result(11)], [_result(10), _result(10)]):
        with pytest.raises(ValueError, match="does not belong"):
            results.write_chunk("f", 0, wrong)
    assert results.count() == 0


def test_the_file_is_as_documented_and_always_the_same_bytes(results: ResultStore) -> None:
    results.write_chunk("f", 0, [_result(13), _result(10)])
    key = "jobs/local/j_1/0/results/f-000000.jsonl.gz"
    packed = results.store.read(key)
    assert packed[4:8] == b"\0\0\0\0"
    header, *lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert header == {"schema_version": 1, "direction": "f", "chunk": 0, "chunk_frames": 4, "frames": 2}
    assert [line["frame"] for line in lines] == [10, 13]
    results.write_chunk("f", 0, [_result(10), _result(13)])
    assert results.store.read(key) == packed


@given(st.integers(0, 30), st.integers(1, 60), st.integers(1, 7), st.integers(1, 9), st.integers(0, 100), st.data())
def test_a_window_is_what_a_list_would_give(
    tmp_path_factory: pytest.TempPathFactory,
    first: int,
    length: int,
    stride: int,
    chunk_frames: int,
    start: int,
    data: st.DataObject,
) -> None:
    frames = range(first, first + length, stride)
    results = ResultStore(LocalStore(tmp_path_factory.mktemp("store")), "r", frames, chunk_frames)
    written = data.draw(st.sets(st.integers(0, results.chunk_count - 1), max_size=3))
    for chunk in written:
        results.write_chunk("f", chunk, [FrameResult(frame=f, time_ms=f, objects=()) for f in results.frames_of(chunk)])
    there = [frame for frame in frames if results.chunk_of(frame) in written]
    limit = data.draw(st.none() | st.integers(0, 20))
    expected = [frame for frame in there if frame >= start][:limit]
    assert [result.frame for result in results.iter(start, limit)] == expected
    assert results.count() == len(there)
