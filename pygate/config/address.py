"""Listening addresses as written: `host:port`, `[v6]:port`, `unix:/path`."""

from __future__ import annotations

import re
from dataclasses import dataclass

EXPECTED = '"127.0.0.1:8080", "[::1]:8080" or "unix:/run/pygate/web.sock"'

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Address:
    """A Unix path, or host and port (0: any)."""

    text: str
    path: str | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `ValueError` with a message for the user."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError(f'"{text}" lacks a path')
            return cls(text, path=path)
        found = _ADDRESS.fullmatch(text)
        if not found:
            raise ValueError(f'"{text}" is not a listening address')
        if int(found["port"]) > 65535:
            raise ValueError(f'"{text}" has a port above 65535')
        return cls(text, host=found["v6"] or found["host"] or "0.0.0.0", port=int(found["port"]))

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.path is not None or self.host in ("localhost", "::1") or self.host.startswith("127.")
