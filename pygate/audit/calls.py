"""Asking the log for calls: filters as people write them, and what is known of one call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from os import PathLike
from typing import Any
from uuid import UUID

from pygate._core import audit_calls

SKEW_NS = 60_000_000_000

Call = dict[str, Any]
"""One call, keys as in `Tail.calls`."""


@dataclass(frozen=True)
class Status:
    """A range of statuses, or calls whose outcome is unknown."""

    low: int = 0
    high: int = 999
    unknown: bool = False

    def matches(self, call: Call) -> bool:
        if not call["complete"] or self.unknown:
            return self.unknown and not call["complete"]
        return self.low <= int(call.get("status", 0)) <= self.high


def parse_status(text: str) -> Status:
    """`404`, `5xx`, `500-503`, `none` (no status was sent) or `unknown`; ValueError says what is accepted."""
    lower = text.strip().lower()
    if lower == "unknown":
        return Status(unknown=True)
    if lower == "none":
        return Status(0, 0)
    if len(lower) == 3 and lower[0] in "12345" and lower[1:] == "xx":
        return Status(int(lower[0]) * 100, int(lower[0]) * 100 + 99)
    low, dash, high = lower.partition("-")
    if low.isdecimal() and (high.isdecimal() if dash else not high) and int(low) <= int(high or low) <= 999:
        return Status(int(low), int(high or low))
    raise ValueError(f"{text!r} is not a status: expected 404, 5xx, 500-503, none or unknown")


def query(
    dir: str | PathLike[str],
    *,
    limit: int = 50,
    since: float | None = None,
    status: Status | None = None,
    route: str | None = None,
) -> list[Call]:
    """The youngest `limit` calls of all workers that match, oldest first. `since`: seconds back from now."""
    since_ns = 0 if since is None else max(1, time.time_ns() - int(since * 1e9))
    unknown = status is not None and status.unknown
    span = None if status is None or unknown else (status.low, status.high)
    return audit_calls(dir, limit=limit, since_ns=since_ns, route=route, status=span, unknown_only=unknown)


def find(dir: str | PathLike[str], exchange: UUID) -> list[Call]:
    """The calls with this id; more than one when a trusted client chose the same id again. Raises OSError."""
    if exchange.version == 7:
        # A UUIDv7 tells its time: older segments need not be read, unless a client's clock made it.
        began_ns = (exchange.int >> 80) * 1_000_000
        found = audit_calls(dir, limit=1000, since_ns=max(1, began_ns - SKEW_NS), exchange=exchange.bytes)
        if found:
            return found
    return audit_calls(dir, limit=1000, exchange=exchange.bytes)
