"""Child processes that cannot outlive their parent.

This file is also a program, which needs nothing but the standard library: `python processes.py PARENT SIGNAL COMMAND`
asks the kernel for SIGNAL when the parent dies, then becomes COMMAND. Asking between fork and exec instead would run
Python in a forked copy of a process that may have threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, with_signal: int = signal.SIGKILL) -> None:
    """Asks the kernel to send this process `with_signal` when its parent dies. Elsewhere than on Linux it does nothing.

    Args:
        parent: the parent's process id; if it is no longer the parent, it has died already.
        with_signal: the signal.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, with_signal, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine (or container) runs; one that died and was never waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name, in parentheses, may hold anything; the state follows it.
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return sys.platform != "linux"


def bound(command: list[str], with_signal: int = signal.SIGKILL) -> list[str]:
    """The command line that runs `command` as a child that dies with the calling thread's process.

    The kernel counts the *thread* that starts the child as its parent: start it from one that lives long enough.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(with_signal)), *command]


def _become(arguments: list[str]) -> None:
    parent, with_signal, *command = arguments
    die_with_parent(int(parent), int(with_signal))
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(sys.argv[1:])
