"""What an origin application writes down and answers about each request its server has parsed.

One JSON line per request, appended in one write: the proxy is told apart by the port it came in at. The answer is the
same text, so that a client can hold it against what it asked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable


class Journal:
    """Appends to the file that the environment names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._file = os.open(os.environ["DIFFERENTIAL_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(
        self,
        port: int,
        peer: int,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        complete: bool = True,
    ) -> bytes:
        """Writes one request down; returns the answer's body."""
        seen = {
            "origin": self.name,
            "port": port,
            "peer": peer,
            "method": method,
            "target": target,
            "headers": [[name.lower(), value] for name, value in headers],
            "length": len(body),
            "sha": hashlib.sha256(body).hexdigest(),
            "body": body[:2048].decode("latin-1"),
            "complete": complete,
        }
        text = json.dumps(seen).encode()
        os.write(self._file, text + b"\n")
        return text


def ports() -> list[int]:
    """Ports to listen on, one per proxy."""
    return [int(port) for port in os.environ["DIFFERENTIAL_PORTS"].split(",")]
