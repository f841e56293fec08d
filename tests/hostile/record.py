"""What an upstream wrote down of what it received."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from tests.hostile.messages import Message


class UpstreamConnection(Protocol):
    """A connection from the gateway, whatever is spoken on it."""

    transport: asyncio.Transport | None
    closed: bool

    @property
    def rest(self) -> bytes:
        """What came of requests that are not, or never were, complete."""


@dataclass
class Record:
    """What a lane's upstream saw since the record was begun."""

    requests: list[tuple[UpstreamConnection, Message]] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    #: Connections that got bytes.
    touched: set[UpstreamConnection] = field(default_factory=set)
    #: The one the row's answer was given on.
    answered: UpstreamConnection | None = None

    def partial(self) -> bytes:
        """Bytes of requests that are not, or never were, complete."""
        return b"".join(conn.rest for conn in self.touched)
