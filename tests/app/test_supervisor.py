"""The whole service, with real processes: what dies comes back, what is stored stays, and stopping leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.connection import connect
from app.processes import is_alive
from app.records.videos import VideoRecord, Videos
from app.records.workers import Workers
from app.settings import Settings
from app.supervisor import Service, ServiceError

ROOT = Path(__file__).parents[2]


def _descendants(pid: int) -> set[int]:
    children = {
        int(child) for task in Path(f"/proc/{pid}/task").glob("*") for child in (task / "children").read_text().split()
    }
    return children.union(*(_descendants(child) for child in children)) if children else set()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    settings = Settings(home=home, redis_url=None, heartbeat_s=0.5)
    with Service(settings=settings, port=0, logs=home / "logs") as service:
        yield service
    for log in sorted((home / "logs").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text()[-4000:]}")


def test_is_ready_when_started(service: Service) -> None:
    assert httpx.get(service.url + "/healthz").status_code == 200
    assert httpx.get(service.url + "/readyz").status_code == 200


def test_redis_is_private(service: Service) -> None:
    path = Path(str(service.settings.redis_url).removeprefix("unix://").split("?")[0])
    assert path.is_socket()
    assert path.parent.stat().st_mode & 0o077 == 0
    with connect(service.settings.redis_url) as client:
        asked = client.config_get("*")
    assert (asked["port"], asked["appendonly"], asked["appendfsync"]) == ("0", "yes", "always")
    assert asked["maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("name", ["api", "gpu-worker", "cpu-worker", "redis"])
def test_what_dies_is_back_within_five_seconds(service: Service, name: str, wait_for: Callable[..., Any]) -> None:
    # "Within five seconds" is when its successor has been started; it must then come to work, too.
    before = service.processes()[name]
    killed = time.monotonic()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: service.processes().get(name, before) != before, 5)
    assert time.monotonic() - killed < 5
    wait_for(lambda: _readyz(service) == 200 and _live(service) == _workers(service))


def _live(service: Service) -> set[int]:
    with connect(service.settings.redis_url) as client:
        return {record.pid for record in Workers(client).live()}


def _workers(service: Service) -> set[int]:
    return {pid for name, pid in service.processes().items() if name.endswith("worker")}


def _readyz(service: Service) -> int:
    try:
        return httpx.get(service.url + "/readyz", timeout=5).status_code
    except httpx.HTTPError:
        return 0


def test_a_worker_that_falls_silent_is_started_again(tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    settings = Settings(home=tmp_path, redis_url=None, heartbeat_s=0.3, lease_ttl_s=1.0)
    with Service(settings=settings, port=0, logs=tmp_path / "logs", silence_s=2.0) as service:
        steady = service.processes()
        os.kill(steady["cpu-worker"], signal.SIGSTOP)
        wait_for(lambda: service.processes().get("cpu-worker", steady["cpu-worker"]) != steady["cpu-worker"], 10)
        wait_for(lambda: _live(service) == _workers(service))
        assert service.processes()["gpu-worker"] == steady["gpu-worker"]


def test_a_second_service_on_the_same_home_is_refused(service: Service) -> None:
    with pytest.raises(ServiceError, match="already runs on"):
        Service(settings=Settings(home=service.settings.home, redis_url=None), port=0).start()
    assert _readyz(service) == 200


def test_a_port_in_use_is_refused_before_anything_starts(service: Service, home: Path) -> None:
    with pytest.raises(ServiceError, match="--port"):
        Service(settings=Settings(home=home, redis_url=None), port=service.settings.port).start()
    assert not list(home.iterdir())


def test_records_survive_a_restart_and_nothing_survives_the_stop(home: Path) -> None:
    settings = Settings(home=home, redis_url=None)
    record = VideoRecord(
        id="v_1", sha256="0" * 64, bytes=1, container="mp4", codec="h264", width=8, height=8, frame_count=1,
        duration_ms=40,
    )  # fmt: skip
    with Service(settings=settings, port=0, logs=home / "logs") as service:
        with connect(service.settings.redis_url) as client:
            Videos(client).create(record)
        started = service.processes()
        family = set(started.values()).union(*(_descendants(pid) for pid in started.values()))
        assert len(family) > len(started), "the workers have children of their own"
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 8
    assert not [pid for pid in family if is_alive(pid)]
    assert not Path(str(service.settings.redis_url).removeprefix("unix://").split("?")[0]).parent.exists()
    with Service(settings=settings, port=0, logs=home / "logs") as service:
        with connect(service.settings.redis_url) as client:
            assert Videos(client).get("local", "v_1") == record
        assert httpx.get(service.url + "/v1/videos/v_1").status_code == 200


class TestCommand:
    @pytest.fixture
    def start(self, home: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
        started: list[subprocess.Popen[str]] = []

        def run() -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "app.commands.serve", "--home", str(home), "--port", "0"]
            environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
            process = subprocess.Popen(
                [*command, "--logs", str(home / "logs")], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
            )
            started.append(process)
            assert process.stdout is not None
            assert "Labelprop runs at http://127.0.0.1:" in process.stdout.readline()
            return process

        yield run
        for process in started:
            process.kill()
            process.wait()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_every_child(
        self, start: Callable[[], subprocess.Popen[str]], number: signal.Signals
    ) -> None:
        process = start()
        family = _descendants(process.pid)
        assert len(family) >= 6
        process.send_signal(number)
        assert process.wait(10) == 0
        assert not [pid for pid in family if is_alive(pid)]

    def test_a_killed_supervisor_takes_its_children_along(
        self, start: Callable[[], subprocess.Popen[str]], home: Path, wait_for: Callable[..., Any]
    ) -> None:
        process = start()
        family = _descendants(process.pid)
        process.kill()
        process.wait()
        wait_for(lambda: not [pid for pid in family if is_alive(pid)], 10)
        left = Path((home / "redis/socket-directory").read_text())
        assert left.is_dir()
        start()
        assert not left.exists()


def test_a_redis_that_does_not_answer_is_told(home: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}/0"
        with pytest.raises(ServiceError, match="REDIS_URL"):
            Service(settings=Settings(home=home, redis_url=url), port=0).start()
