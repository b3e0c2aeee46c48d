"""The task on the `gpu` queue: one attempt at a job.

The message only names the job. What to do stands in the job's `spec.json`, pinned when it was accepted; whether to do
it is decided by the lease.
"""

from __future__ import annotations

import os

from app.celery_config import PROPAGATE
from worker.attempt import attempt
from worker.celery_app import app
from worker.pinned import run_pinned
from worker.resources import resources


@app.task(name=PROPAGATE, bind=True)
def propagate(self, owner: str, job_id: str) -> None:  # type: ignore[no-untyped-def]
    """Runs the job if it is this process's to run."""
    at = resources()
    attempt(at, owner, job_id, f"{self.request.hostname}/{os.getpid()}", lambda running: run_pinned(at, running))
