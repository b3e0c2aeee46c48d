"""One job from its first frame to its last result, in chunks that survive being interrupted.

Both the service's workers and `labelprop propagate` come through here, so that they give the same labels. The backward
pass goes first: where it alone decides, its results are final; where the forward pass will meet it, its soft maps wait
in the job's scratch folder. The forward pass then goes through, meets them, and finishes. Either keeps memory constant.

After each chunk the results are stored first and the checkpoint second. A run that is killed in between computes that
chunk again, from the same state to the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from app.files import JobFiles
from app.jobspec import JobSpec, build_labels
from app.results import Direction, ResultStore
from model.channels import ChannelSet
from model.decoding import decode
from model.errors import InputError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept import KeptFeatures, Passage
from model.labels import FrameResult
from model.lookahead import encode_ahead
from model.meeting import Meeting
from model.plan import Plan
from model.presets import find_preset
from model.propagator import Propagator, SoftMaps
from model.video import Frame, VideoSource, read_backward, read_forward
from worker.interrupted import Interrupted

CHECKPOINT_VERSION = 3


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        steps_done, steps_total: frames that the network has worked through, both passes counted.
        frames_done, frames_total: frames whose labels are final.
    """

    steps_done: int
    steps_total: int
    frames_done: int
    frames_total: int


def run_job(
    spec: JobSpec,
    source: VideoSource,
    results: ResultStore,
    files: JobFiles,
    extractor: FeatureExtractor,
    *,
    on_frame: Callable[[Progress], None],
    on_checkpoint: Callable[[], None] = lambda: None,
    kept: KeptFeatures | None = None,
) -> None:
    """Propagates a job's labels and stores its results; continues from the checkpoint where there is one.

    Args:
        spec: the job.
        source: its video.
        results: where the results go.
        files: where the checkpoint and the scratch folder go.
        extractor: the job's model, on its device.
        on_frame: called after every frame, and after every chunk of frames that no pass reaches; it may raise
            `Interrupted`, which ends the run and leaves the checkpoint.
        on_checkpoint: called after every checkpoint.
        kept: features of earlier runs over the same video with the same model. They save time and change no result.

    Raises:
        InputError: a frame that does not decode, named; results before it are stored.
    """
    _Run(spec, source, results, files, extractor, on_frame, on_checkpoint, kept).go()


