from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.connection import RedisMissingError, broker_url, connect
from app.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("LABELPROP_REDIS_URL", raising=False)
    monkeypatch.delenv("LABELPROP_HOME", raising=False)


def test_defaults_need_no_environment() -> None:
    settings = Settings()
    assert settings.home == Path("~/.labelprop").expanduser()
    assert settings.redis_url is None
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.features_dir == settings.home / "features"


def test_reads_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABELPROP_HOME", str(tmp_path))
    monkeypatch.setenv("LABELPROP_LEASE_TTL_S", "7.5")
    monkeypatch.setenv("REDIS_URL", "redis://example/1")
    settings = Settings()
    assert (settings.home, settings.lease_ttl_s, settings.redis_url) == (tmp_path, 7.5, "redis://example/1")


def test_a_private_redis_is_not_mistaken_for_the_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere/0")
    assert Settings(redis_url=None).redis_url is None
    for name, value in Settings(redis_url="unix:///tmp/r.sock").environment().items():
        monkeypatch.setenv(name, value)
    assert Settings().redis_url == "unix:///tmp/r.sock"


def test_a_child_that_gets_the_environment_has_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=Path("~/x y"), redis_url="unix:///tmp/a b/r.sock?db=0", max_seconds=1.5, device="cuda:1")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_limits_are_the_reader_s() -> None:
    limits = Settings(max_upload_bytes=1, max_pixels=2, max_frames=3, max_seconds=4).limits
    assert (limits.max_bytes, limits.max_pixels, limits.max_frames, limits.max_seconds) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("ours", "celery"),
    [
        ("redis://host:6379/2", "redis://host:6379/2"),
        ("unix:///tmp/x/redis.sock?db=0", "redis+socket:///tmp/x/redis.sock?virtual_host=0"),
        ("unix:///tmp/x/redis.sock", "redis+socket:///tmp/x/redis.sock?virtual_host=0"),
        ("unix://:secret@/tmp/r.sock?db=3", "redis+socket://:secret@/tmp/r.sock?virtual_host=3"),
    ],
)
def test_celery_gets_its_own_spelling(ours: str, celery: str) -> None:
    assert broker_url(ours) == celery


def test_without_a_redis_the_advice_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connection.settings", Settings)
    with pytest.raises(RedisMissingError, match="labelprop serve"):
        connect()


@pytest.mark.parametrize("module", ["app.supervisor", "app.queue", "app.results", "app.redis_server"])
def test_the_service_never_imports_torch_nor_the_worker(module: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'worker')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
