"""HTTP/1.1 as the two ends of the test read it: to the letter, and by nothing of pygate's own.

What pygate sends to an upstream or a client must be readable here in exactly one way: whatever this reader refuses is
a failure of the row, whichever side was hostile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.1")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
FIELD = re.compile(
    rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")


class Malformed(Exception):
    """Bytes that can be read in no way, or in more than one."""


@dataclass
class Message:
    """A request or an answer; `start` is (method, target) or (status, reason)."""

    start: tuple[str, str]
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known.lower() == name]

    @property
    def status(self) -> int:
        return int(self.start[0])

    @property
    def target(self) -> str:
        return self.start[1]


def read_request(data: bytes) -> tuple[Message, int] | None:
    """The first request of `data` and its length; None while it is incomplete."""
    head = _head(data, REQUEST_LINE)
    if head is None:
        return None
    message, at = head
    hosts = message.all("host")
    if len(hosts) != 1 or not re.fullmatch(r"[\w.~\-]*(:\d+)?|\[[0-9a-f:.]+\](:\d+)?", hosts[0]):
        raise Malformed(f"Host is {hosts}")
    return _body(message, data, at, none_without_length=True)


def read_answer(data: bytes, to_head: bool, closed: bool) -> tuple[Message, int] | None:
    """The first answer of `data`, interim or final. `closed`: no more bytes will come."""
    head = _head(data, STATUS_LINE)
    if head is None:
        return None
    message, at = head
    if message.status < 200 or message.status in (204, 304) or to_head:
        if message.status < 200 and (message.all("content-length") or message.all("transfer-encoding")):
            raise Malformed("framing in an answer that has no body")
        return message, at
    if not message.all("content-length") and not message.all("transfer-encoding"):
        if message.all("connection") != ["close"]:
            raise Malformed("an answer that ends with the connection and does not say so")
        message.body = data[at:]
        return (message, len(data)) if closed else None
    return _body(message, data, at, none_without_length=False)


def _head(data: bytes, start_line: re.Pattern[bytes]) -> tuple[Message, int] | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    start = start_line.fullmatch(first)
    if not start:
        raise Malformed(f"start line {first!r}")
    return Message((start[1].decode(), start[2].decode("latin-1")), [_field(line) for line in lines]), end + 4


def _field(line: bytes) -> tuple[str, str]:
    found = FIELD.fullmatch(line)
    if not found:
        raise Malformed(f"field line {line!r}")
    return found[1].decode(), found[2].decode("latin-1")


def _body(message: Message, data: bytes, at: int, none_without_length: bool) -> tuple[Message, int] | None:
    lengths, codings = message.all("content-length"), message.all("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Malformed(f"framed twice: {lengths} {codings}")
    if codings:
        if codings != ["chunked"]:
            raise Malformed(f"transfer coding {codings}")
        return _chunked(message, data, at)
    if not lengths:
        return (message, at) if none_without_length else None
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", lengths[0]):
        raise Malformed(f"Content-Length {lengths}")
    end = at + int(lengths[0])
    if len(data) < end:
        return None
    message.body = data[at:end]
    return message, end


def _chunked(message: Message, data: bytes, at: int) -> tuple[Message, int] | None:
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        if not SIZE.fullmatch(data[at:line]):
            raise Malformed(f"chunk size {data[at:line]!r}")
        size, at = int(data[at:line], 16), line + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed("chunk data is not followed by CRLF")
        message.body += data[at : at + size]
        at += size + 2
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        if line == at:
            return message, at + 2
        message.trailers.append(_field(data[at:line]))
        at = line + 2
