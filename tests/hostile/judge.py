"""Holds what came of a row against what it says."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.hostile.messages import Message
from tests.hostile.record import Record
from tests.hostile.rows import Row, Seen

#: `x-pygate-error` by status, where only one code has it.
CODES = {
    400: "bad-request",
    404: "no-route",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    417: "expectation-failed",
    431: "head-too-large",
    501: "not-implemented",
    505: "version-not-supported",
}

#: In a target or a value of a request that must never arrive.
CANARY = "smuggled"

#: Answers of one HTTP/2 stream and of the whole connection that refuse.
REFUSALS = ("rst", "goaway", "closed")


@dataclass
class Observed:
    """What the client got."""

    final: list[Message] = field(default_factory=list)
    interim: list[Message] = field(default_factory=list)
    #: Behind the last complete answer.
    rest: bytes = b""
    raw: bytes = b""
    closed: bool = False
    reset: bool = False
    #: HTTP/2: error names of RST_STREAM by stream, and of GOAWAY.
    rst: dict[int, str] = field(default_factory=dict)
    goaway: str | None = None
    http2: bool = False
    trouble: list[str] = field(default_factory=list)


def judge(row: Row, observed: Observed, record: Record) -> list[str]:
    """Complaints; empty when the row holds."""
    return [*observed.trouble, *_client_side(row, observed), *_upstream_side(row, record)]


def _client_side(row: Row, observed: Observed) -> list[str]:
    found: list[str] = []
    statuses = tuple(m.status for m in observed.final)
    if isinstance(row.expect, str):
        found += _worded(row, observed, statuses)
    elif statuses != row.expect:
        found.append(f"expected {row.expected}, got {statuses or 'nothing'}: {_short(observed)}")
    elif observed.rest and statuses[-1:] != (101,):
        found.append(f"bytes behind the answer: {observed.rest[:200]!r}")
    if row.statuses and statuses == row.expect and statuses[-1] >= 400 and row.code != "":
        last = observed.final[-1]
        code = row.code or CODES.get(last.status)
        if code is not None and last.all("x-pygate-error") != [code]:
            found.append(f"expected x-pygate-error {code}, got {last.all('x-pygate-error')}")
    found.extend(
        f"{text!r} is not in {observed.raw[:400]!r}" for text in row.has if text.encode("latin-1") not in observed.raw
    )
    found.extend(
        f"{text!r} is in {observed.raw[:400]!r}" for text in row.lacks if text.encode("latin-1") in observed.raw
    )
    if row.statuses and not observed.http2:
        if row.stays_open and observed.closed:
            found.append("the connection was closed")
        if not row.stays_open and not observed.closed:
            found.append("the connection was not closed")
    return found


def _worded(row: Row, observed: Observed, statuses: tuple[int, ...]) -> list[str]:
    got = f"got {statuses or 'no answer'}, {_short(observed)}"
    word, _, argument = str(row.expect).partition(" ")
    if word == "closed":
        fine = not observed.raw and observed.closed and not observed.goaway
    elif word == "no" and argument == "answer":
        # An alert of TLS may be among the bytes.
        fine = not statuses and observed.closed and b"HTTP/1" not in observed.raw
    elif word == "gateway" and argument == "error":
        # Before the head went on an error, behind it a cut that nobody can take for an end.
        cut = bool(observed.rst) or (observed.closed and bool(observed.rest)) or observed.goaway is not None
        fine = statuses == (502,) or (not statuses and cut)
    elif word == "silence":
        fine = not observed.raw and not observed.closed
    elif word == "cut":
        fine = not statuses and bool(observed.rest) and observed.closed
    elif word == "goaway":
        fine = observed.goaway is not None and argument in ("", observed.goaway)
    elif word == "rst":
        fine = any(argument in ("", error) for error in observed.rst.values()) and not _succeeded(statuses)
    elif word == "error":
        # Whatever was answered before.
        fine = bool(observed.rst) or observed.goaway not in (None, "NO_ERROR") or observed.closed
    elif word == "refused":
        ended = bool(observed.rst) or observed.goaway not in (None, "NO_ERROR") or observed.closed
        fine = not _succeeded(statuses) and (ended or any(400 <= s for s in statuses))
    else:
        return [f"the table says {row.expect!r}, which means nothing"]
    return [] if fine else [f"expected {row.expect}, {got}"]


def _succeeded(statuses: tuple[int, ...]) -> bool:
    return any(status < 400 for status in statuses)


def _short(observed: Observed) -> str:
    parts = [f"{observed.raw[:300]!r}"]
    if observed.http2:
        parts.insert(0, f"rst={observed.rst} goaway={observed.goaway}")
    return " ".join([*parts, "reset" if observed.reset else "closed" if observed.closed else "open"])


def _upstream_side(row: Row, record: Record) -> list[str]:
    found = [f"the upstream cannot read what it got: {text}" for text in record.malformed]
    messages = [message for _, message in record.requests]
    targets = [f"{m.start[0]} {m.start[1]}" for m in messages]
    if row.upstream != "anything" and len(messages) != row.requests:
        found.append(f"the upstream got {len(messages)} requests instead of {row.requests}: {targets}")
    partial = record.partial()
    if partial and row.upstream not in ("nothing complete", "anything") and not row.statuses[-1:] == (101,):
        found.append(f"the upstream got a part of a request: {partial[:300]!r}")
    if isinstance(row.upstream, tuple):
        for expected, message in zip(row.upstream, messages, strict=False):
            found += _request(expected, message)
    elif any(CANARY in target for target in targets):
        found.append(f"a smuggled request arrived: {targets}")
    if row.reuse is not None:
        conn = record.answered
        if conn is None:
            found.append("the upstream was never asked")
        elif conn.closed == row.reuse:
            found.append("the upstream connection was closed" if row.reuse else "the upstream connection is kept")
    return found


def _request(expected: Seen, message: Message) -> list[str]:
    found: list[str] = []

    def differs(what: str, wanted: object, got: object) -> None:
        if wanted != got:
            found.append(f"upstream {what}: expected {wanted!r}, got {got!r}")

    if expected.method is not None:
        differs("method", expected.method, message.start[0])
    if expected.target is not None:
        differs("target", expected.target, message.target)
    if expected.host is not None:
        differs("host", [expected.host], message.all("host"))
    for name, value in expected.headers.items():
        differs(name, value, " | ".join(message.all(name)))
    for name in expected.lacks:
        # In any spelling that an origin may take for it.
        spelt = [known for known, _ in message.fields if known.lower().replace("_", "-") == name]
        differs(name, [], spelt)
    if expected.body is not None:
        differs("body", expected.body.encode("latin-1"), message.body)
    if expected.trailers is not None:
        differs("trailers", expected.trailers, {k.lower(): v for k, v in message.trailers})
    return found
