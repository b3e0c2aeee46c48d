"""Liveness and readiness."""

from __future__ import annotations

from importlib.metadata import version

import redis
from fastapi import APIRouter

from app.api.context import Context, Service
from app.api.errors import problems
from app.celery_config import CPU_QUEUE, GPU_QUEUE
from app.problems import Problem
from app.schemas.models import LivenessOut, ReadinessOut

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="get_liveness", summary="Is the process alive?")
def get_liveness() -> LivenessOut:
    """Answers as long as the process does; depends on nothing else."""
    return LivenessOut(status="ok", version=version("labelprop"))


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Can jobs be worked on?",
    responses=problems("service-unavailable"),
)
def get_readiness(service: Service) -> ReadinessOut:
    """Redis answers, the store can be written, and each queue has a live worker."""
    checks = {"redis": _redis(service), "store": _store(service)}
    checks["worker"] = _workers(service) if checks["redis"] == "ok" else "unknown"
    missing = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
    if missing:
        headers = {"Retry-After": "2"}
        raise Problem("service-unavailable", f"Not ready. {'; '.join(missing)}.", headers=headers, checks=checks)
    return ReadinessOut(status="ready", checks=checks)


def _redis(service: Context) -> str:
    try:
        service.redis.ping()
    except redis.RedisError:
        return "does not answer"
    return "ok"


def _store(service: Context) -> str:
    key = "ready"
    try:
        service.store.write_atomic(key, b"")
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return "ok"


def _workers(service: Context) -> str:
    try:
        served = {queue for worker in service.workers.live() for queue in worker.queues}
    except redis.RedisError:
        return "unknown"
    missing = sorted({GPU_QUEUE, CPU_QUEUE} - served)
    return f"none is alive for {' and '.join(missing)}" if missing else "ok"
