"""The task on the `cpu` queue: one export of a job that has ended."""

from __future__ import annotations

from app.celery_config import EXPORT
from worker.celery_app import app
from worker.exporting import build
from worker.resources import resources


@app.task(name=EXPORT, bind=True)
def export(self, owner: str, job_id: str, name: str) -> None:  # type: ignore[no-untyped-def]
    """Builds the export if this process gets its lease."""
    build(resources(), owner, job_id, name, node=self.request.hostname)
