"""The file that a task shows becomes a video of ours: fetched once, checked as every upload is, stored once.

Fetching runs in a few threads of its own, so that a request need not wait for the end of it. Who fetches what is
recorded: a process that dies half-way leaves nothing behind, and the next request begins anew.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from app.accept import Desk
from app.integrations.label_studio.remote import LabelStudio
from app.problems import KINDS, Problem
from app.records.label_studio import LabelStudioRecords
from app.records.videos import VideoRecord
from app.uploads import Upload
from model.errors import InputError

_log = logging.getLogger(__name__)
_AT_ONCE = 2
_SILENCE_MS = 60_000
_SIGN_EVERY_S = 2.0
LONGEST_FETCH_S = 3600.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Fetching:
    """A file that is still on its way.

    Attributes:
        bytes: how much of it is there.
    """

    bytes: int


class Media:
    """Fetches the files of tasks.

    Args:
        service: where videos are kept.
        remote: Label Studio.
    """

    def __init__(self, service: Desk, remote: LabelStudio) -> None:
        self._service = service
        self._remote = remote
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="label-studio-media")

    def close(self) -> None:
        """Begins nothing any more; what is under way ends with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def video(
        self, records: LabelStudioRecords, owner: str, value: str, task_id: Any, *, wait_s: float
    ) -> VideoRecord | Fetching:
        """The video that a task's file is, fetched if it has to be.

        Args:
            records: of the owner.
            owner: whose video it becomes.
            value: what the task's data says.
            task_id: the task.
            wait_s: how long to wait for the file before `Fetching` is the answer.

        Raises:
            Problem: it cannot be fetched, or not be used; why, is said again for half a minute without trying anew.
        """
        source = hashlib.sha256(f"{self._remote.url}\n{value}".encode()).hexdigest()
        deadline = time.monotonic() + wait_s
        while True:
            found = self._known(records, owner, source)
            if found is not None:
                return found
            token = secrets.token_hex(8)
            if records.begin_fetch(source, token, _SILENCE_MS):
                future = self._pool.submit(self._fetch, records, owner, source, value, task_id, token)
                try:
                    future.result(timeout=max(0.0, deadline - time.monotonic()))
                except FutureTimeout:
                    return Fetching(records.fetched_bytes(source) or 0)
                continue
            if time.monotonic() >= deadline:
                return Fetching(records.fetched_bytes(source) or 0)
            time.sleep(_LOOK_EVERY_S)

    def _known(self, records: LabelStudioRecords, owner: str, source: str) -> VideoRecord | None:
        known = records.media(source)
        if known is None:
            return None
        if "problem" in known:
            problem = known["problem"]
            raise Problem(problem["slug"], problem["detail"])
        record = self._service.videos.get(owner, known["video_id"])
        if record is None:
            records.forget_media(source)
        return record

    def _fetch(
        self, records: LabelStudioRecords, owner: str, source: str, value: str, task_id: Any, token: str
    ) -> None:
        try:
            if not records.keep_fetch(source, token, 0, _SILENCE_MS):
                return  # it waited so long for a thread that the right to do it ran out
            video_id = self._store(records, owner, source, value, task_id, token)
            records.set_media(source, video_id)
            _log.info("task %s: its file is video %s", task_id, video_id)
        except (Problem, InputError) as error:
            slug = error.kind.slug if isinstance(error, Problem) else error.slug
            _log.info("task %s: its file cannot be used: %s", task_id, error.detail)
            self._failed(records, source, slug if slug in KINDS else "invalid-input", error.detail)
        except Exception:
            _log.exception("task %s: fetching its file failed", task_id)
            detail = "Fetching the task's file ended with an unexpected error; the service's log has more."
            self._failed(records, source, "internal-error", detail)
        finally:
            records.end_fetch(source, token)

    @staticmethod
    def _failed(records: LabelStudioRecords, source: str, slug: str, detail: str) -> None:
        records.set_media_problem(source, {"slug": slug, "detail": detail})

    def _store(self, records: LabelStudioRecords, owner: str, source: str, value: str, task_id: Any, token: str) -> str:
        service = self._service
        begun = signed = time.monotonic()
        with Upload(service.settings.home / "uploads", service.settings.max_upload_bytes) as upload:
            for piece in self._remote.media(value, task_id):
                upload.write(piece)
                now = time.monotonic()
                if now - begun > LONGEST_FETCH_S:
                    raise Problem("media-unreachable", f"The task's file took more than {LONGEST_FETCH_S:.0f} seconds.")
                if now - signed > _SIGN_EVERY_S:
                    signed = now
                    if not records.keep_fetch(source, token, upload.bytes, _SILENCE_MS):
                        raise Problem("busy", "Another process fetches this file.")
            upload.close()
            with records.alone(f"content-{upload.sha256}", for_s=service.settings.probe_timeout_s + 60):
                known = records.content(upload.sha256)
                if known is not None and service.videos.get(owner, known) is not None:
                    return known
                records.keep_fetch(source, token, upload.bytes, int(1000 * service.settings.probe_timeout_s) + 60_000)
                upload.check(service.desk)
                video = upload.keep(owner, store=service.store, videos=service.videos)
                records.set_content(upload.sha256, video.id)
                return video.id
