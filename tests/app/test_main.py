from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.connection import RedisMissingError
from app.main import create_app
from app.settings import Settings


def test_importing_the_api_imports_no_torch_and_no_worker() -> None:
    code = (
        "import sys, app.main, app.cli, app.client, app.formats, app.commands.submit;"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'worker')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_redis_there_is_no_application(home: Path) -> None:
    with pytest.raises(RedisMissingError, match="labelprop serve"):
        create_app(Settings(home=home, redis_url=None))


def test_uploads_that_a_killed_process_left_are_swept_at_the_start(settings: Settings) -> None:
    old, new = settings.home / "uploads" / "v_old", settings.home / "uploads" / "v_new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "upload").write_bytes(b"x")
    past = time.time() - 2 * 24 * 3600
    for path in (old / "upload", old):
        os.utime(path, (past, past))
    with TestClient(create_app(settings)):
        assert not old.exists()
        assert new.exists()


def test_the_first_page_leads_to_the_documentation(client: TestClient) -> None:
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert client.get("/docs").status_code == 200
