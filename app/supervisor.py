"""Everything in one place: a private Redis, the API, a GPU worker and a CPU worker, kept running and stopped together.

    with Service(home=path, port=0) as service:
        httpx.get(service.url + "/readyz")

One thread starts the processes, looks after them and stops them; the kernel ends them if it is killed. A process that
dies is started again at once, more slowly if it keeps dying. Nothing is killed that was not started here.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import redis

from app.celery_config import CPU_QUEUE, GPU_QUEUE
from app.connection import connect
from app.processes import bound
from app.records.workers import Workers
from app.redis_server import RedisServer, RedisServerError
from app.settings import Settings

log = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[1]
_LOOK_EVERY_S = 0.1
_SLOWEST_RESTART_S = 4.0
_STEADY_S = 20.0
_START_CRASHES = 3


class ServiceError(RuntimeError):
    """The service cannot start; the message says what to do."""


@dataclass
class Child:
    """One kind of process, and the one that runs at present.

    Attributes:
        name: what it is called in logs.
        command: its command line.
        node: the name under which a worker gives signs of life; None for the API.
        process: the running process; None between two of them.
        crashes: how often it died in a row soon after its start.
        started_at: when it was started last, by the monotonic clock.
        due_at: when it is to be started again after a crash; None while it runs.
    """

    name: str
    command: list[str]
    node: str | None = None
    process: subprocess.Popen[bytes] | None = None
    crashes: int = 0
    started_at: float = 0.0
    due_at: float | None = field(default=0.0)


class Service:
    """The whole service on one machine.

    Args:
        home: the directory that holds everything; None takes the one in the settings.
        host: the address to listen on.
        port: the TCP port; 0 takes a free one.
        settings: what the three arguments before are taken from where they are None; None reads the environment.
        logs: a directory for the output of the processes; None lets them write to this process's own.
        start_timeout_s: how long the start may take.
        silence_s: how long a worker that runs may give no sign of life before it is started again.

    Attributes:
        settings: what the processes run with; its `redis_url` is known once the service has started.
    """

    def __init__(
        self,
        *,
        home: Path | None = None,
        host: str | None = None,
        port: int | None = None,
        settings: Settings | None = None,
        logs: Path | None = None,
        start_timeout_s: float = 60.0,
        silence_s: float = 60.0,
    ) -> None:
        given = {name: value for name, value in (("home", home), ("host", host), ("port", port)) if value is not None}
        base = settings or Settings()
        self.settings = Settings(**{**base.model_dump(), **given})
        self._logs = logs
        self._start_timeout_s = start_timeout_s
        self._silence_s = silence_s
        self._last_seen: dict[str, float] = {}
        self._next_roll_call = 0.0
        self._socket: socket.socket | None = None
        self._redis: RedisServer | None = None
        self._children: list[Child] = []
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    @property
    def url(self) -> str:
        """Where the API is."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)
        return f"http://[{host}]:{self.settings.port}" if ":" in host else f"http://{host}:{self.settings.port}"

    def start(self) -> None:
        """Starts everything and returns when a job could be accepted and run.

        Raises:
            ServiceError: the port or the home directory is in use, or a process does not come up.
        """
        self._socket = _listen(self.settings.host, self.settings.port)
        port = self._socket.getsockname()[1]
        self.settings = self.settings.model_copy(update={"port": port})
        self._thread.start()
        try:
            while not self._ready.wait(0.05):
                if not self._thread.is_alive():
                    break
        except BaseException:
            self.stop()
            raise
        if self._error is not None:
            self.stop()
            raise self._error

    def stop(self) -> None:
        """Stops everything that was started: workers let their jobs go, Redis has written all of it."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def processes(self) -> dict[str, int]:
        """The process ids of what runs at present, by name."""
        running = {child.name: child.process.pid for child in self._children if child.process is not None}
        if self._redis is not None and self._redis.process is not None:
            running["redis"] = self._redis.process.pid
        return running

    def wait(self) -> None:
        """Blocks until `request_stop` is called, from a signal handler or another thread.

        Raises:
            Exception: what ended the supervisor, where it ended by itself.
        """
        while self._thread.is_alive() and not self._stop.wait(0.2):
            pass
        if self._error is not None:
            raise self._error

    @property
    def stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Makes `wait` return; safe in a signal handler."""
        self._stop.set()

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # All of what follows runs in the supervisor's thread: the kernel ends the children with the thread that made them.

    def _run(self) -> None:
        try:
            self._start_redis()
            self._children = self._make_children()
            self._await_start()
            self._ready.set()
            while not self._stop.wait(_LOOK_EVERY_S):
                self._look_after_redis()
                self._look_after_children()
                self._look_after_the_silent()
        except RedisServerError as error:
            self._error = ServiceError(str(error))
        except BaseException as error:
            self._error = error
            log.debug("the supervisor ends", exc_info=True)
        finally:
            self._end_children()
            if self._redis is not None:
                self._redis.stop()

    def _start_redis(self) -> None:
        home = self.settings.home
        home.mkdir(parents=True, exist_ok=True)
        if self.settings.redis_url is not None:
            try:
                with connect(self.settings.redis_url) as client:
                    client.ping()
            except redis.RedisError as error:
                raise ServiceError(f"The Redis at REDIS_URL does not answer: {error}") from error
            return
        self._redis = RedisServer(home / "redis", spawn=lambda command: self._spawn("redis", command, signal.SIGTERM))
        self._redis.start()
        self.settings = self.settings.model_copy(update={"redis_url": self._redis.url})

    def _make_children(self) -> list[Child]:
        assert self._socket is not None
        gpu, cpu = self._node("gpu"), self._node("cpu")
        api = [sys.executable, "-m", "app.api_server", str(self._socket.fileno())]
        return [
            Child("api", api),
            Child("gpu-worker", _celery(gpu, GPU_QUEUE), gpu),
            Child("cpu-worker", _celery(cpu, CPU_QUEUE), cpu),
        ]

    def _node(self, kind: str) -> str:
        # Named after this process, so that two services on one Redis never speak for each other's workers.
        return f"{kind}-{os.getpid()}@{socket.gethostname()}"

    def _await_start(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not self._stop.is_set() and not self._up():
            self._look_after_children()
            for child in self._children:
                if child.crashes >= _START_CRASHES:
                    raise ServiceError(f"The {child.name} ends as soon as it starts.{self._tail(child.name)}")
            if time.monotonic() > deadline:
                raise ServiceError(f"The service did not come up within {self._start_timeout_s:.0f} s.")
            time.sleep(_LOOK_EVERY_S)

    def _up(self) -> bool:
        with connect(self.settings.redis_url) as client:
            live = {record.node for record in Workers(client).live()}
        return {child.node for child in self._children if child.node} <= live and self._api_answers()

    def _api_answers(self) -> bool:
        host = self.url.removeprefix("http://").rsplit(":", 1)[0].strip("[]")
        # The socket is open from the beginning: without a timeout this would wait for a process that may never come.
        connection = http.client.HTTPConnection(host, self.settings.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _look_after_redis(self) -> None:
        if self._redis is None or (self._redis.process is not None and self._redis.process.poll() is None):
            return
        log.warning("the private Redis ended; starting it again")
        try:
            self._redis.start()
        except RedisServerError as error:
            log.error("%s", error)
            self._stop.wait(_SLOWEST_RESTART_S)
            return
        # Some workers never notice that their broker came back; new ones cost the frames since a checkpoint.
        for child in self._children:
            if child.node is not None and child.process is not None:
                _kill(child.process)
                child.process, child.due_at = None, 0.0

    def _look_after_children(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                # What the dead one left in its session goes too, before another takes its place.
                _kill(child.process)
                code, child.process = child.process.returncode, None
                child.crashes = child.crashes + 1 if now - child.started_at < _STEADY_S else 1
                child.due_at = now + min(_SLOWEST_RESTART_S, 0.25 * 2 ** min(child.crashes - 1, 8))
                log.warning("the %s ended with code %s; starting it again", child.name, code)
            if child.due_at is not None and now >= child.due_at:
                child.process = self._spawn(child.name, child.command, signal.SIGKILL)
                child.started_at, child.due_at = now, None

    def _look_after_the_silent(self) -> None:
        """A worker may live and yet take no messages any more; its signs of life come from the loop that takes them."""
        now = time.monotonic()
        if now < self._next_roll_call:
            return
        self._next_roll_call = now + self._silence_s / 10
        try:
            with connect(self.settings.redis_url) as client:
                live = {record.node for record in Workers(client).live()}
        except redis.RedisError:
            # Nobody can be heard; that is no worker's fault.
            self._last_seen.clear()
            return
        for child in self._children:
            if child.node is None or child.process is None or child.node in live:
                self._last_seen[child.name] = now
                continue
            heard = max(self._last_seen.get(child.name, now), child.started_at)
            self._last_seen.setdefault(child.name, now)
            if now - heard > self._silence_s:
                log.warning("the %s gives no sign of life; starting it again", child.name)
                _kill(child.process)

    def _end_children(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self.settings.shutdown_grace_s
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process %d does not stop, killing it", process.pid)
            _kill(process)

    def _spawn(self, name: str, command: list[str], death: int) -> subprocess.Popen[bytes]:
        assert self._socket is not None
        output: IO[bytes] | None = None
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            output = (self._logs / f"{name}.log").open("ab")
        try:
            return subprocess.Popen(
                bound(command, death),
                # The parent of our packages: found whatever the caller's directory holds by the same names.
                cwd=_ROOT,
                env={**os.environ, **self.settings.environment(), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[self._socket.fileno()] if name == "api" else [],
            )
        finally:
            if output is not None:
                output.close()

    def _tail(self, name: str) -> str:
        if self._logs is None:
            return ""
        path = self._logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-20:] if path.exists() else []
        return f" The end of {path}:\n" + "\n".join(lines)


def _celery(node: str, queue: str) -> list[str]:
    options = ["-Q", queue, "-n", node, "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    return [sys.executable, "-m", "celery", "-q", "-A", "worker.celery_app", "worker", *options, "--without-heartbeat"]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ServiceError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another address with --host and --port."
        ) from error
    return listener


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what is left of the session that it was started in."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
