"""A real gateway for tests: `pygate run` in a directory of its own, asked through its admin socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE = """
[entrypoints.web]
address = "{address}"
[admin]
address = "unix:{admin}"
[audit]
dir = "{audit}"
[workers]
count = {count}
drain_timeout = "5s"
[services.up]
endpoints = ["http://127.0.0.1:{upstream}"]
[[routes]]
name = "all"
match = {{ path = "/**" }}
service = "up"
expose_revision = true
"""


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if value := condition():
                return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout} s: {what}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


@dataclass
class Gateway:
    """One gateway in `directory`; several control processes may follow one another in it."""

    directory: Path
    upstream: int
    count: int = 2
    address: str = "127.0.0.1:0"
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.directory / "pygate.toml"

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def write(self, extra: str = "") -> None:
        """Writes the configuration, in one step as editors do."""
        text = BASE.format(
            address=self.address,
            admin=self.directory / "admin.sock",
            audit=self.directory / "audit",
            count=self.count,
            upstream=self.upstream,
        )
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text + extra)
        fresh.rename(self.config)

    def start(
        self,
        environment: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        wait: bool = True,
        through: list[str] | None = None,
    ) -> subprocess.Popen[bytes]:
        if not self.config.exists():
            self.write()
        command = [
            sys.executable,
            "-m",
            "pygate.cli.main",
            "run",
            "-c",
            str(self.config),
            "--run-dir",
            str(self.run_dir),
        ]
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [*(through or []), *command],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                pass_fds=pass_fds,
            )
        self.processes.append(process)
        if wait:
            wait_for(lambda: self.pid == process.pid or process.poll() is not None, "a pid file")
            assert process.poll() is None, self.log
            wait_for(lambda: self.ask("/-/ready")[0] == 200, "readiness")
        return process

    @property
    def pid(self) -> int | None:
        try:
            return int((self.run_dir / "pygate.pid").read_text())
        except (OSError, ValueError):
            return None

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of an admin request."""
        connection = _UnixConnection(self.directory / "admin.sock")
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    def state(self) -> dict[str, Any]:
        """`/revision`."""
        status, body = self.ask("/revision")
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def workers(self) -> dict[int, int]:
        """Process id by slot of the workers that serve."""
        return {w["slot"]: w["pid"] for w in self.state()["workers"] if w["state"] == "ready"}

    def wait_for_workers(self, other_than: dict[int, int]) -> dict[int, int]:
        """The workers, as soon as all of them are others than those."""
        old = set(other_than.values())

        def replaced() -> dict[int, int]:
            found = self.workers()
            return found if len(found) == self.count and not old & set(found.values()) else {}

        workers: dict[int, int] = wait_for(replaced, "other workers")
        return workers

    @property
    def port(self) -> int:
        return int(self.state()["listening"]["web"].rpartition(":")[2])

    def get(self, path: str = "/", port: int | None = None) -> tuple[int, str]:
        """Status and revision of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"connection": "close"})
            response = connection.getresponse()
            response.read()
            return response.status, response.headers.get("x-pygate-revision", "")

    def close(self) -> None:
        """Ends everything this gateway started, by process id."""
        with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
            for pid in self.workers().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        leftovers = {p.pid for p in self.processes if p.poll() is None}
        leftovers |= {int(p.stem.removeprefix("worker-")) for p in self.run_dir.glob("worker-*.sock")}
        leftovers |= {self.pid} if self.pid else set()
        for pid in leftovers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(10)


@dataclass
class Load:
    """Requests from several threads, each on a connection of its own, until stopped."""

    gateway: Gateway
    threads: int = 3
    failures: list[str] = field(default_factory=list)
    revisions: set[str] = field(default_factory=set)
    done: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        port, stop = self.gateway.port, threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    status, revision = self.gateway.get(port=port)
                except (OSError, http.client.HTTPException) as e:
                    self.failures.append(repr(e))
                    continue
                if status != 200:
                    self.failures.append(f"status {status}")
                self.revisions.add(revision)
                self.done += 1

        workers = [threading.Thread(target=work) for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        try:
            yield self
        finally:
            stop.set()
            for worker in workers:
                worker.join(15)
