"""The worker's application, with the model replaced by a script: `celery -A scripted_jobs worker`.

Everything else is the real thing. A job's `metadata` says what its frames do; every frame that runs is noted in
`frames.log` in the home directory, as "job pid frame", so that tests can see what ran, where, and how often.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from app.settings import settings
from model.errors import MediaError
from model.labels import FrameResult
from worker.attempt import Attempt
from worker.celery_app import app  # noqa: F401  (the application that celery looks for)
from worker.resources import Resources
from worker.tasks import propagate


def scripted(at: Resources, running: Attempt) -> None:
    script: dict[str, Any] = running.job.metadata
    results, store, files = running.results, running.files.store, running.files
    first = int(store.read(files.checkpoint)) if store.exists(files.checkpoint) else 0
    total = running.job.progress.frames_total
    done = first * results.chunk_frames
    running.progress(done, total, done)
    for chunk in range(first, results.chunk_count):
        made = []
        for frame in results.frames_of(chunk):
            _note(running, frame)
            if frame == script.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            if frame == script.get("raise_at"):
                raise RuntimeError("a fault of ours, with /a/path in it")
            if frame == script.get("unreadable_at"):
                raise MediaError(f"Frame {frame} does not decode.", slug="frame-unreadable")
            if frame == script.get("hang_at"):
                time.sleep(3600)
            time.sleep(script.get("seconds", 0.0))
            made.append(FrameResult(frame=frame, time_ms=40 * frame, objects=()))
            done += 1
            running.progress(done, total, done)
        results.write_chunk("f", chunk, made)
        store.write_atomic(files.checkpoint, str(chunk + 1).encode())
        running.checkpointed()


def _note(running: Attempt, frame: int) -> None:
    line = f"{running.job.id} {os.getpid()} {frame} {time.time():.6f}\n"
    handle = os.open(settings().home / "frames.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, line.encode())
    os.close(handle)


propagate.run_pinned = scripted
