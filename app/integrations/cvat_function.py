"""Tracking inside CVAT Online and CVAT Enterprise: a function for cvat-cli's agent.

    cvat-cli function create-native Labelprop --function-module app.integrations.cvat_function
    cvat-cli function run-agent ID --function-module app.integrations.cvat_function -p device=str:cuda

Parameters (`-p name=type:value`): `model`, `preset`, `device` (texts), `working_size`, `threads`, `max_memories`
(integers). Run one agent for a function: what is tracked lives in that agent's memory.

The protocol goes picture by picture (`cvat_sdk/auto_annotation/interface.py`), so shapes are carried in the direction
in which the page asks for pictures, and nothing is known of the pictures ahead. Skeletons are no part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import PIL.Image

from app.integrations.cvat import tracking
from model.errors import InputError


class PreparedImage(NamedTuple):
    """A picture, encoded once for all shapes on it; nobody changes it."""

    image: tracking.Image
    frame: Any


class TrackerFunction:
    """The function.

    Args:
        load: makes the tracker, when it is first needed: registering the function needs no model.
    """

    spec = cvataa.TrackingFunctionSpec(supported_shape_types=tracking.SHAPE_TYPES)

    def __init__(self, load: Callable[[], tracking.Tracker]) -> None:
        self._load = load

    def preprocess_image(self, context: cvataa.TrackingFunctionContext, image: PIL.Image.Image) -> PreparedImage:
        """Encodes a picture. The agent calls this whether it is there or not (cvat-cli 2.80)."""
        pixels = np.array(image.convert("RGB"))
        return PreparedImage(pixels, self._tracker.prepare(pixels))

    def init_tracking_state(
        self,
        context: cvataa.TrackingFunctionShapeContext,
        pp_image: PreparedImage,
        shape: cvataa.TrackableShape,
    ) -> tracking.TrackedShape:
        """Begins to track a shape.

        Raises:
            cvataa.BadFunctionError: the shape cannot be used. Of all errors this is the one whose text the agent passes
                on; others become "Unknown error".
        """
        try:
            return tracking.start(self._tracker, pp_image.frame, pp_image.image, shape.type, shape.points)
        except InputError as error:
            raise cvataa.BadFunctionError(error.detail) from None

    def track(
        self,
        context: cvataa.TrackingFunctionShapeContext,
        pp_image: PreparedImage,
        state: tracking.TrackedShape,
    ) -> cvataa.TrackableShape | None:
        """The shape on the next picture; None where it is lost."""
        points = tracking.step(self._tracker, pp_image.frame, state)
        return None if points is None else cvataa.TrackableShape(type=state.type, points=points)

    @cached_property
    def _tracker(self) -> tracking.Tracker:
        return self._load()


def create(**parameters: Any) -> TrackerFunction:
    """The function, as cvat-cli asks for it; parameters as `worker.tracking.load_tracker` takes them."""
    return TrackerFunction(partial(tracking.load_tracker, **parameters))
