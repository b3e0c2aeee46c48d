"""The function that Nuclio runs for CVAT. It holds no model: it passes CVAT's call on and the answer back.

CVAT sends a picture, boxes and their states, and wants new boxes and states. States travel through the browser with
every frame, so each is but a handle: what is remembered of an object lives in `labelprop cvat tracker`.

This file is copied into the function's container as it is, so it needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 25.0
"""Below the function's own limit (`eventTimeout`), so that a slow answer ends in a reason."""


def init_context(context: Any) -> None:
    """Reads where the tracker is; called once for each worker of the function."""
    context.user_data.url = os.environ["LABELPROP_TRACKER_URL"].rstrip("/") + "/track"
    context.user_data.token = os.environ.get("LABELPROP_TRACKER_TOKEN", "")
    context.logger.info(f"tracker at {context.user_data.url}")


def handler(context: Any, event: Any) -> Any:
    """One call of CVAT's: `{"image": base64, "shapes": [[x1, y1, x2, y2]], "states": [handle or null]}`."""
    body = event.body if isinstance(event.body, bytes) else json.dumps(event.body).encode()
    headers = {"Content-Type": "application/json"}
    if context.user_data.token:
        headers["Authorization"] = f"Bearer {context.user_data.token}"
    request = urllib.request.Request(context.user_data.url, data=body, headers=headers)
    try:
        # The tracker is named by whoever deploys the function, and is never behind a proxy of the cluster's.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            status, data = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, data = error.code, error.read()
        context.logger.error(f"the tracker answered {status}: {data[:500]!r}")
    except OSError as error:
        status = 503
        data = json.dumps({"error": f"the tracker does not answer ({error})"}).encode()
        context.logger.error(data.decode())
    return context.Response(
        body=data.decode("utf-8", "replace"), headers={}, content_type="application/json", status_code=status
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes nowhere but where it was meant to."""

    def redirect_request(self, *_: Any) -> None:
        return None
