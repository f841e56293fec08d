"""A PostgreSQL server of its own for tests: unprivileged, on a Unix socket in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

USER = "pygate"


def _program(name: str) -> str:
    """Debian keeps the server's programs out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    program = str(found[-1]) if found else shutil.which(name)
    assert program, f"{name} is not installed: make packages"
    return program


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: `nobody` does it then."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@dataclass
class Server:
    """One server; `start` and `stop` it as often as a test likes."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    schemas: int = field(default=0)

    def url(self, schema: str = "public") -> str:
        host, options = quote(str(self.directory), safe=""), quote(f"-c search_path={schema}")
        return f"postgresql://{USER}@/postgres?host={host}&options={options}"

    def make(self) -> None:
        who = _unprivileged()
        if who:
            os.chown(self.directory, who["user"], who["group"])
        subprocess.run(
            [_program("initdb"), "-D", "data", "-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"],
            cwd=self.directory,
            check=True,
            stdout=subprocess.DEVNULL,
            **who,
        )

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(_program("postgres"), "-D", "data", "-k", str(self.directory)),
                    *("-c", "listen_addresses=", "-c", "fsync=off"),
                ],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                **_unprivileged(),
            )
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, (self.directory / "log").read_text()
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.url(), connect_timeout=2):
                return
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, with connections open (SIGINT: fast shutdown)."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            assert self.process.wait(30) == 0
            self.process = None

    def database(self) -> str:
        """The URL of a place where nothing is yet."""
        self.schemas += 1
        name = f"test{self.schemas}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return self.url(name)


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server until the end of the block."""
    server = Server(Path(tempfile.mkdtemp(prefix="pygate-postgres-")))
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)
