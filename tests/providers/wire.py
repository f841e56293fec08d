"""What dialects and the server say to each other: requests, whole answers, streams, refusals.

A dialect is a function of a `Call` that returns `Whole` or `Streamed`, or raises `Refused`. It does no IO, knows no
framing and no fault; what a fault changes inside an answer (usage, the end) it is told by `Call.quirks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote

import orjson

if TYPE_CHECKING:
    from tests.providers.catalogue import Provider
    from tests.providers.memory import Memory

Headers = list[tuple[str, str]]


@dataclass
class Usage:
    """Tokens. `input` includes the cached ones, `output` those of reasoning."""

    input: int = 0
    output: int = 0
    cached_read: int = 0
    cached_write: int = 0
    reasoning: int = 0


@dataclass
class Request:
    method: str
    target: str
    """As it was sent."""
    headers: Headers
    """Names in lower case."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    def json(self) -> dict[str, Any]:
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise Refused(400, "invalid", f"the body is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise Refused(400, "invalid", "the body is not a JSON object")
        return found

    @property
    def bearer(self) -> str | None:
        scheme, _, value = (self.header("authorization") or "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" and value else None


@dataclass
class Quirks:
    """What a fault asks of a dialect."""

    usage: Literal["normal", "omit", "repeat"] = "normal"
    done: bool = True
    """Whether the terminal event is sent."""


@dataclass
class Call:
    """One request to one provider."""

    provider: Provider
    request: Request
    operation: str
    model: str
    key: str
    number: int
    """Counts the calls since the simulator started; ids are made from it."""
    memory: Memory
    quirks: Quirks = field(default_factory=Quirks)
    parameters: dict[str, str] = field(default_factory=dict)
    """What the path holds."""
    base: str = ""
    """URL of this server, from the request's host."""
    now: int = 0
    """Seconds since the epoch."""

    _body: dict[str, Any] | None = None

    @property
    def body(self) -> dict[str, Any]:
        if self._body is None:
            self._body = self.request.json()
        return self._body

    def id(self, prefix: str) -> str:
        return f"{prefix}{self.provider.name}{self.number:08d}"


@dataclass
class Whole:
    """An answer with its length."""

    body: bytes
    status: int = 200
    headers: Headers = field(default_factory=list)
    kind: str = "application/json"
    usage: Usage | None = None

    @classmethod
    def json(cls, value: Any, usage: Usage | None = None, status: int = 200, headers: Headers | None = None) -> Whole:
        return cls(orjson.dumps(value), status, headers or [], usage=usage)


@dataclass
class Event:
    """One event of a stream. Faults count those of the kind `delta`."""

    data: Any
    """JSON, or text that is sent as it is."""
    kind: Literal["start", "delta", "other", "end"] = "other"
    name: str | None = None
    tokens: int = 0
    """Output tokens that it carries."""


@dataclass
class Streamed:
    events: list[Event]
    usage: Usage
    error: Callable[[int, str], list[Event]]
    """What this dialect sends when a stream breaks with this status and message."""
    framing: Literal["sse", "array", "aws"] = "sse"
    headers: Headers = field(default_factory=list)


Answer = Whole | Streamed

Kind = Literal[
    "authentication",
    "permission",
    "not_found",
    "invalid",
    "context",
    "too_large",
    "timeout",
    "conflict",
    "rate_limit",
    "quota",
    "server",
    "unavailable",
    "overloaded",
    "method",
]


class Refused(Exception):
    """Becomes the provider's own error."""

    def __init__(
        self, status: int, kind: Kind, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.param, self.code = status, kind, message, param, code


KINDS: dict[int, Kind] = {
    400: "invalid",
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    405: "method",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    429: "rate_limit",
    500: "server",
    502: "server",
    503: "unavailable",
    504: "timeout",
    529: "overloaded",
}
"""What a status means when a fault asks for it."""


def refusal(status: int, message: str | None = None) -> Refused:
    kind = KINDS.get(status, "server" if status >= 500 else "invalid")
    return Refused(status, kind, message or f"simulated {kind.replace('_', ' ')}")
