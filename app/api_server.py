"""The API on a socket that its supervisor holds: `python -m app.api_server FD`.

The listening socket outlives a crash of this process, so that callers wait for the restart instead of being refused.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

_LONGEST_GOODBYE_S = 3


def main(fd: int) -> None:
    """Serves until SIGTERM.

    Args:
        fd: the file descriptor of a listening socket.
    """
    config = uvicorn.Config("app.main:create_app", factory=True, timeout_graceful_shutdown=_LONGEST_GOODBYE_S)
    # Made from the descriptor alone, so that its address family is the real one.
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


if __name__ == "__main__":
    main(int(sys.argv[1]))
