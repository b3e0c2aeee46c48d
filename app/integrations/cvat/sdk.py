"""cvat-sdk, loaded only when it is used: it is an extra of its own."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from model.errors import InputError

if TYPE_CHECKING:
    from cvat_sdk import Client

INSTALL = "This needs cvat-sdk, which comes with an extra: pip install 'labelprop[cvat]' (or: pip install cvat-sdk)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how to reach CVAT, under the names that cvat-cli has for it."""
    group = parser.add_argument_group("CVAT server (as cvat-cli has them; $CVAT_ACCESS_TOKEN is a personal token)")
    group.add_argument("--server-host", help="address, such as https://app.cvat.ai (default: the saved profile's)")
    group.add_argument("--server-port", type=int, help="(default: the address's own)")
    group.add_argument("--auth", metavar="USER[:PASS]", help="user and password; without PASS, $PASS or a prompt")
    group.add_argument("--organization", "--org", metavar="SLUG", help="work in this organization")
    group.add_argument("--profile", metavar="NAME", help="a profile saved with `cvat-cli profile`")
    group.add_argument("--insecure", action="store_true", help="do not check the server's certificate")


@contextmanager
def connect(args: argparse.Namespace) -> Iterator[Server]:
    """The server that the arguments name, logged in.

    Raises:
        InputError: cvat-sdk is not installed, or the server cannot be reached or refuses; `detail` says what to do.
    """
    try:
        from cvat_sdk.core import auth
        from cvat_sdk.core.exceptions import CvatSdkException
        from cvat_sdk.exceptions import ApiException
        from urllib3.exceptions import HTTPError
    except ImportError:
        raise InputError(INSTALL) from None
    given = argparse.Namespace(**vars(args))
    given.auth = None if args.auth is None else auth.get_auth_factory(args.auth)
    logger = logging.getLogger("labelprop.cvat")
    try:
        with auth.make_client_from_cli(given, logger=logger) as client:
            yield Server(client)
    except ApiException as error:
        raise InputError(_refused(error)) from None
    except (CvatSdkException, HTTPError) as error:
        raise InputError(f"CVAT cannot be reached: {error}") from None


class Server:
    """The few calls of CVAT's REST API that the connector makes; documents come and go as JSON.

    The SDK's generated models check every number of every shape in Python, which takes minutes for a task of masks.
    The tests check the same documents against them.
    """

    def __init__(self, client: Client) -> None:
        self._api = client.api_client
        self.address: str = client.api_map.host

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of an address below `/api`."""
        return json.loads(self.read(path, **query))

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The entries of a list, page by page."""
        page = 1
        while True:
            answer = self.get(path, page=page, **query)
            yield from answer["results"]
            if not answer.get("next"):
                return
            page += 1

    def read(self, path: str, **query: Any) -> bytes:
        """The bytes of an address below `/api`."""
        _, answer = self._api.call_api(f"/api{path}", "GET", query_params=list(query.items()), _parse_response=False)
        try:
            data: bytes = answer.data
            return data
        finally:
            answer.release_conn()

    def patch_annotations(self, job_id: int, action: str, data: dict[str, Any]) -> None:
        """Creates or deletes annotations of a job (`PATCH /api/jobs/{id}/annotations?action=...`)."""
        body = {"version": 0, "tags": [], "shapes": [], "tracks": [], **data}
        self._api.call_api(
            f"/api/jobs/{job_id}/annotations/", "PATCH", query_params=[("action", action)], body=body,
            header_params={"Content-Type": "application/json"},
        )  # fmt: skip


def _refused(error: Any) -> str:
    if error.status in (401, 403):
        return (
            f"CVAT refuses ({error.status}): check the token in $CVAT_ACCESS_TOKEN or --auth, and --organization where"
            " the task belongs to one."
        )
    if error.status == 404:
        return "CVAT has no such task for this user (404). Check --task and --organization."
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    return f"CVAT answered {error.status} {error.reason}: {body[:500]}"
