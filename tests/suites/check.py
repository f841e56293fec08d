"""What a suite found: one line per feature."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True)
class Check:
    client: str
    feature: str
    ok: bool
    #: Why it is not.
    detail: str = ""
    seconds: float = 0.0


@dataclass
class Checks:
    """Collects the checks of one client; a feature that raises has failed, the next is tried."""

    client: str
    found: list[Check] = field(default_factory=list)

    @contextlib.contextmanager
    def feature(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        detail = ""
        try:
            yield
        except Exception as error:
            # grpcio's errors are pages long.
            status = f"{error.code()}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            detail = " ".join(f"{type(error).__name__}: {status}".split())[:400]
        self.found.append(Check(self.client, name, not detail, detail, time.monotonic() - began))

    def take(self, output: str) -> None:
        """Lines of JSON from a client in another language: `{"feature", "ok", "detail"}`."""
        for line in output.splitlines():
            if line.startswith("{"):
                told = json.loads(line)
                self.found.append(Check(self.client, told["feature"], told["ok"], told.get("detail", "")[:600]))


def output_of(command: list[str], seconds: float = 60.0, code: int | None = 0, cwd: str | None = None) -> str:
    """What a program printed, errors included. Raises AssertionError when it ends with another code (None: any)."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=cwd, errors="replace")
    output = done.stdout + done.stderr
    assert code is None or done.returncode == code, f"{command[0]} ended with {done.returncode}: {output[-600:]}"
    return output