class _Run:
    def __init__(
        self,
        spec: JobSpec,
        source: VideoSource,
        results: ResultStore,
        files: JobFiles,
        extractor: FeatureExtractor,
        on_frame: Callable[[Progress], None],
        on_checkpoint: Callable[[], None],
        kept: KeptFeatures | None,
    ) -> None:
        self.kept = kept
        self.source, self.results, self.files, self.extractor = source, results, files, extractor
        self.on_frame, self.on_checkpoint = on_frame, on_checkpoint
        self.preset = find_preset(spec.options.preset)
        objects, anchors = build_labels(spec)
        grid = Grid.of(self.preset, spec.video.width, spec.video.height, spec.options.working_size)
        self.channels = ChannelSet(objects, anchors, grid, box_sides=self.preset.box_sides)
        self.meeting = Meeting(self.channels)
        self.frames = spec.options.frames
        self.plan = Plan(self.frames, tuple(anchor.frame for anchor in anchors), spec.options.direction)
        self.steps_total = len(self.plan.backward) + len(self.plan.forward)
        self.steps = 0
        self.done = 0

    def go(self) -> None:
        state = self._checkpoint()
        if state is None:
            self._unreached()
            self._pass("b", None, None)
            self._pass("f", None, None)
            return
        position = json.loads(str(state.pop("position")))
        self.done, self.steps = position["done"], position["steps"]
        if position["direction"] == "b":
            self._pass("b", position["chunk"], state)
            self._pass("f", None, None)
        else:
            self._pass("f", position["chunk"], state or None)

    def _unreached(self) -> None:
        """Frames on the side that the caller did not ask for: nothing is known there, and that is their result.

        They go under the other direction's name, so that no file is shared with the pass.
        """
        direction: Direction = "b" if self.plan.direction == "forward" else "f"
        nothing = torch.zeros(len(self.channels), self.channels.grid.rows, self.channels.grid.columns)
        unknown = np.zeros(len(self.channels), bool)
        positions = self.plan.unreached
        for chunk in _chunks(positions, self.results.chunk_frames):
            frames = [self.frames[p] for p in _within(positions, chunk, self.results.chunk_frames)]
            self.results.write_chunk(direction, chunk, [self._decode(SoftMaps(f, nothing, unknown)) for f in frames])
            self.done += len(frames)
            self.on_frame(Progress(self.steps, self.steps_total, self.done, len(self.frames)))

    def _pass(self, direction: Direction, chunk: int | None, state: Mapping[str, np.ndarray] | None) -> None:
        """Goes through one direction's positions chunk by chunk, beginning with `chunk` (None: with the first)."""
        positions = self.plan.backward if direction == "b" else self.plan.forward
        chunks = list(_chunks(positions, self.results.chunk_frames))
        if direction == "b":
            chunks.reverse()
        if chunk is not None:
            chunks = chunks[chunks.index(chunk) :]
        if not chunks:
            return
        propagator = Propagator(self.extractor, self.channels, self.preset)
        edge = _within(positions, chunks[0], self.results.chunk_frames)
        left = range(positions.start, edge.stop) if direction == "b" else range(edge.start, positions.stop)
        with self._passage(left) as kept, closing(self._features(direction, left, kept)) as features:
            if state is not None:
                propagator.restore(state, self.source.frame, kept.load if kept else lambda index: None)
            for current, following in pairwise([*chunks, None]):
                assert current is not None
                count = len(_within(positions, current, self.results.chunk_frames))
                self._chunk(direction, current, propagator, islice(features, count))
                self._save(direction, following, propagator)

    def _passage(self, positions: range) -> AbstractContextManager[Passage | None]:
        if self.kept is None:
            return nullcontext()
        return self.kept.passage(self.extractor, self.channels.grid, self.frames[positions.start : positions.stop])

    def _features(
        self, direction: Direction, positions: range, kept: Passage | None
    ) -> Generator[tuple[Frame, Tensor]]:
        covered = self.frames[positions.start : positions.stop]
        where = (self.source, covered[0], covered[-1] + 1, covered.step)
        later = None if kept is None else kept.holds
        if direction == "b":
            frames = read_backward(*where, chunk=self.results.chunk_frames, later=later)
        else:
            frames = read_forward(*where, later=later)
        return encode_ahead(self.extractor, self.channels.grid, frames, kept=kept)

    def _chunk(
        self, direction: Direction, chunk: int, propagator: Propagator, frames: Iterator[tuple[Frame, Tensor]]
    ) -> None:
        """Works through one chunk and stores what it gave."""
        met = self._met(chunk) if direction == "f" else {}
        final: list[FrameResult] = []
        kept: list[SoftMaps] = []
        try:
            for soft in propagator.steps(frames):
                position = self.frames.index(soft.frame)
                if direction == "b" and not self.plan.final_backward(position):
                    kept.append(soft)
                else:
                    soft = self.meeting.join(soft, met[soft.frame]) if soft.frame in met else soft
                    final.append(self._decode(soft))
                self.steps += 1
                done = self.done + len(final)
                self.on_frame(Progress(self.steps, self.steps_total, done, len(self.frames)))
        except (InputError, Interrupted) as ending:
            if final and (isinstance(ending, InputError) or ending.keep):
                self.results.write_chunk(direction, chunk, final)
            raise
        if final:
            self.results.write_chunk(direction, chunk, final)
        if kept:
            self.files.store.write_atomic(self._scratch(chunk), _pack_soft(kept))
        self.done += len(final)

    def _decode(self, soft: SoftMaps) -> FrameResult:
        time_ms = self.source.table.time_ms(soft.frame)
        return decode(
            self.channels,
            soft.frame,
            time_ms,
            soft.values,
            soft.known,
            soft.evidence,
            declare_gone=self.preset.declares_gone,
        )

    def _met(self, chunk: int) -> dict[int, SoftMaps]:
        """The backward pass's soft maps of the frames of `chunk` that both directions reach."""
        key = self._scratch(chunk)
        if not self.files.store.exists(key):
            return {}
        return {soft.frame: soft for soft in _unpack_soft(self.files.store.read(key))}

    def _scratch(self, chunk: int) -> str:
        return f"{self.files.scratch}/b-{chunk:06d}.npz"

    def _save(self, direction: Direction, following: int | None, propagator: Propagator) -> None:
        """Writes the checkpoint: where to go on, and with what in memory."""
        position = {
            "version": CHECKPOINT_VERSION,
            "direction": "f" if following is None else direction,
            "chunk": following,
            "done": self.done,
            "steps": self.steps,
        }
        if following is not None:
            self._write_checkpoint(position, propagator.state())
        elif direction == "b" and len(self.plan.forward):
            self._write_checkpoint(position, {})
        self.on_checkpoint()

    def _write_checkpoint(self, position: Mapping[str, object], state: Mapping[str, np.ndarray]) -> None:
        arrays = {"position": np.array(json.dumps(position)), **state}
        self.files.store.write_atomic(self.files.checkpoint, _pack(arrays))

    def _checkpoint(self) -> dict[str, np.ndarray] | None:
        try:
            data = self.files.store.read(self.files.checkpoint)
        except FileNotFoundError:
            return None
        state = _unpack(data)
        # A checkpoint of another version is left aside: the job starts again, which costs time and nothing else.
        return state if json.loads(str(state["position"]))["version"] == CHECKPOINT_VERSION else None


def _chunks(positions: range, size: int) -> range:
    """The chunks that `positions` touch, ascending."""
    return range(positions.start // size, -(-positions.stop // size)) if positions else range(0)


def _within(positions: range, chunk: int, size: int) -> range:
    """The part of `positions` that lies in `chunk`."""
    return range(max(positions.start, chunk * size), min(positions.stop, (chunk + 1) * size))


def _pack_soft(maps: Sequence[SoftMaps]) -> bytes:
    # Soft maps come out of the propagator in steps of 1/255, so bytes hold them exactly.
    return _pack(
        {
            "frames": np.array([soft.frame for soft in maps], np.int64),
            "values": torch.stack([(soft.values * 255).round().byte() for soft in maps]).numpy(),
            "known": np.array([soft.known for soft in maps], bool),
            "evidence": np.array([soft.evidence for soft in maps], np.float32),
        }
    )


def _unpack_soft(data: bytes) -> list[SoftMaps]:
    arrays = _unpack(data)
    return [
        SoftMaps(int(frame), torch.from_numpy(values).float() / 255, known, evidence)
        for frame, values, known, evidence in zip(
            arrays["frames"], arrays["values"], arrays["known"], arrays["evidence"], strict=True
        )
    ]


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def _unpack(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
