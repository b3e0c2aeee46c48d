"""The HTTP application: `uvicorn app.main:create_app --factory`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import uploads
from app.api import docs, errors, exports, formats, health, jobs, models, problems, results, videos
from app.api.context import Context
from app.api.openapi import document
from app.connection import RedisMissingError, connect
from app.integrations.label_studio import router as label_studio
from app.queue import Queue
from app.settings import Settings
from app.settings import settings as settings_of_process


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application.

    Args:
        settings: None reads them from the environment.

    Raises:
        RedisMissingError: the settings name no Redis.
    """
    settings = settings or settings_of_process()
    if settings.redis_url is None:
        raise RedisMissingError("No Redis is set. Start everything with `labelprop serve`, or set REDIS_URL.")
    context = Context.of(settings, connect(settings.redis_url), Queue(settings.redis_url))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        uploads.sweep(settings.home / "uploads")
        yield
        label_studio.close(app)
        context.queue.close()
        context.redis.close()

    app = FastAPI(
        title="Labelprop",
        version=version("labelprop"),
        summary="Label one frame, get the whole video.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    errors.install(app)
    for module in (videos, jobs, results, exports, formats, models, health, problems, docs, label_studio):
        app.include_router(module.router)
    app.add_api_route("/", _home, include_in_schema=False)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _home() -> RedirectResponse:
    return RedirectResponse("/docs")
