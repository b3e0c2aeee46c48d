"""Label Studio's own API and its media, with an access token of either kind.

A legacy token goes along as it is; a personal access token is a JWT that is exchanged for short-lived ones. Either is
sent to Label Studio's own origin and nowhere else: not to another host that a task's data names, nor to one that Label
Studio redirects to, such as the storage behind it.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.outbound import Outbound, origin_of
from app.problems import Problem

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 60.0
_CHUNK = 1 << 20
_EARLY_S = 30.0
_CLOUD = ("s3", "s3s", "gs", "azure-blob", "azure_spi", "databricks")


class RemoteError(Exception):
    """Label Studio refused a request, or does not answer.

    Attributes:
        status: its status, or None where it does not answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LabelStudio:
    """One Label Studio.

    Args:
        url: its address; None knows none, so that only media elsewhere can be fetched.
        token: an access token; None has none.
        media_hosts: hosts that media may be fetched from although they are not public.
    """

    def __init__(self, url: str | None, token: str | None, *, media_hosts: tuple[str, ...] = ()) -> None:
        self.url = None if url is None else url.rstrip("/")
        self._token = token
        own: tuple[str, ...] = ()
        if self.url is not None:
            self._origin = origin_of(self.url)
            own = (f"{self._origin[1]}:{self._origin[2]}",)
        self._outbound = Outbound(private=(*own, *media_hosts))
        self._lock = threading.Lock()
        self._access: tuple[str, float] | None = None

    def call(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """One call of its API; the JSON of the answer, or None without any.

        Raises:
            RemoteError: it refused, or does not answer.
        """
        import httpx

        if self.url is None:
            raise RemoteError("The address of Label Studio is not set (LABELPROP_LABEL_STUDIO_URL, or --ls-url).")
        try:
            answer = httpx.request(
                method,
                f"{self.url}{path}",
                json=body,
                params=params,
                headers=self._authorization(self.url),
                timeout=_TIMEOUT_S,
                follow_redirects=False,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise RemoteError(f"{self.url} does not answer ({type(error).__name__}). Is Label Studio there?") from None
        return _json(answer, f"{method} {path}")

    def pages(self, path: str, params: Mapping[str, Any], *, page_size: int = 100) -> Iterator[dict[str, Any]]:
        """The entries of a list that comes in pages, whichever of its two shapes it has."""
        page = 1
        while True:
            try:
                answer = self.call("GET", path, params={**params, "page": page, "page_size": page_size})
            except RemoteError as error:
                if error.status == 404 and page > 1:
                    return  # a page beyond the last
                raise
            entries = answer if isinstance(answer, list) else answer.get("tasks", answer.get("results", []))
            yield from entries
            if len(entries) < page_size:
                return
            page += 1

    def media(self, value: str, task_id: Any) -> Iterator[bytes]:
        """The file that a task's data names, piece by piece.

        Args:
            value: a path of Label Studio's own, an address, or that of an object in a cloud's storage.
            task_id: the task, through which Label Studio resolves the latter.

        Raises:
            Problem: `media-unreachable`, with a reason.
        """
        try:
            with self._outbound.get(self.media_url(value, task_id), self._authorization) as answer:
                yield from answer.iter_bytes(_CHUNK)
        except RemoteError as error:
            raise Problem("media-unreachable", str(error)) from None

    def media_url(self, value: str, task_id: Any) -> str:
        """The address of a task's file. Raises `media-unreachable` where it is Label Studio's and that is not known."""
        scheme = urlsplit(value).scheme.lower() if "://" in value[:32] else ""
        if scheme in ("http", "https"):
            return value
        if scheme and scheme not in _CLOUD:
            raise Problem("media-unreachable", f"Media is fetched over http and https, not from {scheme[:20]}://.")
        if self.url is None:
            detail = (
                "Set LABELPROP_LABEL_STUDIO_URL and LABELPROP_LABEL_STUDIO_TOKEN, to fetch what Label Studio stores."
            )
            raise Problem(
                "media-unreachable", f"The task's file lies in Label Studio, whose address is not set. {detail}"
            )
        if scheme:
            encoded = base64.urlsafe_b64encode(value.encode()).decode()
            return f"{self.url}/tasks/{task_id}/presign/?fileuri={encoded}"
        parts = urlsplit(self.url)
        if parts.path and value.startswith(parts.path + "/"):
            return f"{parts.scheme}://{parts.netloc}{value}"
        return f"{self.url}/{value.lstrip('/')}"

    def _authorization(self, url: str) -> dict[str, str]:
        if self._token is None or self.url is None or origin_of(url) != self._origin:
            return {}
        if self._token.count(".") != 2:
            return {"Authorization": f"Token {self._token}"}
        return {"Authorization": f"Bearer {self._short_lived()}"}

    def _short_lived(self) -> str:
        import httpx

        with self._lock:
            if self._access is None or self._access[1] < time.time() + _EARLY_S:
                try:
                    answer = httpx.post(
                        f"{self.url}/api/token/refresh",
                        json={"refresh": self._token},
                        timeout=_TIMEOUT_S,
                        follow_redirects=False,
                        trust_env=False,
                    )
                except httpx.HTTPError as error:
                    raise RemoteError(f"{self.url} does not answer ({type(error).__name__}).") from None
                document = _json(answer, "POST /api/token/refresh")
                access = document.get("access") if isinstance(document, dict) else None
                if not isinstance(access, str):
                    raise RemoteError("Label Studio exchanged the access token for nothing. Make a new one.")
                self._access = (access, _expiry(access))
            return self._access[0]


def _expiry(token: str) -> float:
    try:
        middle = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["exp"])
    except (ValueError, KeyError, IndexError, TypeError):
        return time.time() + 60.0


def _json(answer: httpx.Response, what: str) -> Any:
    if answer.is_success:
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise RemoteError(f"{what}: the answer is not JSON. Is this address Label Studio's?") from None
    try:
        document = answer.json()
        reason = document.get("detail") if isinstance(document, dict) else None
        more = document.get("validation_errors") if isinstance(document, dict) else None
        reason = f"{reason or answer.reason_phrase}{f' {more}' if more else ''}"
    except ValueError:
        reason = answer.reason_phrase
    hint = " Check the access token." if answer.status_code in (401, 403) else ""
    raise RemoteError(f"{what}: Label Studio answers {answer.status_code}: {reason[:500]}.{hint}", answer.status_code)
