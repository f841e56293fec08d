"""Starts processes pinned to a core and reads what they cost.

CPU is user + system time of a whole process tree, its reaped children included, from `/proc/PID/stat`: that is what the
kernel charged, accurate to a scheduler tick (10 ms) per process, so intervals should be seconds long.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class StartError(Exception):
    """A process did not start serving; the message ends with its last output."""


@dataclass
class Pinned:
    """A running process tree on one core."""

    name: str
    core: int
    process: subprocess.Popen[bytes]
    output: Path
    _last: dict[int, float] = field(default_factory=dict)

    @classmethod
    def start(
        cls, name: str, core: int, command: list[str], directory: Path, env: dict[str, str] | None = None
    ) -> Pinned:
        """Starts `command` in `directory` on `core`; its output goes to `NAME.out` there."""
        output = directory / f"{name}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin", **(env or {})},
            )
        return cls(name, core, process, output)

    def wait_for_port(self, port: int, seconds: float = 30.0) -> None:
        """Returns when the port accepts. Raises `StartError` when the process ends or `seconds` are over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise StartError(f"{self.name} ended with code {self.process.returncode}: {self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                return
            except OSError:
                time.sleep(0.05)
        raise StartError(f"{self.name} does not listen on port {port} after {seconds:.0f} s: {self.tail()}")

    def tail(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-2000:].strip()

    def tree(self) -> list[int]:
        """Process ids of it and all its living descendants."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := _stat(int(entry))):
                children.setdefault(int(stat[1]), []).append(int(entry))
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo.extend(children.get(pid, ()))
        return found

    def cpu_seconds(self) -> float:
        """User + system time of the tree so far; never falls, also when a process of it ends."""
        for pid in self.tree():
            if stat := _stat(pid):
                self._last[pid] = (int(stat[11]) + int(stat[12])) * TICK
        return sum(self._last.values())

    def rss_bytes(self) -> dict[int, int]:
        """Resident memory by process id."""
        found = {}
        for pid in self.tree():
            try:
                found[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            except (OSError, IndexError):
                continue
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Asks it to end, and ends the tree when it does not."""
        tree = self.tree()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in tree[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _stat(pid: int) -> list[str] | None:
    """Fields of `/proc/PID/stat` from the state on (field 3 is index 0), or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def core_busy_seconds(core: int) -> float:
    """Time the core did not idle since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq = (int(n) for n in line.split()[1:8])
            return (user + nice + system + irq + softirq) * TICK
    raise StartError(f"this machine has no core {core}; the bench needs two")


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
