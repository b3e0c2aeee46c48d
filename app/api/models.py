"""`/v1/models`: what can run."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from app.api.context import Service
from app.api.errors import problems
from app.schemas.models import ModelList, ModelOut, PresetOut
from model.catalogue import list_models as catalogued
from model.presets import PRESETS

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", operation_id="list_models", summary="List models and presets", responses=problems("bad-model"))
def list_models(service: Service) -> ModelList:
    """The models and presets that a job's options may name."""
    models = [
        ModelOut(name=model.name, sha256=model.sha256, metadata=model.metadata)
        for model in catalogued(service.settings.home)
    ]
    presets = [
        PresetOut(name=preset.name, settings={key: value for key, value in asdict(preset).items() if key != "name"})
        for preset in PRESETS.values()
    ]
    return ModelList(models=models, presets=presets)
