"""What a hook sees of an exchange, and what it may change.

Rules:

1. A hook works on copies: nothing reaches the exchange before the hook returned in time. What a hook that failed
   had changed is taken back.
2. Fields that belong to the protocol or to the gateway can be read, not changed (RFC 9110 §7.6.1).
3. Names and values are checked when they are set: no plugin can split a message with a line break.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: Fields a plugin may not change.
PROTECTED = frozenset(
    "connection content-length expect host keep-alive proxy-connection te trailer traceparent transfer-encoding"
    " upgrade x-pygate-error x-request-id".split()
)

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

#: `("set" | "add" | "remove", name, value)`, to be applied in order.
Change = tuple[Literal["set", "add", "remove"], str, str]
Lines = list[tuple[str, str]]


class Headers:
    """Field lines in order; names in any case. Values are text in Latin-1, as HTTP defines them."""

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self._lines: Lines = list(lines)
        self.changes: list[Change] = []

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value."""
        return next((value for key, value in self._lines if key.lower() == name.lower()), default)

    def all(self, name: str) -> list[str]:
        """Every value, in order."""
        return [value for key, value in self._lines if key.lower() == name.lower()]

    def set(self, name: str, value: str) -> None:
        """Replaces all lines of this name by one. Raises `ValueError`."""
        check_line(name, value)
        self._drop(name)
        self._lines.append((name, value))
        self.changes.append(("set", name, value))

    def add(self, name: str, value: str) -> None:
        """Appends a line. Raises `ValueError`."""
        check_line(name, value)
        self._lines.append((name, value))
        self.changes.append(("add", name, value))

    def remove(self, name: str) -> None:
        """Removes all lines of this name, if there are any. Raises `ValueError`."""
        check_line(name, "")
        self._drop(name)
        self.changes.append(("remove", name, ""))

    def _drop(self, name: str) -> None:
        self._lines = [line for line in self._lines if line[0].lower() != name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.remove(name)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(list(self._lines))

    def __len__(self) -> int:
        return len(self._lines)

    def snapshot(self) -> tuple[Lines, int]:
        return list(self._lines), len(self.changes)

    def restore(self, taken: tuple[Lines, int]) -> None:
        self._lines = taken[0]
        del self.changes[taken[1] :]


@dataclass
class Reply:
    """A complete answer made by a plugin."""

    status: int
    headers: Lines = field(default_factory=list)
    body: bytes = b""


class _Context:
    """What requests and responses have in common."""

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        #: Facts for the audit record and the hooks after this one, by name.
        self.notes: dict[str, str] = {}
        #: Labels for the audit record.
        self.tags: set[str] = set()
        self.reply: Reply | None = None

    def answer(
        self, status: int, headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), body: bytes | str = b""
    ) -> None:
        """Answers the client with this; later plugins are not asked. Raises `ValueError` on a malformed answer."""
        if not 200 <= status <= 599:
            raise ValueError(f"an answer's status is 200 to 599, not {status}")
        lines = list(headers.items() if isinstance(headers, Mapping) else headers)
        for name, value in lines:
            check_line(name, value)
        self.reply = Reply(status, lines, body.encode() if isinstance(body, str) else bytes(body))

    def snapshot(self) -> Any:
        return self.headers.snapshot(), dict(self.notes), set(self.tags), self.reply

    def restore(self, taken: Any) -> None:
        headers, self.notes, self.tags, self.reply = taken
        self.headers.restore(headers)


class Request(_Context):
    """A request whose head is complete and canonical; nothing of it has gone upstream."""

    def __init__(
        self,
        method: str,
        path: str,
        headers: Headers,
        *,
        query: str = "",
        scheme: str = "http",
        host: str = "",
        client_ip: str = "",
        route: str = "",
        exchange: str = "",
        identity: str = "",
    ) -> None:
        super().__init__(headers)
        self.method = method
        #: Canonical path, without the query.
        self.path = path
        self.query = query
        self.scheme = scheme
        self.host = host
        self.client_ip = client_ip
        self.route = route
        self.exchange = exchange
        #: Who authenticated, empty if nobody did.
        self.identity = identity


class Response(_Context):
    """The head of the final answer, from the upstream or made by the gateway, before it is written."""

    def __init__(self, status: int, headers: Headers, request: Request) -> None:
        super().__init__(headers)
        self.status = status
        #: The request it answers, as it was sent upstream. Changes to it have no effect any more.
        self.request = request
        self.notes = request.notes
        self.tags = request.tags


def check_line(name: str, value: str) -> None:
    """Raises `ValueError` for a field line that a plugin may not make."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a field name")
    if name.lower() in PROTECTED:
        raise ValueError(f"the field {name!r} belongs to the gateway and cannot be changed")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name!r} has control characters or is not Latin-1")
