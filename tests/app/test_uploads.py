from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.problems import Problem
from app.settings import Settings
from app.uploads import Upload


def test_leaving_removes_everything(tmp_path: Path) -> None:
    with Upload(tmp_path / "uploads", 100) as upload:
        upload.write(b"abc")
        upload.close()
        assert (upload.path.read_bytes(), upload.bytes) == (b"abc", 3)
        assert upload.sha256 == hashlib.sha256(b"abc").hexdigest()
        assert upload.folder.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "uploads").iterdir()) == []


def test_the_cap_counts_bytes(tmp_path: Path) -> None:
    with Upload(tmp_path, 4) as upload:
        upload.write(b"abcd")
        with pytest.raises(Problem) as caught:
            upload.write(b"e")
    assert caught.value.kind.slug == "file-too-large"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    with Upload(tmp_path, 1 << 30) as upload, Path("/dev/full").open("wb", buffering=0) as full:
        upload._file.close()
        upload._file = full  # type: ignore[assignment]
        with pytest.raises(Problem) as caught:
            upload.write(b"x")
    assert caught.value.kind.slug == "storage-full"


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: 100000\r\n\r\n",
        "POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="video"\r\n\r\n',
    ],
)
def test_a_client_that_goes_away_leaves_nothing(server: str, settings: Settings, head: str) -> None:
    uploads = settings.home / "uploads"
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head.encode() + b"x" * 500)
        _until(lambda: uploads.exists() and len(list(uploads.iterdir())) == 1)
    _until(lambda: list(uploads.iterdir()) == [])
    assert not settings.store_dir.exists()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
