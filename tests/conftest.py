"""Fixtures that more than one folder of tests uses: a real private Redis, a home directory, settings for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.connection import connect
from app.redis_server import RedisServer
from app.settings import Settings


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
