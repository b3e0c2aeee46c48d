"""`labelprop serve`: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from app.supervisor import Service, ServiceError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="labelprop: %(message)s", stream=sys.stderr)
    try:
        service = Service(home=arguments.home, host=arguments.host, port=arguments.port, logs=arguments.logs)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: service.request_stop())
        with service:
            if not service.stopping:
                home = service.settings.home
                print(
                    f"Labelprop runs at {service.url} (calls: {service.url}/docs), stores in {home}. Ctrl-C stops it."
                )
                sys.stdout.flush()
            service.wait()
    except ServiceError as error:
        print(f"labelprop: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labelprop serve",
        description="Runs the API, the workers and, unless REDIS_URL is set, a private Redis. Ctrl-C stops them all.",
    )
    parser.add_argument("--host", help="address to listen on (default: LABELPROP_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port, 0 for a free one (default: LABELPROP_PORT or 8000)")
    parser.add_argument(
        "--home", type=Path, help="where everything is stored (default: LABELPROP_HOME or ~/.labelprop)"
    )
    parser.add_argument("--logs", type=Path, help="a directory for the processes' output (default: this terminal)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
