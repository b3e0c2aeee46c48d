"""Media is opened in a child process: it can be limited, and killed, and its crash is an answer like any other.

Everything here is synchronous and meant for a thread. What the child says, and how, is `model.video.child`'s to define.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from app.problems import Problem
from model.errors import MediaError
from model.video import Limits, VideoInfo

CHILD = "model.video.child"
WAIT_S = 30.0
RETRY_AFTER_S = 5
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")


class MediaDesk:
    """Opens media for the API, a bounded number of files at once.

    Args:
        limits: the caps on a video.
        timeout_s: how long one child may take before it is killed.
        at_once: how many children run at the same time; further callers wait, and are turned away after a while.
    """

    def __init__(self, limits: Limits, *, timeout_s: float = 120.0, at_once: int | None = None) -> None:
        self.limits = limits
        self.timeout_s = timeout_s
        self._places = threading.BoundedSemaphore(at_once or max(2, os.cpu_count() or 2))

    def probe(self, media: Path, table: Path, *, fps: Fraction | None = None) -> VideoInfo:
        """Checks a file in full and writes its frame table.

        Args:
            media: the file; its name and extension mean nothing.
            table: where the frame table goes.
            fps: the frame rate of a zip of images.

        Raises:
            MediaError: the file cannot be used; the slug says why.
            Problem: `check-timed-out`, or `busy` when no place came free.
        """
        arguments = ["probe", str(media), "--limits", json.dumps(asdict(self.limits)), "--table", str(table)]
        if fps is not None:
            arguments += ["--fps", f"{fps.numerator}/{fps.denominator}"]
        return VideoInfo.from_json(self._run(arguments)["info"])

    def still(self, media: Path, table: Path, index: int, out: Path, *, quality: int = 90) -> None:
        """Writes frame `index` as a JPEG to `out`.

        Raises:
            MediaError: `frame-unreadable`.
            Problem: `check-timed-out`, or `busy`.
        """
        arguments = ["still", str(media), "--table", str(table), "--index", str(index), "--out", str(out)]
        self._run([*arguments, "--quality", str(quality), "--limits", json.dumps(asdict(self.limits))])

    def _run(self, arguments: list[str]) -> dict:
        if not self._places.acquire(timeout=WAIT_S):
            detail = f"{WAIT_S:.0f} seconds have passed and other files are still being opened."
            raise Problem("busy", detail, headers={"Retry-After": str(RETRY_AFTER_S)})
        try:
            return _reply(*_child(arguments, self.timeout_s))
        finally:
            self._places.release()


def _child(arguments: list[str], timeout_s: float) -> tuple[int, bytes]:
    child = subprocess.Popen(
        [sys.executable, "-m", CHILD, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A session of its own, so that killing it kills what it may have started; no secrets in its environment.
        start_new_session=True,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    try:
        out, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Problem("check-timed-out", f"Opening the file took more than {timeout_s:g} seconds.") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
    return child.returncode, out


def _reply(code: int, out: bytes) -> dict:
    try:
        reply = json.loads(out.splitlines()[-1]) if code == 0 else None
    except (ValueError, IndexError):
        reply = None
    if not isinstance(reply, dict):
        raise MediaError("Opening the file ended the process that checks files. It is damaged.", slug="damaged-video")
    if error := reply.get("error"):
        raise MediaError(error["detail"], slug=error["slug"])
    return reply
