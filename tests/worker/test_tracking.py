from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.metrics import jaccard
from model.features import FeatureExtractor
from model.labels import Anchor, Label
from model.presets import find_preset
from model.propagator import Propagator
from model.rendered import RenderedClip, render_clip
from model.video import Frame
from worker.tracking import Tracker

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(width=128, height=96, frame_count=6)


@pytest.fixture
def tracker(extractor: FeatureExtractor) -> Tracker:
    return Tracker(extractor, find_preset("plain"))


def label(clip: RenderedClip, frame: int, object_id: int) -> Label:
    return Label(9, clip.mask(frame) == object_id)


def test_objects_move_as_in_a_job_that_goes_forward(
    tracker: Tracker, extractor: FeatureExtractor, clip: RenderedClip
) -> None:
    anchor = Anchor(0, tuple(Label(id_, clip.mask(0) == id_) for id_ in (1, 2)))
    job = Propagator.for_video(
        extractor, find_preset("plain"), clip.objects, [anchor], width=clip.width, height=clip.height
    )
    expected = list(job.run(Frame(i, 0, clip.frame(i)) for i in range(5)))
    first = tracker.prepare(clip.frame(0))
    targets = [tracker.start(first, label(clip, 0, object_id)) for object_id in (1, 2)]
    for frame in range(1, 5):
        prepared = tracker.prepare(clip.frame(frame))
        found = [tracker.step(prepared, target).mask for target in targets]
        assert all(np.array_equal(a, b.mask) for a, b in zip(found, expected[frame].objects, strict=True))
        assert jaccard(found[0], clip.mask(frame) == 1) > 0.4


def test_objects_of_one_picture_share_a_memory_and_one_step(
    tracker: Tracker, clip: RenderedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tracker.prepare(clip.frame(0))
    targets = [tracker.start(first, label(clip, 0, object_id)) for object_id in (1, 2)]
    steps = []
    advance = type(targets[0]._group).advance
    monkeypatch.setattr(type(targets[0]._group), "advance", lambda *a: steps.append(1) or advance(*a))
    for frame in (1, 2):
        prepared = tracker.prepare(clip.frame(frame))
        for target in targets:
            tracker.step(prepared, target)
    assert len(steps) == 2
    # The same picture prepared anew is another one: an object drawn again does not compete with its first attempt.
    again = tracker.start(tracker.prepare(clip.frame(0)), label(clip, 0, 1))
    assert again._group is not targets[0]._group


def test_one_that_falls_behind_goes_its_own_way(tracker: Tracker, clip: RenderedClip) -> None:
    first = tracker.prepare(clip.frame(0))
    ahead, behind = (tracker.start(first, label(clip, 0, object_id)) for object_id in (1, 2))
    frames = [tracker.prepare(clip.frame(frame)) for frame in (1, 2, 3)]
    expected = tracker.step(frames[0], behind).mask
    tracker.step(frames[0], ahead)
    for frame in frames[1:]:
        tracker.step(frame, ahead)
    assert ahead._group is behind._group
    found = tracker.step(frames[1], behind)  # the second picture for it, the fourth for the group
    assert ahead._group is not behind._group
    assert jaccard(found.mask, clip.mask(2) == 2) > 0.5
    assert expected is not None


def test_memories_are_bounded_and_an_idle_one_starts_from_its_picture(
    extractor: FeatureExtractor, clip: RenderedClip
) -> None:
    tracker = Tracker(extractor, find_preset("plain"), max_memories=1)
    first, second = (tracker.start(tracker.prepare(clip.frame(frame)), label(clip, frame, 1)) for frame in (0, 1))
    next_ = tracker.prepare(clip.frame(2))
    tracker.step(next_, first)
    tracker.step(next_, second)
    assert first._group._propagator is None
    assert second._group._propagator is not None
    assert jaccard(tracker.step(tracker.prepare(clip.frame(3)), first).mask, clip.mask(3) == 1) > 0.4


def test_a_picture_of_another_size_is_refused(tracker: Tracker, clip: RenderedClip) -> None:
    target = tracker.start(tracker.prepare(clip.frame(0)), label(clip, 0, 1))
    with pytest.raises(ValueError, match="another size"):
        tracker.step(tracker.prepare(np.zeros((48, 64, 3), np.uint8)), target)
