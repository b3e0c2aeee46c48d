"""Encoding ahead: features of the next frames while the present one is matched.

On a CPU the stages share the cores better as whole frames side by side, each on few threads, than one after the other
with every small operation split over all cores. The result does not depend on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from model.cores import available_cores
from model.errors import InputError
from model.features import FeatureExtractor
from model.geometry import Grid
from model.video import Frame


def encode_ahead(
    extractor: FeatureExtractor, grid: Grid, frames: Iterable[Frame], *, workers: int | None = None
) -> Generator[tuple[Frame, Tensor]]:
    """Yields (frame, features) in order, encoding up to twice `workers` frames ahead.

    The frames must be at hand without waiting (a file rather than a camera): that many and one more are read before the
    first is yielded, and no more are in memory at a time.

    Args:
        workers: threads that encode; None takes one per two cores, at least two. 0 encodes in the caller's thread.

    Raises:
        InputError: where reading `frames` raises one, after all frames before it have been yielded.
    """
    if workers is None:
        workers = 0 if extractor.device.type != "cpu" or available_cores() < 2 else max(2, available_cores() // 2)
    if workers == 0:
        for frame in frames:
            yield frame, extractor(frame.image, grid)
        return
    threads = max(1, torch.get_num_threads() // workers)
    ahead = 2 * workers  # so that an encoder does not wait while one frame takes longer to match
    with ThreadPoolExecutor(workers, "encode", torch.set_num_threads, (threads,)) as pool:
        waiting: deque[tuple[Frame, Future[Tensor]]] = deque()
        unreadable: InputError | None = None
        try:
            try:
                for frame in frames:
                    waiting.append((frame, pool.submit(extractor, frame.image, grid)))
                    if len(waiting) > ahead:
                        ready, features = waiting.popleft()
                        yield ready, features.result()
            except InputError as error:
                unreadable = error  # the frames before it were read in good order and come first
            while waiting:
                ready, features = waiting.popleft()
                yield ready, features.result()
            if unreadable is not None:
                raise unreadable
        finally:
            for _, future in waiting:
                future.cancel()
