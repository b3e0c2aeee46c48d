"""What CVAT's serverless tracker asks for, over HTTP: `POST /track` with a picture, boxes and states.

    {"image": base64, "shapes": [[x1, y1, x2, y2], ...], "states": ["handle" or null, ...]}
    -> {"shapes": [[x1, y1, x2, y2], ...], "states": ["handle", ...]}

A box without a state begins to be tracked where it is; the others are moved on. A state is a handle of 32 characters:
what stands behind it stays here, for eight hours as CVAT's own signature of states does. A box that is lost stays where
it was last seen, since the protocol has no word for it. This is CVAT's protocol of `serverless` functions of type
`tracker`; CVAT's community edition tracks boxes only.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import json
import math
import secrets
import threading
import time
from collections import OrderedDict
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.integrations.cvat import tracking
from model.errors import InputError

MAX_BODY = 64 << 20
MAX_PIXELS = 4096 * 2304
MAX_SHAPES = 254
MAX_AGE_S = 8 * 3600.0


class Sessions:
    """The shapes that are tracked, by handle. Calls are done one after the other: there is one model.

    Args:
        tracker: moves them.
        max_states: how many are kept; beyond it the one that was idle longest goes.
        max_age_s: how long an idle one is kept.
    """

    def __init__(
        self, tracker: tracking.Tracker, *, max_states: int = 4096, max_age_s: float = MAX_AGE_S
    ) -> None:  # fmt: skip
        self._tracker, self._max_states, self._max_age_s = tracker, max_states, max_age_s
        self._states: OrderedDict[str, tuple[float, tracking.TrackedShape, tuple[int, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def track(self, document: Any) -> dict[str, Any]:
        """The answer to one call.

        Raises:
            InputError: the call cannot be served; `unknown-state` as slug where a handle is not known (any more).
        """
        image, shapes, states = _parse(document)
        with self._lock:
            self._prune()
            # Before anything moves: a call that is refused changes nothing.
            known = [None if state is None else self._state(state, image.shape) for state in states]
            frame = self._tracker.prepare(image)
            held = [
                tracked or tracking.start(self._tracker, frame, image, "rectangle", shape)
                for shape, tracked in zip(shapes, known, strict=True)
            ]
            answer: dict[str, list[Any]] = {"shapes": [], "states": []}
            for state, tracked in zip(states, held, strict=True):
                if state is None:
                    state = secrets.token_urlsafe(24)
                else:
                    tracking.step(self._tracker, frame, tracked)
                self._states[state] = (time.monotonic(), tracked, image.shape)
                self._states.move_to_end(state)
                answer["shapes"].append(list(tracked.points))
                answer["states"].append(state)
            return answer

    def _state(self, handle: str, size: tuple[int, ...]) -> tracking.TrackedShape:
        if handle not in self._states:
            raise InputError(
                "The tracker does not know this object (any more): it was restarted, or the object was idle for hours."
                " Track it again from this frame.",
                slug="unknown-state",
            )
        _, tracked, drawn_on = self._states[handle]
        if size != drawn_on:
            raise InputError("The frame has another size than the one that the box was drawn on.")
        return tracked

    def _prune(self) -> None:
        oldest = time.monotonic() - self._max_age_s
        while self._states:
            used, _, _ = next(iter(self._states.values()))
            if used >= oldest and len(self._states) < self._max_states:
                return
            self._states.popitem(last=False)


def create_app(sessions: Sessions, token: str | None) -> Starlette:
    """The application.

    Args:
        sessions: what it serves.
        token: what callers must send as `Authorization: Bearer ...`; None lets everyone in.
    """

    async def track(request: Request) -> JSONResponse:
        if token is not None:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return JSONResponse({"error": "The token is not the tracker's ($LABELPROP_TRACKER_TOKEN)."}, 401)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return JSONResponse({"error": f"The call has more than {MAX_BODY} bytes."}, 413)
        try:
            return JSONResponse(await run_in_threadpool(sessions.track, json.loads(bytes(body))))
        except InputError as error:
            return JSONResponse({"error": error.detail}, 410 if error.slug == "unknown-state" else 422)
        except ValueError:
            return JSONResponse({"error": "The call is not JSON."}, 400)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/track", track, methods=["POST"]), Route("/healthz", health)])


def _parse(document: Any) -> tuple[tracking.Image, list[list[float]], list[str | None]]:
    if not isinstance(document, dict):
        raise InputError("The call must be an object with `image`, `shapes` and `states`.")
    shapes, states = document.get("shapes") or [], document.get("states") or []
    if not isinstance(shapes, list) or not isinstance(states, list) or len(shapes) > MAX_SHAPES:
        raise InputError(f"`shapes` and `states` must be lists of at most {MAX_SHAPES}.")
    for shape in shapes:
        if not isinstance(shape, list) or len(shape) != 4 or not all(_is_number(value) for value in shape):
            raise InputError("A shape must be a box [x1, y1, x2, y2]: this protocol tracks boxes.")
    # CVAT leaves states out for boxes that it has just drawn.
    states = states[: len(shapes)] + [None] * (len(shapes) - len(states))
    if not all(state is None or isinstance(state, str) for state in states):
        raise InputError("A state must be one that this tracker gave, or null.")
    return _image(document.get("image")), shapes, states


def _image(text: Any) -> tracking.Image:
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "BMP"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"The frame has more than {MAX_PIXELS} pixels.")
            return np.array(image.convert("RGB"))
    except InputError:
        raise
    except (binascii.Error, TypeError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError("`image` must be a picture (JPEG or PNG) in base64.") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
