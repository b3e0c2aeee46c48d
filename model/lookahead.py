"""Encoding ahead: features of the next frames while the present one is matched.

On a CPU the stages share the cores better as whole frames side by side, each on few threads, than one after the other
with every small operation split over all cores. The result does not depend on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from model.cores import available_cores
from model.errors import InputError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.kept.features import KeptFrame, Passage
from model.video import Frame

_Item = TypeVar("_Item")


def encode_ahead(
    extractor: FeatureExtractor,
    grid: Grid,
    frames: Iterable[Frame],
    *,
    workers: int | None = None,
    kept: Passage | None = None,
) -> Generator[tuple[Frame, Tensor]]:
    """Yields (frame, features) in order, encoding up to twice `workers` frames ahead.

    The frames must be at hand without waiting (a file rather than a camera): that many and one more are read before the
    first is yielded, and no more are in memory at a time.

    Args:
        workers: threads that encode; None takes one per two cores, at least two, and none beside a GPU. 0 encodes in
            the caller's thread, as many frames together as `extractor.batch` says.
        kept: features of earlier runs: those of a frame that are there are loaded instead of computed, in the same
            threads, and the frame's image is not looked at; all others are added to it. Where `frames` leaves frames
            undecoded (`read_forward(..., later=kept.holds)`), they stay so.

    Raises:
        InputError: where reading `frames` raises one, after all frames before it have been yielded.
    """
    if workers is None:
        workers = 0 if extractor.device.type != "cpu" or available_cores() < 2 else max(2, available_cores() // 2)
    source = _Source(extractor, grid, kept)
    if workers == 0:
        yield from source.in_batches(frames)
        return
    threads = max(1, torch.get_num_threads() // workers)
    ahead = 2 * workers  # so that an encoder does not wait while one frame takes longer to match
    with ThreadPoolExecutor(workers, "encode", torch.set_num_threads, (threads,)) as pool:
        waiting: deque[tuple[Frame, KeptFrame | None, Future[Tensor | None]]] = deque()
        unreadable: InputError | None = None
        try:
            for read in until_unreadable(frames):
                if isinstance(read, InputError):
                    unreadable = read  # the frames before it were read in good order and come first
                    break
                found = source.find(read)
                waiting.append((read, found, pool.submit(source.work(read, found))))
                if len(waiting) > ahead:
                    frame, found, future = waiting.popleft()
                    yield frame, source.finish(frame, found, future.result())
            while waiting:
                frame, found, future = waiting.popleft()
                yield frame, source.finish(frame, found, future.result())
            if unreadable is not None:
                raise unreadable
        finally:
            for _, _, future in waiting:
                future.cancel()


class _Source:
    """Where a frame's features come from: what was kept, or the encoder."""

    def __init__(self, extractor: FeatureExtractor, grid: Grid, kept: Passage | None) -> None:
        self._extractor, self._grid, self._kept = extractor, grid, kept

    def find(self, frame: Frame) -> KeptFrame | None:
        return None if self._kept is None else self._kept.find(frame.index)

    def in_batches(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Tensor]]:
        """Frames with their features, as many encoded together as the extractor takes."""
        unreadable: InputError | None = None
        some: list[Frame] = []
        for read in until_unreadable(frames):
            if isinstance(read, InputError):
                unreadable = read
                break
            some.append(read)
            if len(some) == self._extractor.batch:
                yield from self._batch(some)
                some = []
        yield from self._batch(some)
        if unreadable is not None:
            raise unreadable

    def _batch(self, frames: Sequence[Frame]) -> Generator[tuple[Frame, Tensor]]:
        found = [self.find(frame) for frame in frames]
        new = [frame.image for frame, kept in zip(frames, found, strict=True) if kept is None]
        encoded = iter(self._extractor.encode(new, self._grid) if new else ())
        for frame, kept in zip(frames, found, strict=True):
            yield frame, self.finish(frame, kept, next(encoded) if kept is None else kept.load())

    def work(self, frame: Frame, found: KeptFrame | None) -> Callable[[], Tensor | None]:
        """What there is to do for the frame, in any thread."""
        return partial(self._extractor, frame.image, self._grid) if found is None else found.load

    def finish(self, frame: Frame, found: KeptFrame | None, features: Tensor | None) -> Tensor:
        """The features, from what the work gave; new ones are kept. In the thread that reads the frames."""
        if found is not None and features is not None:
            return features
        if features is None:
            features = self._extractor(frame.image, self._grid)  # what was found is damaged
        if self._kept is not None:
            self._kept.keep(frame.index, features)
        return features


def until_unreadable(items: Iterable[_Item]) -> Iterator[_Item | InputError]:
    """The items, and the error of reading the next one in place of raising it: what was read before it comes first."""
    try:
        yield from items
    except InputError as error:
        yield error
