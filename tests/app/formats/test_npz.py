from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.formats import npz
from model.labels import FrameResult
from model.rendered import RenderedClip


def test_numpy_reads_the_clip(
    export_input: Callable, clip: RenderedClip, results: list[FrameResult], tmp_path: Path
) -> None:
    npz.write(export_input(), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        assert data["object_names"].tolist() == ["flower", "puppet"]
        assert data["keypoint_names"].tolist() == list(clip.skeleton.points)
        assert data["confidence"].shape == (12, 2)
        assert data["anchor"].any(axis=1).tolist() == [True] + [False] * 11
        for frame in range(12):
            masks = data[f"masks/{frame}"]
            assert masks.dtype == np.bool_
            assert np.array_equal(masks, np.stack([clip.mask(frame) == 1, clip.mask(frame) == 2]))
        assert np.allclose(data["boxes"][5, 1], results[5].objects[1].box)
        assert np.isnan(data["keypoints"][:, 0]).all()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_results_are_read_back(scene: Callable, data: st.DataObject) -> None:
    given_results = scene(data)
    with tempfile.TemporaryDirectory() as folder:
        npz.write(given_results, Path(folder) / "a.npz")
        with np.load(Path(folder) / "a.npz", allow_pickle=False) as arrays:
            ids, points = arrays["object_ids"].tolist(), arrays["keypoint_names"].tolist()
            assert arrays["object_names"].tolist() == [object_.name for object_ in given_results.objects]
            for n, result in enumerate(given_results.results()):
                assert (arrays["frames"][n], arrays["time_ms"][n]) == (result.frame, result.time_ms)
                for found in result.objects:
                    m = ids.index(found.object)
                    assert arrays["visible"][n, m] == found.visible
                    assert np.isnan(arrays["boxes"][n, m]).all() == (found.box is None)
                    if found.mask is not None:
                        assert np.array_equal(arrays[f"masks/{result.frame}"][m], found.mask)
                    if found.box is not None:
                        assert np.allclose(arrays["boxes"][n, m], found.box)
                    placed = {point.name: point for point in found.keypoints}
                    for k, name in enumerate(points):
                        values = arrays["keypoints"][n, m, k]
                        if name in placed:
                            point = placed[name]
                            assert np.allclose(values, (point.x, point.y, point.visible, point.confidence))
                        else:
                            assert np.isnan(values).all()
