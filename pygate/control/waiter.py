"""Stands in for a control process that has handed over, where its process id still means something.

A shell waits for the process it started, and a container ends with its first process. After an upgrade that process
becomes this: a small one that passes signals on to whoever is in charge by the pid file, takes in orphans, and ends
with the gateway, with its exit code. Under systemd it is not needed: systemd is told the new process id.

Run as `python -m pygate.control.waiter PID RUN_DIR` by `execv`, so that it keeps the process id.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path
from types import FrameType

from pygate.control.rundir import read_pid

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)

_PR_SET_CHILD_SUBREAPER = 36


def become(successor: int, run_dir: Path) -> None:
    """Turns this process into the waiter for `successor`. Does not return."""
    arguments = [sys.executable, "-m", "pygate.control.waiter", str(successor), str(run_dir)]
    os.execv(sys.executable, arguments)


def wait(pid: int, run_dir: Path) -> int:
    """Waits for the gateway's end, from one control process to the next; returns the last one's exit code."""
    # Successors of our successor become our children when their parent goes.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    current = [pid]

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(read_pid(run_dir) or current[0], number)

    for number in FORWARDED:
        signal.signal(number, forward)
    while True:
        code = _end_of(current[0])
        following = read_pid(run_dir)
        if following is None or following == current[0] or not _lives(following):
            return code
        current[0] = following


def _end_of(pid: int) -> int:
    """Waits for one process; the exit code if it was a child, else 0."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        select.select([fd], [], [])
    finally:
        os.close(fd)
    code = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(wait(int(sys.argv[1]), Path(sys.argv[2])))
