"""A task's working folder: what was pulled, what runs on it, and its results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from app.integrations.cvat.task import Task
from model.errors import InputError
from model.labels import FrameResult
from model.labels.jsonio import result_from_json

SCHEMA_VERSION = 1
Document = dict[str, Any]


class Folder:
    """The files of one task.

    - `task.json`: the task as it was pulled, how each object goes back, and what its labels were drawn as.
    - `job.json`: the request, as `POST /v1/jobs` and `labelprop propagate --labels` take it.
    - `frames.zip`: the pictures of the task's frames, unless the original video is used.
    - `run.json`: the video and the job on the service, so that a repeated run goes on instead of starting anew.
    - `results.jsonl`: one result a line, once the job has ended.
    - `replaced.json`: drawn shapes that were taken out of CVAT because results took their place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def frames(self) -> Path:
        """The zip of pictures."""
        return self.path / "frames.zip"

    def save_pull(self, task: Task, objects: dict[int, Any], sources: dict[int, Any], job: Document) -> None:
        """Stores what was pulled; results of an earlier request are kept until they are replaced."""
        self.path.mkdir(parents=True, exist_ok=True)
        document = {"schema_version": SCHEMA_VERSION, "task": task.to_json(), "objects": objects, "sources": sources}
        _save(self.path / "task.json", document)
        _save(self.path / "job.json", job)

    def pulled(self) -> tuple[Task, dict[int, Any], dict[int, Any]]:
        """The task, how its objects go back, and what was drawn, by job.

        Raises:
            InputError: nothing was pulled into this folder.
        """
        document = _load(self.path / "task.json", "Run `labelprop cvat pull` first")
        if document.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{self.path / 'task.json'} is of another version. Pull the task again.")
        by_id = [{int(key): value for key, value in document[name].items()} for name in ("objects", "sources")]
        return Task.from_json(document["task"]), by_id[0], by_id[1]

    def job(self) -> Document:
        """The request."""
        return _load(self.path / "job.json", "Run `labelprop cvat pull` first")

    def run(self) -> Document:
        """What runs, or an empty document."""
        path = self.path / "run.json"
        return _load(path, "") if path.exists() else {}

    def save_run(self, run: Document) -> None:
        """Stores what runs."""
        _save(self.path / "run.json", run)

    def save_results(self, results: Iterable[Document]) -> int:
        """Stores results; returns how many. Nothing half-written takes the place of what is there."""
        part = self.path / "results.jsonl.part"
        count = 0
        with part.open("w", encoding="utf-8") as file:
            for count, result in enumerate(results, start=1):  # noqa: B007
                file.write(json.dumps(result, separators=(",", ":")) + "\n")
        part.replace(self.path / "results.jsonl")
        return count

    def results(self) -> Iterator[FrameResult]:
        """A pass over the results.

        Raises:
            InputError: there are none yet.
        """
        try:
            with (self.path / "results.jsonl").open(encoding="utf-8") as file:
                for line in file:
                    yield result_from_json(json.loads(line))
        except FileNotFoundError:
            raise InputError(
                f"There are no results in {self.path} yet. Run `labelprop cvat propagate` first."
            ) from None

    def replaced(self) -> dict[int, dict[str, list[Document]]]:
        """Drawn annotations that were taken out of CVAT, by job."""
        path = self.path / "replaced.json"
        return {int(job): data for job, data in (_load(path, "") if path.exists() else {}).items()}

    def add_replaced(self, job: int, annotations: dict[str, list[Document]]) -> None:
        """Keeps drawn annotations before they are taken out of CVAT; each once."""
        kept = self.replaced()
        mine = kept.setdefault(job, {"shapes": [], "tracks": []})
        for kind in ("shapes", "tracks"):
            known = {entry.get("id") for entry in mine[kind]}
            mine[kind] += [entry for entry in annotations[kind] if entry.get("id") not in known]
        _save(self.path / "replaced.json", kept)


def digest(*documents: Any) -> str:
    """One short text for what a run was asked to do."""
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()


def _save(path: Path, document: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _load(path: Path, advice: str) -> Document:
    try:
        document: Document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no {path}. {advice}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}). Delete it and pull the task again.") from None
    return document
