"""Pieces of one frame's work on several threads, each on one core.

Torch splits every single operation over its threads and joins them after it. The operations of a tile are many and
small, so that whole tiles side by side use cores better; and a core that encodes another frame meanwhile holds up one
tile and not every operation. Whatever the number of threads, results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# More threads than this would wait for the interpreter, which one of them at a time can use.
_MOST = 8
_threads = 1


def set_threads(count: int) -> int:
    """Chooses, for this process, how many threads a `Crew` made from now on has, eight at most.

    Returns:
        How many it would have had.
    """
    global _threads
    before, _threads = _threads, max(1, min(count, _MOST))
    return before


class Crew:
    """Threads that take pieces of work one after the other. They end with it.

    Args:
        threads: how many; None: as `set_threads` said last, at first one.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or _threads
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """What `work` gives for every item, in their order; done in the caller's thread where there is but one.

        Raises:
            Exception: the first that `work` raised.
        """
        if self.threads == 1 or len(items) < 2:
            return [work(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "match", torch.set_num_threads, (1,))
        inference = torch.is_inference_mode_enabled()

        def in_thread(item: _Item) -> _Result:
            with torch.inference_mode(inference):  # which each thread has to be told anew
                return work(item)

        return list(self._pool.map(in_thread, items))
