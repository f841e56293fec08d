"""Everything a chaos run needs around it: a gateway, an upstream and load, each in processes of their own.

Rules: the gateway listens on one fixed free port, so that it is found again after it was started anew; whatever was
started here is ended here, by process id; records are files, so that no kill loses them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.control.running import Gateway

LISTENING = """
[entrypoints.web]
address = "{address}"
[admin]
address = "unix:{admin}"
[audit]
dir = "{audit}"
[workers]
count = {count}
drain_timeout = "8s"
[services.up]
endpoints = ["http://127.0.0.1:{upstream}"]
"""


def free_address() -> str:
    """An address nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


@dataclass
class ChaosGateway(Gateway):
    """A gateway whose routes are the run's own."""

    routes: str = ""

    def text(self, routes: str | None = None) -> str:
        """Its whole configuration with other routes."""
        listening = LISTENING.format(
            address=self.address,
            admin=self.directory / "admin.sock",
            audit=self.audit,
            count=self.count,
            upstream=self.upstream,
        )
        return listening + (self.routes if routes is None else routes)

    @property
    def audit(self) -> Path:
        return self.directory / "audit"

    def write(self, extra: str = "") -> None:
        self.put(self.text() + extra)

    def put(self, text: str) -> None:
        """Replaces the configuration file in one step."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.config)

    def kill_everything(self) -> None:
        """SIGKILL to the control process and all workers, with no time to react for any of them."""
        # After an upgrade the process that was started is not the one in charge.
        controls = {p.pid for p in self.processes if p.poll() is None} | ({self.pid} if self.pid else set())
        # Files outlive processes, and numbers are given out again.
        controls = {pid for pid in controls if self._is_ours(pid)}
        for pid in controls:
            _send(pid, signal.SIGSTOP)
        doomed = controls | {pid for pid in self.worker_pids() if self._is_ours(pid)}
        for pid in controls:
            doomed |= _children(pid)
        for pid in doomed:
            _send(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(10)
        deadline = time.monotonic() + 10
        while any(_alive(pid) for pid in doomed) and time.monotonic() < deadline:
            time.sleep(0.005)

    def _is_ours(self, pid: int) -> bool:
        try:
            return os.fsencode(self.run_dir) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def worker_pids(self) -> set[int]:
        """Workers of any generation that have come far enough to be found."""
        return {int(path.stem.removeprefix("worker-")) for path in self.run_dir.glob("worker-*.sock")}


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@dataclass
class Answered:
    """One line `answered` of a client's record."""

    at: int
    id: str
    status: int
    path: str
    rev: str
    seen: str
    revision: str


@dataclass
class Told:
    """What the clients wrote down, up to now."""

    answered: list[Answered] = field(default_factory=list)
    #: Times of refused connections.
    refused: list[int] = field(default_factory=list)
    #: (time, reason)
    unanswered: list[tuple[int, str]] = field(default_factory=list)
    wrong: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Scene:
    """A directory with a gateway, an upstream and clients in it."""

    directory: Path
    gateway: ChaosGateway
    _peers: list[subprocess.Popen[str]] = field(default_factory=list)
    _clients: list[subprocess.Popen[str]] = field(default_factory=list)
    _read: dict[Path, int] = field(default_factory=dict)
    _told: Told = field(default_factory=Told)

    @property
    def called(self) -> list[tuple[str, str]]:
        """`(path, request id)` of every request the upstream has seen."""
        lines = (self.directory / "upstream.record").read_text().splitlines()
        return [(path, request) for path, _, request in (line.partition(" ") for line in lines)]

    def begin_load(self, profile: str, processes: int, connections: int, seed: int) -> None:
        """Starts clients; they run until `end_load`."""
        for number in range(processes):
            record = self.directory / f"client-{number}.record"
            self._read[record] = 0
            arguments = [self.gateway.address, profile, str(connections), str(seed + number), str(record)]
            client = _start("tests.chaos.client", arguments)
            self._clients.append(client)

    def end_load(self) -> Told:
        """Lets every request under way finish; what the clients told."""
        for client in self._clients:
            assert client.stdin is not None
            client.stdin.close()
        for client in self._clients:
            assert client.wait(30) == 0, "a client failed"
        self._clients.clear()
        return self.told()

    def told(self) -> Told:
        """What the clients have written so far."""
        for path, offset in self._read.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(offset)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = offset + len(whole)
            for line in whole.decode().splitlines():
                self._take(line)
        return self._told

    def _take(self, line: str) -> None:
        what, at, *rest = line.split(" ")
        match what:
            case "answered":
                identity, status, path, rev, seen, revision = rest
                self._told.answered.append(Answered(int(at), identity, int(status), path, rev, seen, revision))
            case "refused":
                self._told.refused.append(int(at))
            case "unanswered":
                self._told.unanswered.append((int(at), " ".join(rest)))
            case _:
                self._told.wrong.append((int(at), " ".join(rest)))

    def close(self) -> None:
        """Ends everything."""
        for process in [*self._clients, *self._peers]:
            process.kill()
            process.wait(10)
        self.gateway.kill_everything()


@contextlib.contextmanager
def scene(directory: Path, routes: str, count: int = 2) -> Iterator[Scene]:
    """A scene with its upstream running; the gateway is started by the caller."""
    upstream = _start("tests.chaos.upstream", [str(directory / "upstream.record")])
    assert upstream.stdout is not None
    gateway = ChaosGateway(directory, 0, count, free_address(), routes=routes)
    made = Scene(directory, gateway, [upstream])
    try:
        gateway.upstream = int(upstream.stdout.readline())
        gateway.write()
        yield made
    finally:
        made.close()


def _start(module: str, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
