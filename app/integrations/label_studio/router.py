"""`/integrations/label-studio`: the addresses that Label Studio calls. They are its contract, not a part of our API's.

Nothing heavy is imported before the first request. Requests that wait have threads of their own, so that many of them
never keep another part of the API from being answered.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import APIRouter, Depends, FastAPI, Request

from app.api.context import Context, Owner, Service
from app.multipart import MemorySink, batches
from app.problems import Problem

if TYPE_CHECKING:
    from app.integrations.label_studio.backend import Backend

MAX_BODY = 64 << 20
THREADS = 16


def _authenticated(request: Request, service: Service) -> None:
    user, password = service.settings.label_studio_user, service.settings.label_studio_password
    if user is None and password is None:
        return
    given = _credentials(request.headers.get("authorization", ""))
    if not any(secrets.compare_digest(given, form) for form in _spellings(f"{user or ''}:{password or ''}")):
        detail = "Enter the name and the password of this backend in the model's connection in Label Studio."
        raise Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Basic realm="labelprop"'})


def _spellings(text: str) -> list[bytes]:
    """As clients send it: in UTF-8, or in Latin-1 as Label Studio's does, where it can."""
    try:
        return [text.encode(), text.encode("latin-1")]
    except UnicodeEncodeError:
        return [text.encode()]


def _credentials(header: str) -> bytes:
    """`name:password` as it was sent; empty where it was not."""
    scheme, _, encoded = header.partition(" ")
    try:
        return base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        return b""


router = APIRouter(prefix="/integrations/label-studio", include_in_schema=False, dependencies=[Depends(_authenticated)])


@router.get("")
@router.get("/")
@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the backend is there."""
    return {"status": "UP", "model_class": "Labelprop"}


@router.get("/metrics")
async def metrics() -> dict[str, str]:
    """Label Studio's contract has it; there is nothing in it."""
    return {}


@router.get("/versions")
def versions(request: Request, service: Service) -> dict[str, Any]:
    """The model's versions."""
    return _backend(request.app, service).versions()


@router.post("/setup")
async def setup(request: Request, service: Service, owner: Owner) -> dict[str, Any]:
    """A project is connected."""
    return await _call(request, service, owner, lambda backend: backend.setup)


@router.post("/predict")
async def predict(request: Request, service: Service, owner: Owner) -> dict[str, Any]:
    """Predictions of tasks, and the events of interactive tracking."""
    return await _call(request, service, owner, lambda backend: backend.predict)


@router.post("/webhook", status_code=201)
async def webhook(request: Request, service: Service, owner: Owner) -> dict[str, Any]:
    """Something happened in a project."""
    return await _call(request, service, owner, lambda backend: backend.webhook)


def close(app: FastAPI) -> None:
    """Ends what the backend has under way, if it was ever used."""
    backend = getattr(app.state, "label_studio", None)
    if backend is not None:
        backend.close()


Handler = Callable[[str, bytes], dict[str, Any]]


async def _call(request: Request, service: Context, owner: str, choose: Callable[[Backend], Handler]) -> dict[str, Any]:
    body = MemorySink("the body", MAX_BODY)
    async for batch in batches(request):
        body.write(batch)

    def run() -> dict[str, Any]:
        return choose(_backend(request.app, service))(owner, bytes(body.data))

    return await anyio.to_thread.run_sync(run, limiter=_limiter(request.app))


def _backend(app: FastAPI, service: Context) -> Backend:
    from app.integrations.label_studio.backend import Backend

    if getattr(app.state, "label_studio", None) is None:
        app.state.label_studio = Backend(service, service.redis)
    backend: Backend = app.state.label_studio
    return backend


def _limiter(app: FastAPI) -> anyio.CapacityLimiter:
    if getattr(app.state, "label_studio_threads", None) is None:
        app.state.label_studio_threads = anyio.CapacityLimiter(THREADS)
    limiter: anyio.CapacityLimiter = app.state.label_studio_threads
    return limiter
