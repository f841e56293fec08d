"""The simulator as a process, and its controls, for tests and benchmarks: `with Simulator() as providers: …`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Simulator:
    """`url` is where it listens; given one, an already running one is controlled and left running."""

    def __init__(self, *arguments: str, url: str | None = None) -> None:
        self.process: subprocess.Popen[str] | None = None
        if url is not None:
            self.url = url.rstrip("/")
            return
        command = [sys.executable, "-m", "tests.providers", "--stdin", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulator ended with {self.process.wait(10)}")
        self.url = str(json.loads(line)["url"])

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, method: str, path: str, value: Any = None) -> Any:
        """A control. Raises urllib's HTTPError for what is refused."""
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def faults(self, *rules: dict[str, Any]) -> None:
        self.ask("PUT", "/__faults", list(rules))

    def reset(self) -> None:
        """No faults, an empty ledger, nothing remembered."""
        self.ask("DELETE", "/__faults")
        self.ask("DELETE", "/__ledger")

    def ledger(self, full: bool = False) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", "/__ledger" + ("?full=1" if full else ""))
        return found

    def last(self, full: bool = False, until: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
        """The last call's entry, waiting up to five seconds until it has ended, or fulfils a condition."""
        condition = until or (lambda entry: entry["ended_ms"] is not None)
        deadline = time.monotonic() + 5
        while True:
            found = self.ledger(full)
            if found and condition(found[-1]):
                return found[-1]
            if time.monotonic() > deadline:
                raise AssertionError(f"the ledger's last entry is {found[-1:]}")
            time.sleep(0.01)
