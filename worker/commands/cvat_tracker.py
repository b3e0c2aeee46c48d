"""`labelprop cvat tracker`: keeps the model warm for CVAT's serverless tracker function."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import uvicorn

from app.integrations.cvat.serverless import Sessions, create_app
from app.settings import settings
from model.errors import InputError
from worker.tracking import load_tracker

TOKEN = "LABELPROP_TRACKER_TOKEN"
_LOCAL = ("127.0.0.1", "::1", "localhost")


def main(argv: Sequence[str]) -> int:
    """Runs the command; see `labelprop cvat tracker --help`."""
    args = _parser().parse_args(argv)
    token = os.environ.get(TOKEN) or None
    if token is None and args.host not in _LOCAL:
        raise InputError(
            f"Whoever reaches {args.host} could use the tracker. Set ${TOKEN} to a secret that the function knows too."
        )
    tracker = load_tracker(
        args.model,
        args.preset,
        args.device,
        home=settings().home,
        working_size=args.working_size,
        threads=args.threads,
        max_memories=args.max_memories,
    )
    print(f"tracker of {args.model} at http://{args.host}:{args.port}/track", flush=True)
    uvicorn.run(create_app(Sessions(tracker), token), host=args.host, port=args.port, log_level="warning")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop cvat tracker",
        description="Serves CVAT's serverless tracker function (docs/cvat.md): boxes, picture by picture.",
    )
    parser.add_argument("--host", default="127.0.0.1", help=f"(default: 127.0.0.1; others need ${TOKEN})")
    parser.add_argument("--port", type=int, default=8091, help="(default: 8091)")
    parser.add_argument("--model", default="uvc-r18", help="name of a model (default: uvc-r18)")
    parser.add_argument("--preset", default="plain", help="named settings (default: plain)")
    parser.add_argument(
        "--device", default=settings().device, help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)"
    )
    parser.add_argument(
        "--working-size", type=int, default=0, help="short side as the network sees it; 0: the preset's"
    )
    parser.add_argument("--threads", type=int, default=settings().threads, help="CPU threads; 0 chooses (default: 0)")
    parser.add_argument("--max-memories", type=int, default=8, help="groups of objects remembered (default: 8)")
    return parser
