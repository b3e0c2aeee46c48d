"""Fixtures that more than one folder of tests uses: a real private Redis with a home, the real encoder, waiting."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from app.connection import connect
from app.redis_server import RedisServer
from app.settings import Settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests side by side: threads that spin while they wait for each other would take the cores from those of others.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# torch comes in with the fixtures that need it: the tests of the torch-free parts start without waiting for it.
if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.features import FeatureExtractor


@pytest.fixture
def files_no_larger_than() -> Callable[[int], AbstractContextManager[None]]:
    """A full disk, as far as a process can tell that cannot mount one: within it no file grows beyond some bytes.

    To be used around the call alone. While a fixture is set up pytest writes of its tests, and where that goes into a
    file it is a file like any other.
    """

    @contextmanager
    def limited(count: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real Redis for the whole session; nothing is left in it between two tests that use `redis_client`."""
    with RedisServer(tmp_path_factory.mktemp("redis"), appendfsync="no") as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the session's Redis, emptied for this test."""
    with connect(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the session's Redis, emptied for this test."""
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home directory of the service."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def settings(home: Path, redis_url: str) -> Settings:
    """Settings on that home and that Redis, with waits short enough for tests."""
    return Settings(home=home, redis_url=redis_url, lease_ttl_s=2.0, heartbeat_s=0.3, resend_after_s=1.0, port=0)


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., Any]:
    """Waits until a condition holds and returns what it gave."""

    def wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors on one thread: faster, and kinder to whatever else runs on this machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """The packaged checkpoint."""
    from model.catalogue import find_model
    from model.checkpoint import load_checkpoint

    return load_checkpoint(find_model("uvc-r18").path)


@pytest.fixture(scope="session")
def extractor(checkpoint: Checkpoint) -> FeatureExtractor:
    """It, on the CPU in float32, so that results are the same on every machine."""
    import torch

    from model.features import FeatureExtractor

    return FeatureExtractor(checkpoint, device="cpu", dtype=torch.float32)
