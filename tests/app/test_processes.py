from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.processes import bound, is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")

_PARENT = """
import subprocess, sys, time
from app.processes import bound
child = subprocess.Popen(bound(["sleep", "600"]), start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_becomes_the_command() -> None:
    ran = subprocess.run(bound(["sh", "-c", "echo $0 $1; exit 3", "a b", "c"]), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (3, "a b c\n")


def test_dies_with_its_parent_in_another_session() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    while "sleep" not in Path(f"/proc/{child}/cmdline").read_text().split("\0")[0]:
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_whose_parent_died_first_ends_at_once() -> None:
    command = bound(["sleep", "600"])
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.run(command, timeout=5).returncode == -signal.SIGKILL


def test_a_process_that_was_never_waited_for_is_dead() -> None:
    process = subprocess.Popen(["sleep", "600"])
    assert is_alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)
    process.wait()
    assert not is_alive(process.pid)
