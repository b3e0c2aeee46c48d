"""What OpenCV's DIS optical flow reaches, carrying the first frame's masks.

    python tools/flow_baseline.py davis --root DAVIS [any option of `labelprop evaluate`]

The scorer and the table are those of `labelprop evaluate`. The line that says which model it is names the default one,
which is looked up and not used. Needs the extra `flow` (`pip install 'labelprop[flow]'`); keypoints it cannot carry.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from app.files import JobFiles
from app.jobspec import JobSpec
from app.results import ResultStore
from model.video import VideoSource
from worker import evaluation
from worker.commands.evaluate import main
from worker.run import Progress
from worker.speed.flow import run_flow


class NoModels:
    """Stands where `worker.models.WarmModels` does: flow has learned nothing."""

    def __init__(self, home: Path | None, device: str = "auto") -> None:
        pass

    def get(self, name: str, sha256: str) -> None:
        return None


def run_job(
    spec: JobSpec,
    source: VideoSource,
    results: ResultStore,
    files: JobFiles,
    extractor: None,
    *,
    on_frame: Callable[[Progress], None],
    **others: object,
) -> None:
    """Stands where `worker.run.run_job` does; what else that takes means nothing to flow."""
    run_flow(spec, source, results, on_frame=on_frame)


# At import, so that the processes of `--workers` have it too.
evaluation.WarmModels = NoModels  # type: ignore[assignment,misc]
evaluation.run_job = run_job  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
