"""OpenCV's DIS optical flow carrying the masks: what somebody without a GPU would take instead.

Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), medium preset, from every frame to the one
before it, at the size at which the encoder sees the frames. Each region is carried as a soft mask of 8 bits, taken from
where the flow points to with bilinear interpolation; regions compete at every pixel with each other and with the
background, whose share is what they leave. OpenCV is an optional extra and is imported here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.jobspec import JobSpec, build_labels
from app.results import ResultStore
from model.errors import InputError
from model.geometry import Grid
from model.labels import Anchor, FrameResult, LabelObject, ObjectResult
from model.labels.raster import tight_box
from model.labels.types import Mask
from model.presets import find_preset
from model.video import VideoSource
from worker.run import Progress
from worker.speed.stopwatch import Watch, unwatched

HOW_TO_GET = "not installed: pip install 'labelprop[flow]'"
"""What stands where the figures would be."""


def opencv() -> Any:
    """OpenCV's module.

    Raises:
        InputError: slug `no-opencv`, where it is not installed.
    """
    try:
        return import_module("cv2")
    except ImportError:
        detail = f"Optical flow needs OpenCV, which is {HOW_TO_GET}."
        raise InputError(detail, slug="no-opencv") from None


def available() -> bool:
    """Whether OpenCV is installed."""
    try:
        opencv()
    except InputError:
        return False
    return True


class FlowCarrier:
    """Carries regions from frame to frame, forward, one frame at a time.

    Args:
        grid: the sizes of the frames and of what the flow is computed on.
        image: the first frame, (height, width, 3) uint8 RGB.
        regions: by object id, each (height, width) bool.
        threads: of OpenCV; 0 takes every core.

    Raises:
        InputError: slug `no-opencv`.
    """

    def __init__(self, grid: Grid, image: NDArray[np.uint8], regions: Mapping[int, Mask], *, threads: int = 0) -> None:
        self._cv = opencv()
        self._cv.setNumThreads(threads or -1)
        self._flow = self._cv.DISOpticalFlow_create(self._cv.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._full, self._work = (grid.width, grid.height), (grid.working_width, grid.working_height)
        x, y = (np.arange(side, dtype=np.float32) for side in self._work)
        self._place = np.stack(np.broadcast_arrays(x, y[:, None]), axis=2)  # (height, width, 2): each pixel's own
        self._before = self._grey(image)
        # In ascending order, so that of equal shares the higher id wins, as everywhere.
        self._shares = {i: self._reduced(mask.astype(np.uint8) * 255) for i, mask in sorted(regions.items())}

    def step(self, image: NDArray[np.uint8]) -> dict[int, Mask]:
        """The regions on the next frame, each (height, width) bool."""
        now = self._grey(image)
        where = self._place + self._flow.calc(now, self._before, None)
        # In fixed point: several times as fast as floating point, and finer than the flow is.
        maps = self._cv.convertMaps(where, None, self._cv.CV_16SC2)
        for identity, share in self._shares.items():
            self._shares[identity] = self._cv.remap(share, *maps, self._cv.INTER_LINEAR)
        self._before = now
        return self._masks()

    def _masks(self) -> dict[int, Mask]:
        best = np.zeros(self._full[::-1], np.uint8)
        winner, total = np.zeros_like(best), np.zeros(best.shape, np.uint16)
        for identity, reduced in self._shares.items():
            share = reduced
            if self._full != self._work:
                share = self._cv.resize(reduced, self._full, interpolation=self._cv.INTER_LINEAR)
            winner[(share >= best) & (share > 0)] = identity
            np.maximum(best, share, out=best)
            total += share
        winner[best + total <= 255] = 0
        return {identity: winner == identity for identity in self._shares}

    def _grey(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._reduced(self._cv.cvtColor(image, self._cv.COLOR_RGB2GRAY))

    def _reduced(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._full == self._work:
            return picture
        return self._cv.resize(picture, self._work, interpolation=self._cv.INTER_AREA)


def run_flow(
    spec: JobSpec,
    source: VideoSource,
    results: ResultStore,
    *,
    on_frame: Callable[[Progress], None] = lambda progress: None,
    watch: Watch = unwatched,
    threads: int = 0,
) -> None:
    """Does a job as `worker.run.run_job` does it, by optical flow: from the file to stored results.

    Args:
        spec: the job; its one anchor gives the regions of its first frame.
        source: its video.
        results: where the results go.
        on_frame: called after every frame.
        watch: told of the stages `decode`, `flow` and `store`.
        threads: of OpenCV; 0 takes every core.

    Raises:
        InputError: slug `no-opencv`; or the job has more than regions on its first frame to carry, or none.
    """
    objects, anchors = build_labels(spec)
    frames, anchor = spec.options.frames, anchors[0]
    regions = {label.object: label.mask for label in anchor.labels if label.mask is not None}
    if len(anchors) > 1 or anchor.frame != frames.start or not regions:
        raise InputError("Optical flow carries masks or boxes from the first frame on, and nothing else.")
    options, video = spec.options, spec.video
    grid = Grid.of(find_preset(options.preset), video.width, video.height, options.working_size)
    reading = iter(source.frames(frames.start, frames.stop, frames.step))
    carrier: FlowCarrier | None = None
    for chunk in range(results.chunk_count):
        done: list[FrameResult] = []
        for index in results.frames_of(chunk):
            with watch("decode"):
                frame = next(reading)
            with watch("flow"):
                if carrier is None:
                    carrier, masks = FlowCarrier(grid, frame.image, regions, threads=threads), regions
                else:
                    masks = carrier.step(frame.image)
                done.append(_result(frame.index, frame.time_ms, objects, masks, anchor))
            count = frames.index(index) + 1
            on_frame(Progress(count, len(frames), count, len(frames)))
        with watch("store"):
            results.write_chunk("f", chunk, done)


def _result(
    frame: int, time_ms: int, objects: tuple[LabelObject, ...], masks: Mapping[int, Mask], anchor: Anchor
) -> FrameResult:
    given = {label.object: label for label in anchor.labels} if frame == anchor.frame else {}
    found = []
    for declared in objects:
        label, mask = given.get(declared.id), masks.get(declared.id)
        box = None if mask is None else tight_box(mask)
        if label is not None:
            found.append(ObjectResult(declared.id, not label.absent, 1.0, mask, label.box or box, (), "anchor"))
        else:  # flow says nothing of how sure it is
            visible = mask is not None and bool(mask.any())
            found.append(ObjectResult(declared.id, visible, 0.0, mask, box, (), "propagated"))
    return FrameResult(frame=frame, time_ms=time_ms, objects=tuple(found))
