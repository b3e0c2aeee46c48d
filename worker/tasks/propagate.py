"""The task on the `gpu` queue: one attempt at a job.

The message only names the job. What to do stands in the job's `spec.json`, pinned when it was accepted; whether to do
it is decided by the lease.
"""

from __future__ import annotations

import os

from app.celery_config import PROPAGATE
from worker.attempt import Attempt, attempt
from worker.bench import bench
from worker.celery_app import app


@app.task(name=PROPAGATE, bind=True)
def propagate(self, owner: str, job_id: str) -> None:  # type: ignore[no-untyped-def]
    """Runs the job if it is this process's to run."""
    attempt(bench(), owner, job_id, f"{self.request.hostname}/{os.getpid()}", run_pinned)


def run_pinned(running: Attempt) -> None:
    """Does the job as its `spec.json` pins it."""
    # Torch comes in here, in the child, at the first job; the model stays warm for the next.
    from worker.propagation import run

    run(running, bench().settings)
