"""The models of a worker process: loaded at the first job that wants them, and kept warm."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from model.catalogue import find_model
from model.checkpoint import load_checkpoint
from model.cores import available_cores
from model.errors import ModelError
from model.features import FeatureExtractor
from model.side_by_side import set_threads

# Of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


class WarmModels:
    """Holds the model that was used last on one device: jobs mostly want the same one.

    Args:
        home: where models beside the packaged ones are looked up.
        device: as `FeatureExtractor` takes it.
    """

    def __init__(self, home: Path | None, device: str = "auto") -> None:
        self._home, self._device = home, device
        self._held: tuple[str, FeatureExtractor] | None = None

    def get(self, name: str, sha256: str) -> FeatureExtractor:
        """The model that a job pinned.

        Raises:
            ModelError: slug `unknown-model`, or `model-changed` where the file is not the one that was pinned.
        """
        if self._held is not None and self._held[0] == sha256:
            return self._held[1]
        found = find_model(name, self._home)
        if found.sha256 != sha256:
            raise ModelError(
                f"The model {name!r} has changed since this job was accepted, and its results would not be the ones "
                "that were asked for. Put the former file back, or submit the job again.",
                slug="model-changed",
            )
        self._held = None  # the old one goes before the new one comes: there may be room for one only
        extractor = FeatureExtractor(load_checkpoint(found.path), device=self._device)
        self._held = (sha256, extractor)
        return extractor


def prepare_process(threads: int, *, processes: int = 1) -> None:
    """Sets this process up for the model on the CPU; called once, before the model is loaded.

    Frames are encoded in threads of their own, beside the matching in the caller's thread (`model.lookahead`), so each
    side splits its operations over half of the cores. Tiles are matched side by side (`model.side_by_side`), on as many
    threads as there are cores, since encoding and matching take turns in waiting for each other. Results do not depend
    on the number.

    Args:
        threads: how many threads the model takes; 0 shares the cores between encoding and matching.
        processes: how many processes like this one share the cores.
    """
    cores = max(1, available_cores() // processes)
    torch.set_num_threads(threads or max(1, cores // 2))
    set_threads(threads or cores)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets glibc keep what a frame frees for the next frame, which needs the same again.

    Otherwise every layer's output is handed back to the kernel and its pages are faulted in anew, frame by frame. All
    threads share one heap, so that what encoding frees is there for matching; with one each, as is usual, memory grew
    with the frames of a job by tens of MiB before it came to rest.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc allows
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
